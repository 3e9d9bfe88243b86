"""GEM, a second way to tokens that stay where they are: self-self attention of queries, keys and values
(arXiv 2312.00878, as FADE uses it), for images of any size.

The ordinary stream is CLIP itself. Beside its last blocks runs a stream that only gathers attention of tokens
to their like; as the V-V stream it takes its input from the ordinary one and has no MLP.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filo.clip.attention import attend, feed_forward, project_qkv
from filo.clip.positions import resize_positions
from filo.clip.vision import VisionTower
from filo.errors import InputError

DEPTH = 7  # the published default, by which six blocks have the second stream


class GemFeatures(NamedTuple):
    """All tokens of a batch after `ln_post` and projection, not normalised, class token first.

    Shape:
        gem, clip: (B, 1 + h * w, D)
    """

    gem: Tensor
    clip: Tensor


def gem_features(
    tower: VisionTower,
    images: Tensor,
    depth: int = DEPTH,
    iterations: int = 1,
    temperature: float | None = None,
) -> GemFeatures:
    """Run the tower over images (B, 3, H, W), of any size of at least one patch; what is over is cut off.

    The last `depth - 1` blocks have the second stream. `temperature` is what similarities are multiplied by,
    by default each image's mean norm of its tokens after `ln_1`, over the root of a head's width.

    Raises:
        InputError: an image is smaller than a patch.
    """
    x = embed(tower.visual, images)
    first, gem = len(tower.blocks) - (depth - 1), None
    with torch.autocast(images.device.type, tower.dtype, enabled=tower.dtype != torch.float32):
        for number, block in enumerate(tower.blocks):
            q, k, v = project_qkv(block, x)
            if number >= first:
                gem = x if gem is None else gem
                gem = gem + _attend_to_like(block, x, (q, k, v), iterations, temperature)
            x = feed_forward(block, x + attend(block, q, k, v))
    return GemFeatures(tower.project(x if gem is None else gem), tower.project(x))


def _attend_to_like(
    block: nn.Module, x: Tensor, heads: Sequence[Tensor], iterations: int, temperature: float | None
) -> Tensor:
    """The mean of the three self-self attentions of queries, keys and values, projected: (B, 1 + N, C)."""
    beta, v = temperature, heads[2]
    if beta is None:
        beta = block.ln_1(x).float().norm(dim=-1).mean(1)[:, None, None, None] / v.shape[-1] ** 0.5
    mixed = torch.zeros_like(v)
    for each in heads:
        for _ in range(iterations):
            each = F.normalize(each, dim=-1)
            each = F.scaled_dot_product_attention(beta * each, each, each, scale=1.0)
        each = F.normalize(each, dim=-1)
        mixed = mixed + F.scaled_dot_product_attention(beta * each, each, v, scale=1.0)
    B, H, N, width = v.shape
    return block.attn.out_proj((mixed / 3).transpose(1, 2).reshape(B, N, H * width))


def embed(visual: nn.Module, images: Tensor) -> Tensor:
    """Turn images (B, 3, H, W) into tokens (B, 1 + h * w, C), positions resized to their grid."""
    if min(images.shape[-2:]) < min(visual.patch_size):
        raise InputError(
            f"images of {images.shape[-1]} x {images.shape[-2]} pixels are smaller than a patch of "
            f"{visual.patch_size[0]}: choose a larger size"
        )
    x = visual.conv1(images)  # (B, C, h, w)
    table = resize_positions(visual.positional_embedding, (x.shape[2], x.shape[3]), "antialiased")
    first = visual.class_embedding.expand(len(x), 1, -1)
    return visual.ln_pre(torch.cat([first, x.flatten(2).transpose(1, 2)], dim=1) + table)
