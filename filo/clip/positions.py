"""How position embeddings are brought to another grid of patches."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.errors import InputError

RESIZES = ("bicubic", "bilinear", "antialiased")  # of FiLo, of AnomalyCLIP, of FADE


def resize_positions(table: Tensor, grid: int | tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resize a position table (1 + g * g, C) to a square grid or to (height, width): (1 + height * width, C).

    The class token's row stays, and all of a table that fits. `mode` is one of `RESIZES`. `antialiased` is
    bicubic with antialias, as open_clip's own resize: PyTorch uses another cubic coefficient with it, so it
    gives other numbers even when enlarging.

    Raises:
        InputError: the table is none of a class token and a square grid.
    """
    size = (grid, grid) if isinstance(grid, int) else grid
    g = math.isqrt(max(len(table) - 1, 0))
    if g < 1 or g * g != len(table) - 1:
        raise InputError(f"{len(table)} position embeddings are not one class token and a square grid")
    if size == (g, g):
        return table
    image = table[1:].reshape(1, g, g, -1).permute(0, 3, 1, 2)  # (1, C, g, g)
    kernel = {"mode": "bicubic", "antialias": True} if mode == "antialiased" else {"mode": mode}
    image = F.interpolate(image, size=size, align_corners=False, **kernel)
    return torch.cat([table[:1], image.flatten(2).transpose(1, 2)[0]])
