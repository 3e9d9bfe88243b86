"""How good a method is on a dataset: run it, score it class by class, print the published table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from filo.datasets import AnomalyDataset, iterate
from filo.errors import InputError
from filo.grounding.boxes import Boxes
from filo.meta import Entry
from filo.methods.filo import FiLo
from filo.metrics import COLUMNS, class_metrics, mean_metrics


@dataclass
class ClassResult:
    """Metrics of one class in [0, 1], None where undefined, and why."""

    class_name: str
    normal: int
    anomalous: int
    metrics: dict[str, float | None]
    notes: list[str]


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

    def add(self, entry: Entry, score: Tensor, anomaly_map: Tensor, mask: Tensor) -> None:
        if not (score.isfinite() and anomaly_map.isfinite().all()):
            raise InputError(f"the model's answer to {entry.image} is not finite; are the weights damaged?")
        self.scores[self.done], self.labels[self.done] = score.item(), entry.label
        self.maps[self.done], self.masks[self.done] = anomaly_map.numpy(), mask.numpy()
        self.unmasked += not entry.has_mask
        self.done += 1


def evaluate(
    method: FiLo,
    dataset: AnomalyDataset,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    boxes: Mapping[Entry, Boxes] | None = None,
    eval_size: int | None = None,
) -> list[ClassResult]:
    """Score every class; a class's maps are dropped as soon as its last image is done.

    `boxes` are those a detector found in every image; None without a detector. With `eval_size` maps and
    masks are brought to that side before they are compared, which takes less time and memory and changes the
    numbers.

    Raises:
        InputError: an image cannot be read, or the method gives a value that is not finite.
    """
    counts = Counter(entry.class_name for entry in dataset.entries)
    collected: dict[str, _Collected] = {}
    results = {}
    with tqdm(total=len(dataset), desc="test", unit="image", disable=None) as bar:
        for batch in iterate(dataset, batch_size, workers=workers):
            images = batch.images.to(device, non_blocking=True)
            of_batch = None if boxes is None else [boxes[entry] for entry in batch.entries]
            answers = method.predict(images, batch.class_names, boxes=of_batch)
            scores, maps = (t.float().cpu() for t in answers)
            masks = batch.masks
            if eval_size:
                maps, masks = _resize(maps, eval_size), _resize(masks.float(), eval_size) > 0.5
            for entry, *answer in zip(batch.entries, scores, maps, masks, strict=True):
                name = entry.class_name
                if name not in collected:
                    collected[name] = _Collected(counts[name], eval_size or dataset.side)
                collected[name].add(entry, *answer)
                if collected[name].is_complete:
                    results[name] = _score(name, collected.pop(name))
            bar.update(len(batch.entries))
    return [results[name] for name in dataset.meta.classes]


def _resize(maps: Tensor, side: int) -> Tensor:
    """Resize (B, S, S) by the mean of what falls together."""
    return F.interpolate(maps[:, None], (side, side), mode="area")[:, 0]


def _score(name: str, seen: _Collected) -> ClassResult:
    pixels = () if seen.unmasked else (seen.maps, seen.masks)
    metrics = class_metrics(seen.scores, seen.labels, *pixels)
    normal, anomalous = int((~seen.labels).sum()), int(seen.labels.sum())
    return ClassResult(name, normal, anomalous, metrics, _explain(name, seen, metrics))


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
    rows = [(result.class_name.replace("_", " "), result.metrics) for result in results]
    rows.append(("mean", mean_metrics([result.metrics for result in results])))
    cells = [[name, *(_percent(metrics[column]) for column in COLUMNS)] for name, metrics in rows]
    return tabulate(
        cells, headers=("objects", *COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=_ALIGN
    )


_ALIGN = ("left",) + ("right",) * len(COLUMNS)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"
