"""The plain way to WinCLIP's numbers, to compare with: every window goes through the tower by itself,
attention spelled out, and every patch looks for its windows.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.bench import plain_memory
from filo.bench.plain import attend, heads
from filo.clip.windows import window_patches
from filo.methods.winclip import SIDES, TEMPERATURE, WinCLIPModel


def run_blocks(model: WinCLIPModel, x: Tensor) -> Tensor:
    """Take tokens (B, T, C) through all blocks."""
    for block in model.clip.vision.blocks:
        x = x + attend(block, *heads(block, x))
        x = x + block.mlp(block.ln_2(x))
    return x


def embed(model: WinCLIPModel, x: Tensor) -> Tensor:
    """Project the class token of tokens (B, T, C) that have gone through: (B, D)."""
    return model.clip.vision.visual.ln_post(x[:, 0]) @ model.clip.vision.visual.proj


def harmonic_mean(values: Tensor, patches: Tensor, grid: int) -> Tensor:
    """As `filo.methods.winclip.spread` of values (W,): (G, G)."""
    found = []
    for patch in range(grid**2):
        over = values[(patches == patch).any(1).to(values.device)].double()
        found.append(len(over) / (1 / over).sum())
    return torch.stack(found).view(grid, grid)


@torch.no_grad()
def predict(model: WinCLIPModel, images: Tensor, class_name: str) -> tuple[Tensor, Tensor]:
    """As `WinCLIPModel.predict` of one image: scores and maps."""
    first = model.clip.vision.visual._embeds(images)
    whole = run_blocks(model, first)
    side = model.clip.image_size
    grid = side // model.clip.patch_size
    patches = {name: window_patches(grid, grid, width) for name, width in SIDES.items()}
    windows = {}
    for name, each in patches.items():
        parts = [first[:, [0, *(window + 1).tolist()]] for window in each]
        windows[name] = torch.cat([embed(model, run_blocks(model, part)) for part in parts])
    texts = F.normalize(model.text_pair(class_name), dim=-1)

    def compare(features: Tensor) -> Tensor:
        return (F.normalize(features, dim=-1) @ texts.T / TEMPERATURE).softmax(-1)[:, 1]

    score = compare(embed(model, whole))
    parts = [harmonic_mean(compare(windows[name]), patches[name], grid) for name in SIDES]
    found = 3 / (sum(1 / part for part in parts) + 1 / score.double())
    if class_name in model.memory:
        kept = model.memory[class_name]
        far = {name: plain_memory.nearest(windows[name], kept[name]) for name in SIDES}
        vision = sum(harmonic_mean(far[name], patches[name], grid) for name in SIDES)
        vision = (vision + plain_memory.nearest(whole[0, 1:], kept["patch"]).view(grid, grid)) / 3
        found, score = found + vision, (score + vision.max()) / 2
    return score, F.interpolate(found.float()[None, None], side, mode="bilinear", align_corners=False)[0]
