"""Which CLIP a set of weights is, by its sizes: a plain ViT of open_clip in open_clip's plain names."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import open_clip
import torch
from torch import Tensor

from filo.clip.build import read_config
from filo.errors import InputError

# what the sizes are read off, and how many dimensions each has
TELLING = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "token_embedding.weight": 2,
    "positional_embedding": 2,
}


class ClipSizes(NamedTuple):
    """The sizes of a plain ViT CLIP; `grid` is the side of its position table."""

    embed_dim: int
    layers: int
    width: int
    patch_size: int
    grid: int
    context_length: int
    vocab_size: int
    text_width: int
    text_layers: int

    @property
    def image_size(self) -> int:
        return self.grid * self.patch_size

    def fits(self, name: str) -> bool:
        """Say whether a model of open_clip has these sizes; the grid does not count, as it is resized."""
        config = read_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        image = (config["embed_dim"], vision["layers"], vision["width"], vision["patch_size"])
        language = (text["context_length"], text["vocab_size"], text["width"], text["layers"])
        return (*image, *language) == (*self[:4], *self[5:])

    def __str__(self) -> str:
        return (
            f"{self.layers} layers of width {self.width}, patches of {self.patch_size}, "
            f"{self.grid} x {self.grid} positions; text {self.text_layers} of {self.text_width}; "
            f"joint {self.embed_dim}"
        )


def read_sizes(weights: Mapping[str, Tensor]) -> ClipSizes:
    """Read the sizes off a CLIP's weights.

    Raises:
        InputError: a tensor that tells them is missing or of another form.
    """
    for name, dimensions in TELLING.items():
        if name not in weights or weights[name].ndim != dimensions or 0 in weights[name].shape:
            found = tuple(weights[name].shape) if name in weights else "none"
            raise InputError(f"no plain ViT of open_clip: {name} has {dimensions} dimensions, found {found}")
    width, _, _, patch = weights["visual.conv1.weight"].shape
    rows = len(weights["visual.positional_embedding"])
    grid = math.isqrt(rows - 1)
    if grid < 1 or grid * grid != rows - 1:
        raise InputError(f"{rows} position embeddings are not one class token and a square grid")
    return ClipSizes(
        embed_dim=weights["visual.proj"].shape[1],
        layers=_count_blocks(weights, "visual.transformer"),
        width=width,
        patch_size=patch,
        grid=grid,
        context_length=len(weights["positional_embedding"]),
        vocab_size=len(weights["token_embedding.weight"]),
        text_width=weights["token_embedding.weight"].shape[1],
        text_layers=_count_blocks(weights, "transformer"),
    )


def _count_blocks(weights: Mapping[str, Tensor], tower: str) -> int:
    pattern = re.compile(rf"{re.escape(tower)}\.resblocks\.(\d+)\.")
    return len({match[1] for name in weights if (match := pattern.match(name))})


def check_complete(weights: Mapping[str, Tensor]) -> ClipSizes:
    """Give the sizes of a CLIP whose tensors are all there, in the shapes these sizes ask for, and no others.

    Raises:
        InputError: one is missing, left over or of another shape; it is named.
    """
    sizes = read_sizes(weights)
    vision = {"image_size": sizes.image_size, "layers": sizes.layers, "width": sizes.width}
    vision |= {"patch_size": sizes.patch_size, "head_width": sizes.width}  # heads do not show in shapes
    text = {"context_length": sizes.context_length, "vocab_size": sizes.vocab_size}
    text |= {"width": sizes.text_width, "layers": sizes.text_layers, "heads": 1}
    with torch.device("meta"):
        model = open_clip.CLIP(sizes.embed_dim, vision_cfg=vision, text_cfg=text)
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    if found.get("logit_scale") == (1,):  # some keep the number in a list of one
        found["logit_scale"] = ()
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise InputError(
            f"no plain ViT of open_clip: {len(wrong)} tensors differ, the first is {wrong[0]} "
            f"(wanted {wanted.get(wrong[0], 'none')}, found {found.get(wrong[0], 'none')})"
        )
    return sizes
