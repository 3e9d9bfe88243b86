"""The plain way to FiLo's numbers, to compare with: every text by itself over the whole context, every kernel
by itself, attention spelled out, scikit-learn and a loop over regions, weights of the frozen CLIP getting
gradients nobody uses. So does the published program, but for its texts, which it encodes together.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from filo.clip.load import CLIP
from filo.clip.text import TextTower
from filo.clip.vision import ImageFeatures
from filo.losses import dice_loss, focal_loss
from filo.methods.filo import MAP_SCALE, TEMPERATURE, FiLoModel
from filo.mmci import MultiShapeConv, from_grid, to_grid


def heads(block: nn.Module, x: Tensor) -> list[Tensor]:
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    B, N, _ = x.shape
    return [part.reshape(B, N, attention.num_heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1)]


def attend(block: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    mixed = scores.softmax(-1) @ v
    return block.attn.out_proj(mixed.transpose(1, 2).flatten(2))


def image_features(clip: CLIP, images: Tensor, taps: Sequence[int]) -> ImageFeatures:
    """As `VisionTower.forward` with the published program's aliased taps."""
    x, vv = clip.vision.visual._embeds(images), None
    ordinary: dict[int, Tensor] = {}
    for depth, block in enumerate(clip.vision.blocks, start=1):
        q, k, v = heads(block, x)
        x = x + attend(block, q, k, v)
        if depth - 1 in ordinary:
            ordinary[depth - 1] = x
        if vv is not None:
            vv = vv + attend(block, v, v, v)
        x = x + block.mlp(block.ln_2(x))
        if depth in taps:
            ordinary[depth] = x
            vv = x if vv is None else vv
    visual = clip.vision.visual
    image = visual.ln_post(x)[:, 0] @ visual.proj
    return ImageFeatures(image, (vv, *(ordinary[tap] for tap in taps[1:])), (vv,) * (len(taps) - 1))


def text_feature(tower: TextTower, text: str, ctx: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
    """Encode one text behind learned vectors (1, n_ctx, T) over the whole context: (1, D); `deep` as in
    `TextTower.forward`.
    """
    n_ctx = ctx.shape[1]
    ids = tower.tokenize([text], n_ctx).to(ctx.device)
    embedded = tower.token_embedding(ids)
    x = torch.cat([embedded[:, :1], ctx, embedded[:, 1 + n_ctx :]], dim=1) + tower.positional_embedding
    mask = torch.full((x.shape[1],) * 2, float("-inf"), device=x.device).triu(1)
    for number, block in enumerate(tower.transformer.resblocks):
        if 0 < number <= len(deep):
            x = torch.cat([x[:, :1], deep[number - 1][None], x[:, 1 + len(deep[number - 1]) :]], dim=1)
        x = x + attend(block, *heads(block, x), mask)
        x = x + block.mlp(block.ln_2(x))
    return tower.ln_final(x)[:, ids[0].argmax()] @ tower.text_projection


def text_pair(model: FiLoModel, image: Tensor, class_name: str) -> Tensor:
    """As `FiLoModel.text_features` of one image (1, D) at all positions: (1, 2, D)."""
    texts, unit = model.encoder.texts[class_name], F.normalize(image, dim=-1)
    pair = []
    for prompt, of_side in ((model.normal_prompt, texts.normal), (model.abnormal_prompt, texts.abnormal)):
        ctx = prompt(unit)
        features = torch.cat([text_feature(model.clip.text, text, ctx) for text in of_side])
        pair.append(F.normalize(F.normalize(features, dim=-1).mean(0), dim=0))
    pair = torch.stack(pair)
    return (pair / pair.norm())[None]


def mmci(heads: Sequence[MultiShapeConv], tokens: Tensor) -> list[Tensor]:
    """Run every kernel of every head by itself, on a view of the tokens as the published program does."""
    B, N, C = tokens.shape
    grid = tokens.view(B, math.isqrt(N), math.isqrt(N), C).permute(0, 3, 1, 2)
    return [from_grid(sum(conv(grid) for conv in head.branches)) for head in heads]


def probability_maps(model: FiLoModel, features: ImageFeatures, pair: Tensor) -> list[Tensor]:
    tokens = [head(tap[:, 1:]) for head, tap in zip(model.linear_heads, features.ordinary, strict=True)]
    tokens += mmci(model.mmci_heads, features.vv[0][:, 1:])
    maps = []
    for each in tokens:
        logits = to_grid(MAP_SCALE * F.normalize(each, dim=-1) @ pair.transpose(1, 2))
        large = F.interpolate(logits, size=model.clip.image_size, mode="bilinear", align_corners=True)
        maps.append(large.softmax(1))
    return maps


@torch.no_grad()
def predict(model: FiLoModel, images: Tensor, class_name: str) -> tuple[Tensor, Tensor]:
    """As `FiLoModel.predict` of one image."""
    features = image_features(model.clip, images, model.config.features_list)
    image = F.normalize(model.adapter(features.image), dim=-1)
    pair = text_pair(model, image, class_name)
    maps = model.anomaly_map(probability_maps(model, features, pair))
    return (image @ pair[0, 1] + maps.amax()) / 2, maps


def local_loss(model: FiLoModel, images: Tensor, class_name: str, mask: Tensor) -> Tensor:
    """As `FiLoModel.local_loss` of one image."""
    with torch.no_grad():
        features = image_features(model.clip, images, model.config.features_list)
    pair = text_pair(model, F.normalize(features.image, dim=-1), class_name)
    t = mask[0].float()
    total = torch.zeros(())
    for p in probability_maps(model, features, pair):
        rows = dice_loss(p[0, 1], t) + dice_loss(p[0, 0], 1 - t)
        total = total + focal_loss(p, mask.float()) + rows
    return total


def global_loss(model: FiLoModel, images: Tensor, class_name: str, label: Tensor) -> Tensor:
    """As `FiLoModel.global_loss` of one image."""
    with torch.no_grad():
        features = image_features(model.clip, images, model.config.features_list)
    image = F.normalize(model.adapter(features.image), dim=-1)
    with torch.no_grad():
        pair = text_pair(model, image, class_name)
    return F.cross_entropy(torch.einsum("bd,bkd->bk", image, pair) / TEMPERATURE, label)


def class_metrics(scores: np.ndarray, labels: np.ndarray, maps: np.ndarray, masks: np.ndarray) -> dict:
    """The published program's metrics, by scikit-learn and a sweep over 200 thresholds with a region loop."""
    result = {}
    for kind, truth, values in (("px", masks.ravel(), maps.ravel()), ("sp", labels, scores)):
        precision, recall, _ = precision_recall_curve(truth, values)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
        result |= {f"auroc_{kind}": roc_auc_score(truth, values), f"f1_{kind}": f1.max()}
        result[f"ap_{kind}"] = average_precision_score(truth, values)
    return result | {"aupro_legacy": _legacy_aupro(maps, masks)}


def _legacy_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    regions = []
    for image, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(image, *np.nonzero(labels == i)) for i in range(1, count)]
    outside, overlap, rates = ~masks, [], []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / 200):
        above = maps > threshold
        overlap.append(np.mean([above[image][rows, columns].mean() for image, rows, columns in regions]))
        rates.append((above & outside).sum() / outside.sum())
    rates, overlap = np.array(rates), np.array(overlap)
    low = rates < 0.3
    rates = rates[low]
    return auc((rates - rates.min()) / (rates.max() - rates.min()), overlap[low])
