"""How grids of several image sizes, and language and vision, become one map (FADE, section 3.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from filo.mmci import to_grid

QUIET = 0.99  # share of what is normal that lies below the level by which adaptive fusion weighs


class Weights(NamedTuple):
    """How a class's maps and scores are put together.

    Attributes:
        scales: (n,), of the image sizes, adding up to 1
        vision: of vision against language in maps
        vision_score: the same in image scores
    """

    scales: Tensor
    vision: float
    vision_score: float


def enlarge(grids: Sequence[Tensor], side: int, weights: Tensor | None = None) -> Tensor:
    """Bring grids (B, h, h) to one side and take their mean, or that by weights: (B, side, side)."""
    large = [
        each
        if each.shape[1] == side
        else F.interpolate(each[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
        for each in grids
    ]
    if weights is None:
        return torch.stack(large).mean(0)
    return torch.einsum("nbhw,n->bhw", torch.stack(large), weights.to(large[0]))


def weigh_scales(left_out: Sequence[Sequence[Tensor]]) -> Tensor:
    """Weigh image sizes by what each says of normal images, `left_out` image by image, size by size: (n,).

    Part of this project's own rule of adaptive fusion: what is normal should come out as nothing, so every
    size is taken in units of the level below which 99 % of its values on normal images lie.
    """
    levels = torch.tensor([level([of_image[n] for of_image in left_out]) for n in range(len(left_out[0]))])
    return (1 / levels) / (1 / levels).sum()


def share(vision: float, language: float) -> float:
    """Give the weight of vision against language by the same rule, from their levels on normal images."""
    return language / max(vision + language, 1e-12)


def level(grids: Sequence[Tensor]) -> float:
    """The value below which 99 % of all these lie; never 0, as it is divided by."""
    values = torch.cat([each.flatten() for each in grids]).double().cpu().numpy()
    return max(float(np.quantile(values, QUIET)), 1e-6)


def combine(language: Tensor | None, vision: Tensor | None, mode: str, weight: float) -> Tensor | None:
    """Take one of the two, or both by the weight of vision, in float64; None for the mode none."""
    if mode == "none":
        return None
    if mode == "both":
        return (1 - weight) * language + weight * vision
    return (language if mode == "language" else vision).double()


def stretch(maps: Tensor) -> Tensor:
    """Bring every map (B, G, G) to [0, 1] by its own least and largest value."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def to_square(values: Tensor) -> Tensor:
    """Lay values of patches (B, N) out as (B, h, h)."""
    return to_grid(values[..., None])[:, 0]


def to_eight_bits(maps: Tensor, side: int) -> np.ndarray:
    """Turn maps (B, G, G) in [0, 1] into (B, side, side) uint8, as the published program stores them.

    They are cut to whole steps of 1 / 255 first, then enlarged by OpenCV.
    """
    small = (maps.cpu().numpy() * 255).astype(np.uint8)
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_LINEAR) for each in small])
