"""What a detector's boxes mean for FiLo: which are kept, which count, what they say of place and map (3.3).

`select` turns what the detector says about an image (`Detection`) into the boxes above some thresholds
(`Boxes`); `locate` finds those that speak of an anomaly and the position they name; `map_weights` is what an
anomaly map is multiplied by. Boxes are (K, 4) arrays. Detectors give them as centre and size relative to the
image; everything after `to_corners` is XYXY in pixels of the resized square.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

GRID = 3  # positions lie on a 3 x 3 grid, row by row, as in prompts/templates.json


@dataclass(frozen=True)
class BoxRules:
    """Where the published program and the paper differ; the defaults are the preset `official`.

    The paper gives no factor for what lies outside the boxes; the program's serves both.
    """

    # as official: a description with a capital never matches, since the caption was lower-cased
    lower_case: bool = False
    # as official: scores are compared as the program writes them, cut to two decimals, so that ties arise
    cut_scores: bool = True
    # as official: a box that does not count stays in relative units, so that one as wide and high as the
    # image protects the first pixel
    rejected_unscaled: bool = True
    # as official: the bins are closed (0-172, 173-344, 345-517), so that a centre between two has no position
    gaps_between_bins: bool = True
    # as official: negative corners are taken for slice bounds, which count from the far side
    wrap_corners: bool = True
    # as official: the image score takes the map's maximum before the map is weighted; in the paper after
    peak_before_weighting: bool = True
    outside_weight: float = 0.7  # 1: maps stay as they are
    name_position: bool = True  # False: the texts of all positions are used whatever the boxes say


PRESETS = {
    "official": BoxRules(),
    "paper": BoxRules(
        lower_case=True,
        cut_scores=False,
        rejected_unscaled=False,
        gaps_between_bins=False,
        wrap_corners=False,
        peak_before_weighting=False,
    ),
}


@dataclass(frozen=True)
class Thresholds:
    """Which boxes are kept, and which words of the caption belong to a box."""

    box: float = 0.25  # a box's best token probability lies above
    text: float = 0.25  # a token belongs to the box's phrase if its probability lies above
    area: float = 0.7  # a box's share of the image lies below


class Detection(NamedTuple):
    """What the detector says about one image and its caption before any threshold: Q boxes, T tokens.

    Shape:
        boxes: (Q, 4), centre x, centre y, width, height in [0, 1]
        probabilities: (Q, T) in [0, 1], that a box shows what a token of the caption names
        tokens: T word pieces, `##` marking those that go on with a word
    """

    boxes: np.ndarray
    probabilities: np.ndarray
    tokens: tuple[str, ...]


class Boxes(NamedTuple):
    """The boxes kept of one image: centre and size in [0, 1] (K, 4), scores (K,), their K phrases."""

    boxes: np.ndarray
    scores: np.ndarray
    phrases: tuple[str, ...]


def select(detection: Detection, thresholds: Thresholds) -> Boxes:
    """Keep what is likely and not too large; if that is nothing, the one most likely box of all."""
    scores = detection.probabilities.max(axis=1)
    area = detection.boxes[:, 2] * detection.boxes[:, 3]
    kept = np.flatnonzero((scores > thresholds.box) & (area < thresholds.area))
    if len(kept) == 0:
        kept = np.argmax(scores)[None]
    named = detection.probabilities[kept] > thresholds.text
    phrases = tuple(
        join_tokens([token for token, is_named in zip(detection.tokens, row, strict=True) if is_named])
        for row in named
    )
    return Boxes(detection.boxes[kept], scores[kept], phrases)


def join_tokens(tokens: Sequence[str]) -> str:
    """Put word pieces together as BERT's tokenizer does, blanks before punctuation removed."""
    text = " ".join(tokens).replace(" ##", "")
    text = re.sub(r" ([.?!,])", r"\1", text)
    text = text.replace(" ' ", "'")
    return re.sub(r" (n't|'m|'s|'ve|'re)", r"\1", text)


def counts(phrase: str, words: Sequence[str], rules: BoxRules) -> bool:
    """Whether a box with this phrase counts: one of `words` is a part of it."""
    if rules.lower_case:
        return any(word.lower() in phrase.lower() for word in words)
    return any(word in phrase for word in words)


def locate(boxes: Boxes, words: Sequence[str], side: int, rules: BoxRules) -> tuple[np.ndarray, int | None]:
    """Give the corners (K, 4) of what protects the map, and the position that the boxes that count name (see
    `find_position`).
    """
    counting = np.array([counts(phrase, words, rules) for phrase in boxes.phrases], dtype=bool)
    corners = to_corners(boxes.boxes[counting], side)
    scores = cut(boxes.scores[counting]) if rules.cut_scores else boxes.scores[counting]
    position = find_position(corners, scores, side, rules)
    if rules.rejected_unscaled:
        corners = np.concatenate([corners, boxes.boxes[~counting]])
    return corners, position


def cut(scores: np.ndarray) -> np.ndarray:
    """Cut scores to two decimals, as the published program writes them into phrases."""
    hundredths = scores.astype(np.float64) * 100
    return np.floor(hundredths + 1e-9) / 100  # so that a score that is cut already stays as it is


def to_corners(boxes: np.ndarray, side: int) -> np.ndarray:
    """Turn relative (cx, cy, w, h), (K, 4), into XYXY pixels of a `side` x `side` image, not clipped.

    Step by step as the published program, since corners are cut to whole pixels afterwards.
    """
    scaled = boxes * np.asarray(side, dtype=boxes.dtype)
    low = scaled[:, :2] - scaled[:, 2:] / 2
    return np.concatenate([low, scaled[:, 2:] + low], axis=1)


def find_position(corners: np.ndarray, scores: np.ndarray, side: int, rules: BoxRules) -> int | None:
    """Name the grid cell (0-8) that holds the centre of the best box (K, 4); on a tie the later box wins.

    Without a box it is the centre's; None stands for no position, and then all are used.
    """
    if not rules.name_position:
        return None
    if len(corners) == 0:
        return GRID * GRID // 2
    best = len(scores) - 1 - int(np.argmax(scores[::-1]))
    x1, y1, x2, y2 = corners[best]
    column, row = (_bin((low + high) / 2, side, rules) for low, high in ((x1, x2), (y1, y2)))
    return None if column is None or row is None else GRID * row + column


def cell_of(pixel: int, side: int) -> int:
    """Name the grid cell (0-8) that holds a pixel of a `side` x `side` image, counted row by row."""
    row, column = divmod(pixel, side)
    return GRID * (row * GRID // side) + column * GRID // side


def _bin(value: float, side: int, rules: BoxRules) -> int | None:
    if not rules.gaps_between_bins:
        return min(max(int(value * GRID / side), 0), GRID - 1)
    third = side // GRID
    edges = [(0, third), (third + 1, 2 * third), (2 * third + 1, side - 1)]
    return next((i for i, (low, high) in enumerate(edges) if low <= value <= high), None)


def map_weights(corners: np.ndarray, side: int, rules: BoxRules) -> np.ndarray:
    """Give an anomaly map's factors (S, S): 1 inside any of the boxes (K, 4), `outside_weight` elsewhere.

    Corners are cut towards zero to whole pixels.
    """
    weights = np.full((side, side), rules.outside_weight, dtype=np.float32)
    for box in corners:
        x1, y1, x2, y2 = (int(corner) for corner in box)
        if not rules.wrap_corners:
            x1, y1, x2, y2 = (max(corner, 0) for corner in (x1, y1, x2, y2))
        weights[y1:y2, x1:x2] = 1
    return weights
