"""Multi-shape convolution heads: map ViT patch tokens into CLIP's joint text space (FiLo, section 3.3, eq.
2).
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

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
        return _convolve_in_training(self, tokens)

    def each(self, tokens: Tensor) -> list[Tensor]:
        """Give every branch's output by itself, (B, N, D) each; `forward` is their sum."""
        grid = to_grid(tokens)
        return [from_grid(conv(grid)) for conv in self.branches]


class MultiShapeHeads(nn.ModuleList):
    """Several `MultiShapeConv`.

    While no gradient is wanted, those that see the same tokens run as one convolution, whose merged kernels
    are kept, and made anew when a weight has changed; it may multiply in another format. In training every
    head is one convolution: it takes as long, and half a gigabyte less at full size.

    Shape:
        taps: one (B, N, C) for each head
        output: one (B, N, D) for each head
    """

    def __init__(self, heads: Iterable[MultiShapeConv]) -> None:
        super().__init__(heads)
        self._kept: dict[tuple[int, ...], tuple[tuple, Tensor, Tensor]] = {}

    def forward(self, taps: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
        if len(taps) != len(self):
            raise ValueError(f"{len(taps)} taps for {len(self)} heads")
        if torch.is_grad_enabled():
            self._kept.clear()
            return [_convolve_in_training(head, tap) for head, tap in zip(self, taps, strict=True)]
        seen_by: dict[int, list[int]] = {}
        for i, tap in enumerate(taps):
            seen_by.setdefault(id(tap), []).append(i)
        outputs: dict[int, Tensor] = {}
        for heads in seen_by.values():
            tokens, (kernel, bias) = taps[heads[0]], self._merged(tuple(heads), dtype)
            together = _convolve(tokens.to(dtype), kernel, bias).to(tokens.dtype)
            outputs |= zip(heads, together.chunk(len(heads), dim=-1), strict=True)
        return [outputs[i] for i in range(len(self))]

    def _merged(self, heads: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        state = (dtype, *((p.data_ptr(), p._version) for i in heads for p in self[i].parameters()))
        if heads not in self._kept or self._kept[heads][0] != state:
            merged = merge_heads([self[i] for i in heads])
            self._kept[heads] = (state, *(each.to(dtype) for each in merged))
        return self._kept[heads][1:]


@torch.no_grad()
def merge_heads(heads: Sequence[MultiShapeConv]) -> tuple[Tensor, Tensor]:
    """Give the one kernel (heads * D, C, h, w) and bias (heads * D,) that do what all the heads do; no
    gradient goes through them.
    """
    return _add_up([[conv.weight for conv in head.branches] for head in heads]), _add_biases(heads)


def _add_biases(heads: Sequence[MultiShapeConv]) -> Tensor:
    return torch.cat([torch.stack([conv.bias for conv in head.branches]).sum(0) for head in heads])


def _add_up(kernels: Sequence[Sequence[Tensor]]) -> Tensor:
    """Add the kernels of each head up about their centres, all in one buffer."""
    D, C = kernels[0][0].shape[:2]
    sides = [max(k.shape[axis] for of_head in kernels for k in of_head) for axis in (2, 3)]
    merged = kernels[0][0].new_empty(len(kernels) * D, C, *sides)
    for rows, of_head in zip(merged.split(D), kernels, strict=True):
        whole = [i for i, kernel in enumerate(of_head) if list(kernel.shape[2:]) == sides][:1]
        for i in whole:  # copied, so that half a gigabyte need not be zeroed first
            rows.copy_(of_head[i])
        if not whole:
            rows.zero_()
        for kernel in (kernel for i, kernel in enumerate(of_head) if i not in whole):
            rows[_centre(kernel, rows)].add_(kernel)  # += would copy the sum onto itself
    return merged


def _centre(kernel: Tensor, merged: Tensor) -> tuple:
    """Where a kernel lies in a merged one."""
    (h, w), (height, width) = kernel.shape[2:], merged.shape[2:]
    top, left = (height - h) // 2, (width - w) // 2
    return slice(None), slice(None), slice(top, top + h), slice(left, left + w)


class _MergedConv(torch.autograd.Function):
    """One head as one convolution. The merged kernel is not kept for the backward pass."""

    @staticmethod
    def forward(ctx, grid: Tensor, bias: Tensor, *kernels: Tensor) -> Tensor:
        ctx.save_for_backward(grid, *kernels)
        return F.conv2d(grid, _add_up([kernels]), bias, padding="same")

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        grid, *kernels = ctx.saved_tensors
        sides = [max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3)]
        padding, grad_grid = [side // 2 for side in sides], None
        if ctx.needs_input_grad[0]:
            grad_grid = conv2d_input(grid.shape, _add_up([kernels]), grad, padding=padding)
        size = (*kernels[0].shape[:2], *sides)
        whole = conv2d_weight(grid, size, grad.contiguous(), padding=padding)
        grads = [whole[_centre(kernel, whole)].contiguous() for kernel in kernels]
        return grad_grid, grad.sum((0, 2, 3)), *grads


def _convolve_in_training(head: MultiShapeConv, tokens: Tensor) -> Tensor:
    kernels = [conv.weight for conv in head.branches]
    return from_grid(_MergedConv.apply(to_grid(tokens), _add_biases([head]), *kernels))


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
