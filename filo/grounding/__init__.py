"""The detector and what its boxes mean (FiLo, section 3.3)."""
