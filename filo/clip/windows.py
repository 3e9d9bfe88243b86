"""What the image tower says of windows: small squares of patches, each by itself (WinCLIP, section 4.2)."""

import torch
from torch import Tensor

from filo.clip.attention import attend, feed_forward, project_qkv
from filo.clip.vision import VisionTower

AT_ONCE = 4096  # tokens in one call, of as many windows as have them; more only takes more memory


def window_patches(height: int, width: int, side: int) -> Tensor:
    """Give the patches of every window of `side` x `side` in a grid, step one: (W, side * side), from 0.

    Windows stand row by row, the patches in each as well.
    """
    offsets = torch.arange(side)
    rows = torch.arange(height - side + 1)[:, None, None, None] + offsets[:, None]
    columns = torch.arange(width - side + 1)[:, None, None] + offsets
    return (rows * width + columns).flatten(2).flatten(0, 1)


def embed_windows(tower: VisionTower, images: Tensor, patches: Tensor) -> Tensor:
    """Encode every window of every image: (B, W, D), not normalised.

    A window's tokens are the class token and its patches, with the positions they have in the whole image;
    what lies outside is dropped, which is what masking it in all attention comes to.

    Shape:
        images: (B, 3, S, S)
        patches: (W, K), as `window_patches` gives them
    """
    x = tower.visual._embeds(images)  # (B, 1 + N, C)
    (B, T, C), (W, K) = x.shape, patches.shape
    index = torch.cat([torch.zeros(W, 1, dtype=torch.long), patches + 1], dim=1)  # (W, 1 + K)
    index = (index + T * torch.arange(B)[:, None, None]).flatten(0, 1).to(x.device)  # of all images' tokens
    parts, flat = index.split(max(1, AT_ONCE // (1 + K))), x.reshape(B * T, C)
    with torch.autocast(x.device.type, tower.dtype, enabled=tower.dtype != torch.float32):
        tokens = [_class_token(tower, flat[part]) for part in parts]
    return tower.project(torch.cat(tokens)).view(B, W, -1)


def _class_token(tower: VisionTower, x: Tensor) -> Tensor:
    *before, last = tower.blocks
    for block in before:
        x = x + attend(block, *project_qkv(block, x))
        x = feed_forward(block, x)
    x = x + attend(last, *project_qkv(last, x))
    return feed_forward(last, x[:, 0])  # nobody asks for what the last block makes of the patches
