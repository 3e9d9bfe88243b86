"""How good a method is on a dataset: run it, score it class by class, print the published table."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from filo.curves import class_curves
from filo.datasets import AnomalyDataset, iterate
from filo.errors import InputError
from filo.grounding.boxes import Boxes
from filo.meta import Entry
from filo.methods.filo import FiLoModel, Prediction
from filo.metrics import COLUMNS, class_metrics, mean_metrics
from filo.prompts import spoken


@dataclass
class ClassResult:
    """Metrics of one class in [0, 1], None where undefined, and why; its curves as `class_curves` gives them,
    None unless they are wanted.
    """

    class_name: str
    normal: int
    anomalous: int
    metrics: dict[str, float | None]
    notes: list[str]
    curves: dict | None = None


class Outcome(NamedTuple):
    """What a method says about one image, as in `Prediction`; the map (S, S) is on the CPU."""

    score: float
    anomaly_map: Tensor
    similarities: list[float]
    position: int


class _Collected:
    """What has been predicted of one class so far, in arrays of the class's final size."""

    def __init__(self, count: int, side: int) -> None:
        self.done, self.unmasked = 0, 0
        self.scores = np.empty(count, np.float32)
        self.labels = np.empty(count, bool)
        self.maps = np.empty((count, side, side), np.float32)
        self.masks = np.empty((count, side, side), bool)

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.scores)

    @property
    def pixels(self) -> tuple[np.ndarray, ...]:
        """Maps and masks, unless a mask is missing."""
        return () if self.unmasked else (self.maps, self.masks)

    def add(self, entry: Entry, score: float, anomaly_map: Tensor, mask: Tensor) -> None:
        self.scores[self.done], self.labels[self.done] = score, entry.label
        self.maps[self.done], self.masks[self.done] = anomaly_map.numpy(), mask.numpy()
        self.unmasked += not entry.has_mask
        self.done += 1


def evaluate(
    method: FiLoModel,
    dataset: AnomalyDataset,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    boxes: Mapping[Entry, Boxes] | None = None,
    eval_size: int | None = None,
    observe: Callable[[int, Entry, Outcome], None] | None = None,
    with_curves: bool = False,
) -> list[ClassResult]:
    """Score every class; a class's maps are dropped as soon as its last image is done.

    `boxes` are those a detector found in every image; None without a detector. With `eval_size` maps and
    masks are brought to that side before they are compared, which takes less time and memory and changes the
    numbers. `observe` is told of every image, with its number in the dataset.

    Raises:
        InputError: an image cannot be read, or the method gives a value that is not finite.
    """
    counts = Counter(entry.class_name for entry in dataset.entries)
    collected: dict[str, _Collected] = {}
    results, index = {}, 0
    with tqdm(total=len(dataset), desc="test", unit="image", disable=None) as bar:
        for batch in iterate(dataset, batch_size, workers=workers):
            of_batch = None if boxes is None else [boxes[entry] for entry in batch.entries]
            images = batch.images.to(device, non_blocking=True)
            outcomes = unpack(method.predict(images, batch.class_names, boxes=of_batch))
            for entry, outcome, mask in zip(batch.entries, outcomes, batch.masks, strict=True):
                require_finite(outcome, entry.image)
                name, anomaly_map = entry.class_name, outcome.anomaly_map
                if eval_size:
                    anomaly_map, mask = _resize(anomaly_map, eval_size), _resize(mask, eval_size) > 0.5
                if name not in collected:
                    collected[name] = _Collected(counts[name], eval_size or dataset.side)
                collected[name].add(entry, outcome.score, anomaly_map, mask)
                if observe:
                    observe(index, entry, outcome)
                index += 1
                if collected[name].is_complete:
                    results[name] = _score(name, collected.pop(name), with_curves)
            bar.update(len(batch.entries))
    return [results[name] for name in dataset.meta.classes]


def unpack(prediction: Prediction) -> list[Outcome]:
    """Give what is said about each image by itself."""
    scores, maps = (tensor.float().cpu() for tensor in prediction[:2])
    others = zip(prediction.similarities, prediction.positions, strict=True)
    return [
        Outcome(score.item(), anomaly_map, similarities.tolist(), position)
        for score, anomaly_map, (similarities, position) in zip(scores, maps, others, strict=True)
    ]


def require_finite(outcome: Outcome, image: Path) -> None:
    """Raise `InputError` if an image got a score or a map that is not finite."""
    if not (math.isfinite(outcome.score) and outcome.anomaly_map.isfinite().all()):
        raise InputError(f"the model's answer to {image} is not finite; are the weights damaged?")


def _resize(values: Tensor, side: int) -> Tensor:
    """Resize (S, S) by the mean of what falls together."""
    return F.interpolate(values.float()[None, None], (side, side), mode="area")[0, 0]


def _score(name: str, seen: _Collected, with_curves: bool) -> ClassResult:
    metrics = class_metrics(seen.scores, seen.labels, *seen.pixels)
    curves = class_curves(seen.scores, seen.labels, *seen.pixels) if with_curves else None
    normal, anomalous = int((~seen.labels).sum()), int(seen.labels.sum())
    return ClassResult(name, normal, anomalous, metrics, _explain(name, seen, metrics), curves)


def _explain(name: str, seen: _Collected, metrics: dict[str, float | None]) -> list[str]:
    """Say why metrics of a class are undefined, one line for each cause; they are left out of the mean."""
    notes = []
    if metrics["auroc_sp"] is None:
        missing = "normal" if seen.labels.all() else "anomalous"
        notes.append(f"{name} has no {missing} images: no image metrics, left out of their mean")
    if seen.unmasked:
        notes.append(
            f"{name} has {seen.unmasked} anomalous images without a mask: "
            "no pixel metrics, left out of their mean"
        )
    elif metrics["auroc_px"] is None:
        missing = "normal" if seen.masks.any() else "anomalous"
        notes.append(
            f"{name} has no {missing} pixels at {seen.maps.shape[1]}x{seen.maps.shape[2]}: "
            "no pixel metrics, left out of their mean"
        )
    elif metrics["aupro_legacy"] is None:
        notes.append(f"{name}: aupro_legacy is not defined for these maps, left out of its mean")
    return notes


def format_table(results: Iterable[ClassResult]) -> str:
    """Give the published table: a row for each class and their mean, in percent, `n/a` where undefined."""
    results = list(results)
    rows = [(spoken(result.class_name), result.metrics) for result in results]
    rows.append(("mean", mean_metrics([result.metrics for result in results])))
    cells = [[name, *(_percent(metrics[column]) for column in COLUMNS)] for name, metrics in rows]
    return tabulate(
        cells, headers=("objects", *COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=_ALIGN
    )


_ALIGN = ("left",) + ("right",) * len(COLUMNS)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"
