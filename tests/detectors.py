"""A small Grounding DINO for tests: real code, few layers, weights drawn by name, a vocabulary of its own."""

import json
import re
import string
import zlib

import torch

from filo.grounding.config import default_config, read_config

WORDS = ["anomaly", "damage", "broken", "defect", "contamination", "bent", "pin", "scratch", "surface"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = {"enc_layers": 1, "dec_layers": 2, "dim_feedforward": 64, "num_queries": 20}


def write_vocabulary(folder):
    """Make a folder for `--bert`: vocab.txt that spells every word, config.json with small sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".?!,'-", *letters, *(f"##{c}" for c in letters)]
    words += [word for word in WORDS if word not in words] + ["##ed", "##es"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "config.json").write_text(json.dumps({"vocab_size": len(words), **SIZES}))
    return folder


def write_config(path, **changes):
    """Write SwinT-OGC's config with fewer layers."""
    settings = {**read_config(default_config()), **SMALL, **changes}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return path


def draw(state):
    """Draw every tensor by its own name, so that answers differ from box to box and word to word."""
    drawn = {}
    for name, tensor in state.items():
        own = re.sub(r"(transformer\.decoder\.)?bbox_embed\.\d+", "bbox_embed", name)  # one head, many names
        r = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(own.encode())))
        if not tensor.is_floating_point():
            drawn[name] = tensor.clone()
        elif "norm" in own and own.endswith("weight"):
            drawn[name] = 1 + 0.1 * r
        elif tensor.ndim >= 2 and "embeddings" not in own:
            drawn[name] = r / tensor[0].numel() ** 0.5
        else:
            drawn[name] = 0.1 * r
        if "bbox_embed" in own:
            drawn[name] *= 0.3  # otherwise every box is the whole image
        if own.startswith("transformer.decoder.norm"):
            drawn[name] = 0.1 * r  # otherwise every probability is 0 or 1
    return drawn
