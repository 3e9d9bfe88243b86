"""What the ROC, PR and PRO curves of one class look like, in a few points each.

`filo.metrics` computes the areas exactly, from one sort. Here pixels are counted into some thousand levels,
which need next to no memory and put the areas within 1e-3 of the exact ones: the levels are quantiles of
normal and of anomalous pixels, so no step of a curve is long, however skewed the values are.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from filo.metrics import FPR_LIMIT

POINTS = 200  # of a curve, at most; more cannot be told apart on a page
LEVELS = 4096  # for normal and for anomalous pixels each
SAMPLE = 1 << 18  # pixels of either sort that the levels are chosen from

Points = list[list[float]]


def class_curves(
    scores: np.ndarray, labels: np.ndarray, maps: np.ndarray | None = None, masks: np.ndarray | None = None
) -> dict[str, dict[str, Points] | None]:
    """Give the curves of one class, fit for JSON: `image` and `pixel`, None where a curve is undefined.

    A curve is [x values, y values]: `roc` false-positive rate and recall, `pr` recall and precision, `pro`
    (of pixels alone) false-positive rate up to 0.3 and mean overlap with the regions, whose area over 0.3 is
    `aupro`. `pr` has the steps whose area is the average precision.

    Args:
        scores: (n,), higher is more anomalous
        labels: (n,), 0 or 1
        maps: (n, H, W) floats or unsigned integers
        masks: (n, H, W) bool; a region is an 8-connected component within one image
    """
    pixel = None if maps is None else _pixel_curves(np.asarray(maps), np.asarray(masks))
    return {"image": _image_curves(np.asarray(scores), np.asarray(labels, bool)), "pixel": pixel}


def _image_curves(scores: np.ndarray, labels: np.ndarray) -> dict[str, Points] | None:
    if labels.all() or not labels.any():
        return None
    values, level = np.unique(scores, return_inverse=True)
    normal, anomalous = (np.bincount(level[chosen], minlength=len(values)) for chosen in (~labels, labels))
    return _rank(normal, anomalous)


def _pixel_curves(maps: np.ndarray, masks: np.ndarray) -> dict[str, Points] | None:
    total = sum(map(np.count_nonzero, masks))
    if total in (0, masks.size):
        return None
    levels = _choose_levels(maps, masks, total)
    normal, anomalous, shares = np.zeros((3, len(levels)))
    regions = 0
    for found, mask, sizes in _count(maps, masks, levels):
        normal += np.bincount(found[~mask], minlength=len(levels))
        anomalous += np.bincount(found[mask], minlength=len(levels))
        shares += np.bincount(found[mask], 1 / sizes, minlength=len(levels))
        regions += round((1 / sizes).sum())
    return _rank(normal, anomalous) | {"pro": _overlap(normal, shares / regions)}


def _count(
    maps: np.ndarray, masks: np.ndarray, levels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each image: level of every pixel, flat mask, size of the region of every anomalous pixel."""
    for values, mask in zip(maps, masks, strict=True):
        _, region, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        found = np.searchsorted(levels, values.ravel(), side="right") - 1
        yield found.clip(0), mask.ravel(), stats[region[mask], cv2.CC_STAT_AREA]


def _choose_levels(maps: np.ndarray, masks: np.ndarray, anomalous: int) -> np.ndarray:
    """Give ascending values between which about equally many pixels lie; all values where they are few."""
    rng = np.random.default_rng(0)  # a fixed stride might always meet the same column
    samples: tuple[list, list] = ([], [])
    for values, mask in zip(maps, masks, strict=True):
        for chosen, total, sample in zip(
            (~mask, mask), (masks.size - anomalous, anomalous), samples, strict=True
        ):
            found = values[chosen]
            wanted = -(-len(found) * SAMPLE // total)
            sample.append(found if wanted >= len(found) else rng.choice(found, wanted))
    return np.unique(np.concatenate([_quantiles(np.concatenate(sample)) for sample in samples]))


def _quantiles(values: np.ndarray) -> np.ndarray:
    distinct = np.unique(values)
    if len(distinct) <= LEVELS:
        return distinct
    values.sort()
    return values[np.linspace(0, len(values) - 1, LEVELS).round().astype(int)]


def _rank(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, Points]:
    """Give ROC and PR from how many of each sort lie at each ascending level."""
    fp, tp = _from_above(normal), _from_above(anomalous)
    hit = np.flatnonzero(np.diff(tp)) + 1  # only there does recall grow
    recall, precision = tp[hit] / tp[-1], tp[hit] / (tp[hit] + fp[hit])
    steps = np.append(0, np.repeat(recall, 2)[:-1]), np.repeat(precision, 2)
    return {"roc": thin(fp / fp[-1], tp / tp[-1]), "pr": thin(*steps)}


def _overlap(normal: np.ndarray, shares: np.ndarray) -> Points:
    """Give the mean overlap up to the limit, as far as which the published area goes."""
    fp, overlap = _from_above(normal), _from_above(shares)
    fpr = fp / fp[-1]
    inside = fpr <= FPR_LIMIT
    x, y = fpr[inside], overlap[inside]
    if x[-1] < FPR_LIMIT:
        x, y = np.append(x, FPR_LIMIT), np.append(y, np.interp(FPR_LIMIT, fpr, overlap))
    return thin(x, y)


def _from_above(counts: np.ndarray) -> np.ndarray:
    return np.append(0, counts[::-1].cumsum())


def thin(x: np.ndarray, y: np.ndarray) -> Points:
    """Keep the corners of a line; if they are more than `POINTS`, those that cut it into equal lengths."""
    dx, dy = np.diff(x), np.diff(y)
    corner = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-12
    kept = np.flatnonzero(np.concatenate([[True], corner, [True]]))
    x, y = x[kept], y[kept]
    if len(x) > POINTS:
        length = np.append(0, np.hypot(np.diff(x), np.diff(y)).cumsum())
        marks = np.searchsorted(length, np.linspace(0, length[-1], POINTS))
        kept = np.unique(marks.clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return [[round(float(value), 5) for value in values] for values in (x, y)]
