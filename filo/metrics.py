"""How good are the scores and maps of one class: AUROC, AP, F1-max and AUPRO, exact, from one sort.

Normal and anomalous values are sorted apart, each value once. Every metric here changes only at the scores
of anomalous samples, so counting the normal values above each of them gives all that a sweep over every
threshold would. AUPRO is an area under a mean of steps, one per pixel of a region, hence a sum over pixels.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

PIXEL_COLUMNS = ("auroc_px", "f1_px", "ap_px", "aupro", "aupro_legacy")
IMAGE_COLUMNS = ("auroc_sp", "f1_sp", "ap_sp")
COLUMNS = PIXEL_COLUMNS + IMAGE_COLUMNS

FPR_LIMIT = 0.3
LEGACY_STEPS = 200
CHUNK = 1 << 14  # anomalous values handled at once; bounds the memory beside the sorted copy

Metrics = dict[str, float | None]


def class_metrics(
    scores: np.ndarray, labels: np.ndarray, maps: np.ndarray | None = None, masks: np.ndarray | None = None
) -> Metrics:
    """Score one class: a dict with every name in `COLUMNS`, 0-1 floats, None where a metric is undefined.

    `scores` and `labels` are as in `binary_metrics`, `maps` and `masks` as in `pixel_metrics`; without
    maps the pixel metrics are None.
    """
    if (maps is None) != (masks is None):
        raise ValueError("maps and masks belong together; give both of them or neither")
    if maps is not None and len(maps) != len(scores):
        raise ValueError(f"{len(maps)} maps for {len(scores)} image scores; every image needs one of each")
    image = binary_metrics(scores, labels)
    pixel = dict.fromkeys(PIXEL_COLUMNS) if maps is None else pixel_metrics(maps, masks)
    return pixel | {f"{name}_sp": value for name, value in image.items()}


def mean_metrics(rows: Sequence[Metrics]) -> Metrics:
    """Average each metric over the classes that define it; None where no class does."""
    names = rows[0] if rows else COLUMNS
    defined = {name: [row[name] for row in rows if row[name] is not None] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in defined.items()}


def binary_metrics(scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """Compute `auroc`, `f1` (its maximum over thresholds) and `ap` of flat scores against 0/1 labels.

    Equal to scikit-learn's `roc_auc_score`, `average_precision_score` and the best 2PR/(P+R) on its
    `precision_recall_curve`, ties included. All three are None unless both labels occur.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be flat and equally long")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 (normal) or 1 (anomalous), got {np.unique(labels)[:5].tolist()}")
    _check_finite("scores", [scores])
    anomalous = labels.astype(bool)
    return _rank(np.sort(scores[~anomalous]), np.sort(scores[anomalous]))


def pixel_metrics(maps: np.ndarray, masks: np.ndarray) -> Metrics:
    """Compute the names in `PIXEL_COLUMNS` over all pixels of all images of one class.

    AUPRO is None without an anomalous or without a normal pixel, `aupro_legacy` also where its thresholds do
    not meet two different false-positive rates below the limit, as on a constant or a perfect map. Beside its
    inputs this needs the memory of one more `maps`, and a little for the image at hand.

    Args:
        maps: (n, H, W) floats or unsigned integers, higher is more anomalous
        masks: (n, H, W) bool; a region is an 8-connected component within one image
    """
    maps, masks = np.asarray(maps), np.asarray(masks)
    _check_pixels(maps, masks)
    normal, anomalous = _sort_by_label(maps, masks)
    ranked = {f"{name}_px": value for name, value in _rank(normal, anomalous).items()}
    if not len(normal) or not len(anomalous):
        return ranked | {"aupro": None, "aupro_legacy": None}
    lowest, highest = min(normal[0], anomalous[0]), max(normal[-1], anomalous[-1])
    thresholds = _legacy_thresholds(lowest, highest)
    exact, overlap = _region_overlap(maps, masks, normal, thresholds)
    return ranked | {"aupro": exact, "aupro_legacy": _legacy_area(overlap, normal, thresholds)}


def _check_pixels(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must have one shape (n, H, W)")
    if maps.dtype.kind not in "fu":
        raise ValueError(f"maps must be floats or unsigned integers, got {maps.dtype}")
    if masks.dtype != bool:
        raise ValueError(f"masks must be bool, got {masks.dtype}; pass `masks > 0`")
    _check_finite("maps", maps)


def _check_finite(name: str, arrays: Sequence[np.ndarray] | np.ndarray) -> None:
    """Array by array, so that a stack of maps needs no boolean stack beside it."""
    bad = sum(array.size - np.count_nonzero(np.isfinite(array)) for array in arrays)
    if bad:
        total = sum(array.size for array in arrays)
        raise ValueError(
            f"{name} are not finite: {bad} of {total} values are nan or inf; did the model diverge?"
        )


def _sort_by_label(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copy the maps once, normal pixels in front, and sort both parts in place, ascending."""
    values = np.empty(maps.size, maps.dtype)
    normal, anomalous = np.split(values, [maps.size - np.count_nonzero(masks)])
    n = a = 0
    for scores, mask in zip(maps, masks, strict=True):
        inside, outside = scores[mask], scores[~mask]
        normal[n : n + len(outside)], anomalous[a : a + len(inside)] = outside, inside
        n, a = n + len(outside), a + len(inside)
    normal.sort()
    anomalous.sort()
    return normal, anomalous


def _count_above(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count for every score the values above it, and those at or above it; both arrays sorted ascending."""
    first = np.searchsorted(values, scores[0], side="left")
    last = np.searchsorted(values, scores[-1], side="right")
    near = values[first:last]  # for a short run of scores a short range, which stays in the cache
    above = len(values) - first - np.searchsorted(near, scores, side="right")
    reached = len(values) - first - np.searchsorted(near, scores, side="left")
    return above, reached


def _rank(normal: np.ndarray, anomalous: np.ndarray) -> Metrics:
    """AUROC, F1-max and AP of two sorted arrays.

    A threshold at no anomalous score adds no recall and lowers precision: it matters to neither AP nor F1.
    """
    N, P = len(normal), len(anomalous)
    if not N or not P:
        return dict.fromkeys(("auroc", "f1", "ap"))
    lost, precision, f1 = 0, 0.0, 0.0
    for start in range(0, P, CHUNK):
        scores = anomalous[start : start + CHUNK]
        above, fp = _count_above(normal, scores)
        _, tp = _count_above(anomalous, scores)  # a whole group of ties is found together
        lost += int((above + fp).sum())  # a tie with a normal value counts one half
        precision += float((tp / (tp + fp)).sum())
        f1 = max(f1, float((2 * tp / (tp + fp + P)).max()))
    return {"auroc": 1 - lost / (2 * N * P), "f1": f1, "ap": precision / P}


def _regions(maps: np.ndarray, masks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield for each image with a mask: sorted anomalous scores, 1 / size of their region, region count."""
    for scores, mask in zip(maps, masks, strict=True):
        if mask.any():
            _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            sizes = stats[:, cv2.CC_STAT_AREA]
            inside = scores[mask]
            order = np.argsort(inside)  # binary searches of neighbouring values share the cache
            yield inside[order], 1 / sizes[regions[mask][order]], len(sizes) - 1


def _region_overlap(
    maps: np.ndarray, masks: np.ndarray, normal: np.ndarray, thresholds: np.ndarray
) -> tuple[float, np.ndarray]:
    """Exact AUPRO, and the mean over regions of the share with `map > th` for each ascending threshold."""
    area, count = 0.0, 0
    passed = np.zeros(len(thresholds) + 1)  # share of a pixel, by how many thresholds lie below it
    for all_scores, all_weights, regions in _regions(maps, masks):
        count += regions
        for start in range(0, len(all_scores), CHUNK):
            scores, weights = all_scores[start : start + CHUNK], all_weights[start : start + CHUNK]
            above, reached = _count_above(normal, scores)
            area += float(weights @ _area_below_limit(above / len(normal), reached / len(normal)))
            below = np.searchsorted(thresholds, scores, side="left")
            passed += np.bincount(below, weights, minlength=len(passed))
    overlap = passed[::-1].cumsum()[::-1][1:]
    return area / count / FPR_LIMIT, overlap / count


def _area_below_limit(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Area under a step from 0 to 1 for fpr up to the limit.

    The step is a straight line from fpr `start` to fpr `end`: a pixel that ties with normal ones is found
    together with them, and the curve between two thresholds is linear.
    """
    left = np.maximum(FPR_LIMIT - start, 0)
    cut_off = left**2 / (2 * np.maximum(end - start, np.finfo(float).tiny))
    return np.where(end <= FPR_LIMIT, FPR_LIMIT - (start + end) / 2, cut_off)


def _legacy_thresholds(lowest: np.generic, highest: np.generic) -> np.ndarray:
    """Ascending equidistant thresholds from the lowest score on; none for a constant map."""
    with np.errstate(over="ignore"):
        delta = (highest - lowest) / LEGACY_STEPS
    # as official: scalars in the maps' precision, whose rounding makes it 200 or, seldom, 201 thresholds
    return np.arange(lowest, highest, delta) if 0 < delta < np.inf else np.empty(0)


def _legacy_area(overlap: np.ndarray, normal: np.ndarray, thresholds: np.ndarray) -> float | None:
    """Trapezoid over the points with fpr below the limit, their fpr stretched to [0, 1]."""
    # bisect compares in double precision; searchsorted would first make a double copy of all normal pixels
    found = np.array([len(normal) - bisect_right(normal, threshold) for threshold in thresholds])
    fpr = found / len(normal)
    kept = fpr < FPR_LIMIT
    fpr, overlap = fpr[kept], overlap[kept]
    if len(fpr) < 2 or fpr[0] == fpr[-1]:
        return None
    width = -np.diff(fpr) / (fpr[0] - fpr[-1])  # fpr falls as the threshold rises
    return float(width @ (overlap[1:] + overlap[:-1]) / 2)


def percent(share: float | None, spread: float | None = None) -> str:
    """Give a share in percent with one decimal, and its standard deviation if any; `n/a` for None."""
    if share is None:
        return "n/a"
    return f"{100 * share:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")
