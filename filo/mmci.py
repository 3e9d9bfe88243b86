"""Multi-shape convolution heads: map ViT patch tokens into CLIP's joint text space (FiLo, section 3.3, eq.
2).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = ((1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1))


class MultiShapeConv(nn.Module):
    """Sum of parallel convolutions, so that one head sees spots, blobs and thin scratches alike.

    All of them are linear in the same tokens, so they run as the one convolution that their kernels add up
    to.

    Shape:
        tokens: (B, N, C), N a square number, class token already removed
        output: (B, N, D)
    """

    def __init__(self, c_in: int, c_out: int, shapes: tuple[tuple[int, int], ...] = SHAPES) -> None:
        super().__init__()
        if not shapes or any(side % 2 == 0 for shape in shapes for side in shape):
            raise ValueError(
                f"kernel shapes {shapes}: wanted at least one, with odd sides, so that maps keep their size"
            )
        self.branches = nn.ModuleList(nn.Conv2d(c_in, c_out, shape, padding="same") for shape in shapes)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Give the one kernel (D, C, h, w) and bias (D,) that all branches add up to."""
        height, width = (max(conv.kernel_size[axis] for conv in self.branches) for axis in (0, 1))
        first = self.branches[0].weight
        kernel = first.new_zeros(*first.shape[:2], height, width)
        for conv in self.branches:
            h, w = conv.kernel_size
            top, left = (height - h) // 2, (width - w) // 2
            kernel[:, :, top : top + h, left : left + w] += conv.weight
        return kernel, torch.stack([conv.bias for conv in self.branches]).sum(0)

    def forward(self, tokens: Tensor) -> Tensor:
        grid = to_grid(tokens)
        return from_grid(F.conv2d(grid, *self.merged(), padding="same"))

    def each(self, tokens: Tensor) -> list[Tensor]:
        """Give every branch's output by itself, (B, N, D) each; `forward` is their sum."""
        grid = to_grid(tokens)
        return [from_grid(conv(grid)) for conv in self.branches]


def to_grid(tokens: Tensor) -> Tensor:
    """Lay patch tokens (B, N, C) out as a square image (B, C, G, G)."""
    B, N, C = tokens.shape
    side = math.isqrt(N)
    if side * side != N:
        raise ValueError(f"{N} tokens do not form a square grid; is the class token still there?")
    return tokens.transpose(1, 2).reshape(B, C, side, side)


def from_grid(image: Tensor) -> Tensor:
    """Undo `to_grid`: (B, D, G, G) -> (B, G * G, D)."""
    return image.flatten(2).transpose(1, 2)
