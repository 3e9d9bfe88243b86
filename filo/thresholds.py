"""From which score on an image counts as anomalous: the score itself is, scores below it are not.

A threshold is put in the middle between two neighbouring scores, so that a new image that is much like a
known one falls on the same side. Above the highest score there is no neighbour; then it is the next number.
Below the lowest it stays off by half the distance to the second lowest: a score computed again in another
batch may come out a hair lower.
"""

import math
from collections.abc import Sequence

import numpy as np

from filo.errors import InputError

RULES = ("f1", "fpr", "quantile")


def choose_threshold(scores: Sequence[float], labels: Sequence[int], rule: str, rate: float) -> float:
    """Choose a threshold for scores (n,) of images with labels (n,), 0 normal and 1 anomalous.

    `f1`: the best F1. `fpr`: at most a share `rate` of the normal images lie above. `quantile`: of new normal
    images at most a share `rate` is expected above; see each rule.

    Raises:
        InputError: there are too few images for the rule, or a score is not finite.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if not np.isfinite(scores).all():
        raise InputError("a score is not a finite number: run the command that wrote it again")
    if rule == "f1":
        return best_f1(scores, labels)
    if not len(scores[~labels]):
        raise InputError(f"the rule {rule} needs normal images, there are none")
    if rule == "fpr":
        return at_false_positive_rate(scores, labels, rate)
    return above_quantile(scores[~labels], rate)


def best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Give the threshold of the highest F1; of several the highest, which raises the fewest alarms.

    Raises:
        InputError: one of the labels does not occur.
    """
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        missing = "normal" if positives else "anomalous"
        raise InputError(f"the rule f1 needs normal and anomalous images, there are no {missing} ones")
    values, place = np.unique(scores, return_inverse=True)
    hits = np.bincount(place, labels, len(values))[::-1].cumsum()
    alarms = np.bincount(place, ~labels, len(values))[::-1].cumsum()
    # equal fractions of whole numbers round to equal floats, so that ties are exact
    best = int((2 * hits / (hits + alarms + positives)).argmax())
    lowest = len(values) - 1 - best
    return _between(values[lowest - 1], values[lowest]) if lowest else _below(values)


def at_false_positive_rate(scores: np.ndarray, labels: np.ndarray, rate: float) -> float:
    """Give the lowest threshold with at most a share `rate` of the normal images at or above it."""
    falling = np.sort(scores[~labels])[::-1]
    allowed = math.floor(rate * len(falling) + 1e-9)  # 0.29 * 100 is a little below 29
    return _just_above(falling[allowed], scores) if allowed < len(falling) else _below(scores)


def above_quantile(normal: np.ndarray, rate: float) -> float:
    """Give a threshold that a new normal image reaches with probability `rate` at most, whatever the
    distribution, as long as it is like the n known ones: above the score of rank ceil((n + 1)(1 - rate)).

    Raises:
        InputError: for that rate n is too small.
    """
    n = len(normal)
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if rank > n:
        raise InputError(
            f"{n} normal images say nothing about a rate of {rate:g}: it takes "
            f"{math.ceil(1 / rate - 1e-9) - 1 if rate else 'infinitely many'}; give more, or a rate of at "
            f"least {math.ceil(1e4 / (n + 1)) / 1e4:g} by --rate"
        )
    return _just_above(np.sort(normal)[rank - 1], normal) if rank else _below(normal)


def _just_above(value: float, scores: np.ndarray) -> float:
    higher = scores[scores > value]
    return _between(value, higher.min()) if len(higher) else math.nextafter(value, math.inf)


def _below(scores: np.ndarray) -> float:
    lowest = float(scores.min())
    higher = scores[scores > lowest]
    return lowest - (float(higher.min()) - lowest) / 2 if len(higher) else lowest


def _between(low: float, high: float) -> float:
    """Give the middle; `high` itself where no number lies between."""
    middle = float(low + (high - low) / 2)
    return middle if low < middle <= high else float(high)


def rates(scores: Sequence[float], labels: Sequence[int], threshold: float) -> dict[str, float | None]:
    """Say what a threshold achieves on labelled images: `true_positive_rate`, `false_positive_rate`, `f1`,
    None where a label does not occur.
    """
    found, labels = np.asarray(scores) >= threshold, np.asarray(labels, bool)
    hits, wrong = int((found & labels).sum()), int((found != labels).sum())
    both = labels.any() and not labels.all()
    return {
        "true_positive_rate": _mean(found[labels]),
        "false_positive_rate": _mean(found[~labels]),
        "f1": 2 * hits / (2 * hits + wrong) if both else None,
    }


def _mean(found: np.ndarray) -> float | None:
    return float(found.mean()) if len(found) else None
