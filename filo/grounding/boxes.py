"""What a detector's boxes mean for FiLo: which count, which position they name, how they weight a map (3.3).

Boxes are (K, 4) arrays. Detectors give them as centre and size relative to the image; everything after
`to_corners` is XYXY in pixels of the resized square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRID = 3  # positions lie on a 3 x 3 grid, row by row, as in prompts/templates.json


@dataclass(frozen=True)
class BoxRules:
    """Where the published program and the paper differ; the defaults are the preset `official`."""

    # as official: a description with a capital never matches, since the caption was lower-cased
    lower_case: bool = False
    # as official: the bins are closed (0-172, 173-344, 345-517), so that a centre between two has no position
    gaps_between_bins: bool = True
    # as official: negative corners are taken for slice bounds, which count from the far side
    wrap_corners: bool = True
    outside_weight: float = 0.7  # the paper gives none


PRESETS = {
    "official": BoxRules(),
    "paper": BoxRules(lower_case=True, gaps_between_bins=False, wrap_corners=False),
}


def to_corners(boxes: np.ndarray, side: int) -> np.ndarray:
    """Turn relative (cx, cy, w, h), (K, 4), into XYXY pixels of a `side` x `side` image, not clipped."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1) * side


def counts(phrase: str, words: Sequence[str], rules: BoxRules) -> bool:
    """Whether a box with this phrase counts: one of `words` is a part of it."""
    if rules.lower_case:
        return any(word.lower() in phrase.lower() for word in words)
    return any(word in phrase for word in words)


def find_position(boxes: np.ndarray, scores: np.ndarray, side: int, rules: BoxRules) -> int | None:
    """Name the grid cell (0-8) that holds the centre of the best box (K, 4); on a tie the later box wins.

    Without a box it is the centre's; None stands for no position, and then all are used.
    """
    if len(boxes) == 0:
        return GRID * GRID // 2
    best = len(scores) - 1 - int(np.argmax(scores[::-1]))
    x1, y1, x2, y2 = boxes[best]
    column, row = (_bin((low + high) / 2, side, rules) for low, high in ((x1, x2), (y1, y2)))
    return None if column is None or row is None else GRID * row + column


def _bin(value: float, side: int, rules: BoxRules) -> int | None:
    if not rules.gaps_between_bins:
        return min(max(int(value * GRID / side), 0), GRID - 1)
    third = side // GRID
    edges = [(0, third), (third + 1, 2 * third), (2 * third + 1, side - 1)]
    return next((i for i, (low, high) in enumerate(edges) if low <= value <= high), None)


def weight_map(anomaly_map: np.ndarray, boxes: np.ndarray, rules: BoxRules) -> np.ndarray:
    """Multiply a map (S, S) by `outside_weight` wherever no box (K, 4) covers it."""
    inside = np.zeros(anomaly_map.shape, dtype=bool)
    for box in boxes:
        x1, y1, x2, y2 = (int(corner) for corner in box)  # towards zero
        if not rules.wrap_corners:
            x1, y1 = max(x1, 0), max(y1, 0)
            x2, y2 = max(x2, 0), max(y2, 0)
        inside[y1:y2, x1:x2] = True
    return np.where(inside, anomaly_map, anomaly_map * np.float32(rules.outside_weight))
