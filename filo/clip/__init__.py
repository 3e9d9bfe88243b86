"""The one CLIP: open_clip's weights, configs and tokenizer behind towers of our own walking."""
