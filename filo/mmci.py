"""Multi-shape convolution heads: map ViT patch tokens into CLIP's joint text space (FiLo, section 3.3, eq.
2).
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = ((1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1))


class MultiShapeConv(nn.Module):
    """Sum of parallel convolutions, so that one head sees spots, blobs and thin scratches alike.

    All of them are linear in the same tokens, so they run as the one convolution that their kernels add up
    to; the several kernels stay the parameters.

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

    def forward(self, tokens: Tensor) -> Tensor:
        return _convolve(tokens, *merge_heads([self]))

    def each(self, tokens: Tensor) -> list[Tensor]:
        """Give every branch's output by itself, (B, N, D) each; `forward` is their sum."""
        grid = to_grid(tokens)
        return [from_grid(conv(grid)) for conv in self.branches]


class MultiShapeHeads(nn.ModuleList):
    """Several `MultiShapeConv`; those that see the same tokens run as one convolution.

    While no gradient is wanted the merged kernels are kept, and made anew when a weight has changed.

    Shape:
        taps: one (B, N, C) for each head
        output: one (B, N, D) for each head
    """

    def __init__(self, heads: Iterable[MultiShapeConv]) -> None:
        super().__init__(heads)
        self._kept: dict[tuple[int, ...], tuple[tuple, Tensor, Tensor]] = {}

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        if len(taps) != len(self):
            raise ValueError(f"{len(taps)} taps for {len(self)} heads")
        seen_by: dict[int, list[int]] = {}
        for i, tap in enumerate(taps):
            seen_by.setdefault(id(tap), []).append(i)
        outputs: dict[int, Tensor] = {}
        for heads in seen_by.values():
            together = _convolve(taps[heads[0]], *self._merged(tuple(heads)))
            outputs |= zip(heads, together.chunk(len(heads), dim=-1), strict=True)
        return [outputs[i] for i in range(len(self))]

    def _merged(self, heads: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            self._kept.clear()  # in training they would only take memory
            return merge_heads([self[i] for i in heads])
        state = tuple((p.data_ptr(), p._version) for i in heads for p in self[i].parameters())
        if heads not in self._kept or self._kept[heads][0] != state:
            self._kept[heads] = (state, *merge_heads([self[i] for i in heads]))
        return self._kept[heads][1:]


def merge_heads(heads: Sequence[MultiShapeConv]) -> tuple[Tensor, Tensor]:
    """Give the one kernel (heads * D, C, h, w) and bias (heads * D,) that do what all the heads do."""
    branches = [list(head.branches) for head in heads]
    kernel = _Merge.apply([len(of_head) for of_head in branches], *(b.weight for h in branches for b in h))
    return kernel, torch.cat([torch.stack([conv.bias for conv in h]).sum(0) for h in branches])


class _Merge(torch.autograd.Function):
    """Adds kernels up about their centres in one buffer, which autograd would copy for every kernel."""

    @staticmethod
    def forward(ctx, counts: list[int], *kernels: Tensor) -> Tensor:
        D, C = kernels[0].shape[:2]
        height, width = (max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3))
        merged = kernels[0].new_zeros(len(counts) * D, C, height, width)
        ctx.places = []
        numbers = [head for head, count in enumerate(counts) for _ in range(count)]
        for head, kernel in zip(numbers, kernels, strict=True):
            h, w = kernel.shape[2:]
            top, left = (height - h) // 2, (width - w) // 2
            rows, down, across = slice(head * D, (head + 1) * D), slice(top, top + h), slice(left, left + w)
            ctx.places.append((rows, slice(None), down, across))
            merged[ctx.places[-1]] += kernel
        return merged

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return None, *(grad[place].contiguous() for place in ctx.places)


def _convolve(tokens: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return from_grid(F.conv2d(to_grid(tokens), kernel, bias, padding="same"))


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
