"""The plain way to AnomalyCLIP's numbers, to compare with: attention spelled out, both texts by themselves
over the whole context, SciPy's Gaussian, the image tower in every epoch. So does the published program.
"""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from filo.bench.plain import attend, heads, text_feature
from filo.losses import dice_loss, focal_loss
from filo.methods.anomalyclip import DUAL_BLOCKS, MAP_WEIGHT, TEMPERATURE, AnomalyCLIPModel


@torch.no_grad()
def image_features(model: AnomalyCLIPModel, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The global feature (B, D) and the patch tokens of each tap (B, N, D)."""
    visual, blocks = model.clip.vision.visual, model.clip.vision.blocks
    start = max(len(blocks) - DUAL_BLOCKS, 0)
    x, vv, taps = visual._embeds(images), None, []
    for depth, block in enumerate(blocks, start=1):
        vv = x if depth == start + 1 else vv
        q, k, v = heads(block, x)
        x = x + attend(block, q, k, v)
        vv = vv if vv is None else vv + attend(block, v, v, v)
        x = x + block.mlp(block.ln_2(x))
        if depth in model.taps:
            taps.append(visual.ln_post(x if vv is None else vv)[:, 1:] @ visual.proj)
    return x[:, 0] @ visual.proj, taps


def text_features(model: AnomalyCLIPModel) -> Tensor:
    """Both texts, (2, D), L2-normalised."""
    tower, deep = model.clip.text, model.compound_prompts_text
    sides = ((model.ctx_pos, model.config.normal), (model.ctx_neg, model.config.abnormal))
    rows = [text_feature(tower, words, ctx[0], deep) for ctx, words in sides]
    return F.normalize(torch.cat(rows), dim=-1)


def _maps(model: AnomalyCLIPModel, taps: list[Tensor], text: Tensor) -> list[Tensor]:
    maps = []
    for tap in taps:
        alike = (F.normalize(tap, dim=-1) @ text.T / TEMPERATURE).softmax(-1)
        side = math.isqrt(alike.shape[1])
        grid = alike.permute(0, 2, 1).reshape(len(alike), 2, side, side)
        maps.append(F.interpolate(grid, model.clip.image_size, mode="bilinear", align_corners=False))
    return maps


@torch.no_grad()
def predict(model: AnomalyCLIPModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """As `AnomalyCLIPModel.predict`: scores and maps."""
    image, taps = image_features(model, images)
    text = text_features(model)
    total = sum((each[:, 1] + 1 - each[:, 0]) / 2 for each in _maps(model, taps, text))
    smoothed = [gaussian_filter(each.cpu().numpy(), model.config.sigma) for each in total]
    scores = (F.normalize(image, dim=-1) @ text.T / TEMPERATURE).softmax(-1)[:, 1]
    return scores, torch.from_numpy(np.stack(smoothed))


def loss(model: AnomalyCLIPModel, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """As the sum of `AnomalyCLIPModel.loss`."""
    image, taps = image_features(model, images)
    text, t = text_features(model), masks.float()
    total = F.cross_entropy(F.normalize(image, dim=-1) @ text.T / TEMPERATURE, labels)
    for p in _maps(model, taps, text):
        total = total + MAP_WEIGHT * (focal_loss(p, t) + dice_loss(p[:, 1], t) + dice_loss(p[:, 0], 1 - t))
    return total
