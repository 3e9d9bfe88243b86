"""The plain way to FADE's numbers, to compare with: every similarity of tokens to their like, of patches to
texts and of patches to the memory is a whole matrix.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filo.bench import plain_memory
from filo.bench.plain import attend, heads
from filo.clip import gem
from filo.clip.load import CLIP
from filo.methods.fade import FADEModel
from filo.mmci import to_grid
from filo.text_models import SCALE


class Texts(NamedTuple):
    """Embeddings (n, D) in float64, and which of them are abnormal, (n,)."""

    embeddings: Tensor
    is_abnormal: Tensor


def embed(model: FADEModel, prompts: Sequence[tuple[str, int]]) -> Texts:
    """Encode prompts with their labels."""
    embeddings = model.embed_texts([text for text, _ in prompts])
    return Texts(embeddings, torch.tensor([bool(label) for _, label in prompts], device=embeddings.device))


def look(clip: CLIP, images: Tensor) -> dict[str, Tensor]:
    """As `FADEModel.look` at one size: all tokens (B, 1 + N, D) of both streams."""
    blocks, to_like = clip.vision.blocks, None
    x = gem.embed(clip.vision.visual, images)
    for number, block in enumerate(blocks):
        qkv = heads(block, x)
        if number > len(blocks) - gem.DEPTH:
            to_like = (x if to_like is None else to_like) + _attend_to_like(block, x, qkv)
        x = x + attend(block, *qkv)
        x = x + block.mlp(block.ln_2(x))
    visual = clip.vision.visual
    streams = {"gem": to_like, "clip": x}
    return {name: F.normalize(visual.ln_post(each) @ visual.proj, dim=-1) for name, each in streams.items()}


def _attend_to_like(block: nn.Module, x: Tensor, qkv: Sequence[Tensor]) -> Tensor:
    B, N, C = x.shape
    v = qkv[2]
    beta = block.ln_1(x).norm(dim=-1).mean(1).view(B, 1, 1, 1) / v.shape[-1] ** 0.5
    total = torch.zeros_like(v)
    for each in qkv:
        unit = F.normalize(each, dim=-1)
        unit = F.normalize((beta * unit @ unit.transpose(-1, -2)).softmax(-1) @ unit, dim=-1)
        total = total + (beta * unit @ unit.transpose(-1, -2)).softmax(-1) @ v
    return block.attn.out_proj((total / 3).transpose(1, 2).reshape(B, N, C))


def compare(tokens: Tensor, texts: Texts) -> Tensor:
    """The probability of an anomaly by the mean similarity to all texts of a side: (B, N) of (B, N, D)."""
    alike = SCALE * tokens.double() @ texts.embeddings.T  # (B, N, n)
    sides = [alike[..., ~texts.is_abnormal].mean(-1), alike[..., texts.is_abnormal].mean(-1)]
    return torch.stack(sides, dim=-1).softmax(-1)[..., 1]


@torch.no_grad()
def predict(
    model: FADEModel, images: Mapping[int, Tensor], class_name: str, of_images: Texts, of_patches: Texts
) -> tuple[Tensor, Tensor]:
    """As `FADEModel.answer_floats` of one image, by language alone or, with references, by both."""
    config, sides = model.config, model.config.segmentation_img_sizes
    seen = {side: look(model.clip, images[side]) for side in model.sides}
    token = seen[config.classification_img_size][config.language_classification_feature][:, :1]
    score = compare(token, of_images)[:, 0]
    patches = [seen[side][config.language_segmentation_feature][:, 1:] for side in sides]
    language = _mean(model, [compare(each, of_patches) for each in patches])
    if not config.needs_vision:
        return score, language
    banks, patches = (
        model.memory[class_name].banks,
        [seen[side][config.vision_feature][:, 1:] for side in sides],
    )
    far = [
        plain_memory.nearest(each[0], banks[side])[None] for each, side in zip(patches, sides, strict=True)
    ]
    vision = config.vision_segmentation_multiplier * _mean(model, far)
    weight = config.vision_segmentation_weight
    return ((score + vision.amax()) / 2).clamp(0, 1), ((1 - weight) * language + weight * vision).clamp(0, 1)


def _mean(model: FADEModel, values: Sequence[Tensor]) -> Tensor:
    """The mean over the sizes of values of patches (B, N) on the largest grid: (B, G, G)."""
    grids = [to_grid(each[..., None]) for each in values]  # (B, 1, h, h)
    large = [F.interpolate(each, (model.grid, model.grid), mode="bilinear") for each in grids]
    return torch.cat(large, dim=1).mean(1)
