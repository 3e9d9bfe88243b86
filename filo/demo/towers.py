"""The small CLIP in training: open_clip's model, walked so that bfloat16 is fast on a CPU."""

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filo.clip.attention import feed_forward, project_qkv
from filo.clip.positions import resize_positions

WAVES = 0.5  # how strong, beside what patches look like
ALIKE = 0.7  # of the product of queries' and keys' weights: that of the unit matrix, and of what is random
AGAINST = 0.4  # the same of values and output, where the unit matrix is taken off


def build(config: dict, side: int, vocabulary: int) -> nn.Module:
    """Draw open_clip's model of a config, its token table cut to `vocabulary` rows."""
    vision = {**config["vision_cfg"], "image_size": side}
    text = {**config["text_cfg"], "vocab_size": vocabulary}
    model = open_clip.CLIP(config["embed_dim"], vision_cfg=vision, text_cfg=text)
    with torch.no_grad():
        positions = model.visual.positional_embedding
        positions[1:] = WAVES * waves(model.visual.grid_size[0], positions.shape[1])
        for block in model.visual.transformer.resblocks:
            look_alike(block.attn)
    return model


def look_alike(attention: nn.MultiheadAttention) -> None:
    """Let attention begin with looking for patches that look alike and lie near, and with taking off what
    they have in common. Trained towers are found to do so; it shortens training from nothing.

    Source: "Mimetic initialization of self-attention layers" (arXiv 2305.09828), section 4; each head takes
    some of the singular vectors at random, where the paper takes the strongest.
    """
    C, k = attention.embed_dim, attention.head_dim
    queries, keys, values = attention.in_proj_weight.split(C)  # (C, C) each
    for head in range(attention.num_heads):
        of_head, picked = slice(head * k, (head + 1) * k), torch.randperm(C)[:k]
        left, strengths, right = torch.linalg.svd(ALIKE * (torch.eye(C) + _noise(C)))
        queries[of_head] = strengths[picked, None].sqrt() * left.T[picked]
        keys[of_head] = strengths[picked, None].sqrt() * right[picked]
    left, strengths, right = torch.linalg.svd(AGAINST * (_noise(C) - torch.eye(C)))
    attention.out_proj.weight.copy_(left * strengths.sqrt())
    values.copy_(strengths[:, None].sqrt() * right)


def _noise(width: int) -> Tensor:
    return torch.randn(width, width) / width**0.5


def waves(grid: int, width: int) -> Tensor:
    """Give sines and cosines of rows and columns, (grid * grid, width): what patches begin to know of their
    places, which they would else have to learn first.
    """
    pace = 100 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * pace
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    rows, columns = line[:, None].expand(grid, grid, -1), line.expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def encode_images(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Give features (B, D) and, in the same space, patch tokens (B, N, D) of square images of any size."""
    grid, table = images.shape[-1] // visual.patch_size[0], visual.positional_embedding
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, N, C)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x.float()], dim=1)
    x = walk(visual.transformer.resblocks, visual.ln_pre(x + resize_positions(table, grid)), causal=False)
    pooled, patches = visual._pool(x)
    return pooled @ visual.proj, patches @ visual.proj


def encode_texts(model: nn.Module, rows: Tensor) -> Tensor:
    """Give features (K, D) of token rows (K, L), cut after the longest text."""
    x = model.token_embedding(rows) + model.positional_embedding[: rows.shape[1]]
    x = walk(model.transformer.resblocks, x, causal=True)
    ends = rows.argmax(1)  # the end token has the highest number
    return model.ln_final(x[torch.arange(len(x), device=x.device), ends]) @ model.text_projection


def walk(blocks: nn.ModuleList, x: Tensor, causal: bool) -> Tensor:
    """Go through the blocks (B, N, C). Only attention keeps float32: on CPUs its bf16 form is far slower."""
    B, N, C = x.shape
    for block in blocks:
        q, k, v = project_qkv(block, x)
        with torch.autocast(x.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=causal)
        x = feed_forward(block, x + block.attn.out_proj(mixed.transpose(1, 2).reshape(B, N, C)))
    return x
