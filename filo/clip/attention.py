"""How one open_clip residual block is walked from the outside, with ordinary or V-V attention."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def project_qkv(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give queries, keys and values of a block for its input `x` (B, N, C), each (B, heads, N, C / heads)."""
    B, N, C = x.shape
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    heads = qkv.view(B, N, 3, attention.num_heads, C // attention.num_heads).permute(2, 0, 3, 1, 4)
    return heads[0], heads[1], heads[2]


def attend(block: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with the given heads (B, heads, N, d) and project back by the block's own weights: (B, N, C).

    `mask` is boolean and broadcasts to (B, heads, N, N); True takes part. V-V attention is `attend(block,
    v, v, v)`.
    """
    B, heads, N, width = v.shape
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).reshape(B, N, heads * width)))


def feed_forward(block: nn.Module, x: Tensor) -> Tensor:
    """The block's second half with its residual: (B, N, C) -> (B, N, C)."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def set_dtype(blocks: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Let blocks multiply in `dtype`, under autocast; the streams they add to stay in float32."""
    for block in blocks:
        attention = block.attn
        parameters = [attention.in_proj_weight, attention.in_proj_bias, *attention.out_proj.parameters()]
        for parameter in [*parameters, *block.mlp.parameters()]:
            parameter.data = parameter.data.to(dtype)


def unsupported_blocks(blocks: Iterable[nn.Module]) -> set[str]:
    """Name the attention classes among the blocks whose parameters `project_qkv` does not know."""
    kinds = (block.attn for block in blocks)
    return {
        type(kind).__name__
        for kind in kinds
        if not isinstance(kind, nn.MultiheadAttention) or kind.in_proj_weight is None
    }
