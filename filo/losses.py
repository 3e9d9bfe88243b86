"""Segmentation losses on probabilities: focal and two forms of Dice (FiLo, eq. 7 and 8)."""

import torch
from torch import Tensor

SMOOTH = 1e-5


def focal_loss(probabilities: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean focal loss over all pixels (eq. 7).

    Shape:
        probabilities: (B, 2, H, W), normal first, adding up to 1 over the channel
        target: (B, H, W), 0 normal, 1 anomalous
    """
    if probabilities.shape != (len(target), 2, *target.shape[1:]):
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} do not fit a target {tuple(target.shape)}"
        )
    target = target.to(probabilities.dtype)
    one_hot = torch.stack([1 - target, target], dim=1).clamp(SMOOTH, 1 - SMOOTH)
    right = (one_hot * probabilities).sum(1) + SMOOTH  # as official: smoothed twice
    return -((1 - right) ** gamma * right.log()).mean()


def dice_loss(probabilities: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Mean over the first axis of `1 - (2 sum pt + 1) / (sum p + sum t + 1)`; both (B, ...) of one shape."""
    p, t = _flat(probabilities, target)
    overlap = 2 * (p * t).sum(1) + smooth
    return (1 - overlap / (p.sum(1) + t.sum(1) + smooth)).mean()


def squared_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Mean over the first axis of `-sum pt / (sum p^2 + sum t^2)`, as eq. 8 prints it; both (B, ...)."""
    p, t = _flat(probabilities, target)
    return -((p * t).sum(1) / (p.square().sum(1) + t.square().sum(1)).clamp_min(SMOOTH)).mean()


def _flat(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if probabilities.shape != target.shape:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} do not fit a target {tuple(target.shape)}"
        )
    return probabilities.flatten(1), target.to(probabilities.dtype).flatten(1)
