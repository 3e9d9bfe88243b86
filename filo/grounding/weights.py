"""What kind of detector a set of tensors belongs to, by their names."""

from collections.abc import Iterable
from typing import Literal

# a few names that every Grounding DINO has in the original form, and MMDetection's names for the same
MARKS = {
    "original": ("feat_map.weight", "transformer.level_embed", "transformer.enc_output.weight"),
    "mmdetection": ("text_feat_map.weight", "level_embed", "memory_trans_fc.weight"),
}


def find_form(names: Iterable[str]) -> Literal["original", "mmdetection"] | None:
    """Say whose names a Grounding DINO's tensors have; None if they belong to something else."""
    names = set(names)
    return next((form for form, marks in MARKS.items() if names.issuperset(marks)), None)
