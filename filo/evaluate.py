"""How good a method is on a dataset: run it, score it class by class, print the published table."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from filo.datasets import AnomalyDataset, Batch, iterate
from filo.errors import InputError
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


@dataclass
class _Collected:
    """What has been predicted of one class so far."""

    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    unmasked: int = 0


def evaluate(
    method: FiLo, dataset: AnomalyDataset, batch_size: int, device: torch.device, workers: int = 0
) -> list[ClassResult]:
    """Score every class; a class's maps are dropped as soon as its last image is done.

    Raises:
        InputError: an image cannot be read, or the method gives a value that is not finite.
    """
    left = {name: sum(e.class_name == name for e in dataset.entries) for name in dataset.meta.classes}
    collected = {name: _Collected() for name in dataset.meta.classes}
    results = {}
    with tqdm(total=len(dataset), desc="test", unit="image", disable=None) as bar:
        for batch in iterate(dataset, batch_size, workers=workers):
            _predict(method, batch, device, collected)
            bar.update(len(batch.entries))
            for name in batch.class_names:
                left[name] -= 1
                if left[name] == 0:
                    results[name] = _score(name, collected.pop(name))
    return [results[name] for name in dataset.meta.classes]


def _predict(method: FiLo, batch: Batch, device: torch.device, collected: dict[str, _Collected]) -> None:
    prediction = method.predict(batch.images.to(device, non_blocking=True), batch.class_names)
    scores, maps = prediction.scores.float().cpu(), prediction.maps.float().cpu()
    for i, entry in enumerate(batch.entries):
        if not (scores[i].isfinite() and maps[i].isfinite().all()):
            raise InputError(f"the model's answer to {entry.image} is not finite; are the weights damaged?")
        into = collected[entry.class_name]
        into.scores.append(scores[i].item())
        into.labels.append(entry.label)
        into.maps.append(maps[i].numpy())
        into.masks.append(batch.masks[i].numpy())
        into.unmasked += not entry.has_mask


def _score(name: str, seen: _Collected) -> ClassResult:
    labels = np.array(seen.labels, dtype=bool)
    pixels = () if seen.unmasked else (np.stack(seen.maps), np.stack(seen.masks))
    metrics = class_metrics(np.array(seen.scores, dtype=np.float32), labels, *pixels)
    notes = []
    if labels.all() or not labels.any():
        notes.append(f"{name} has no {'normal' if labels.all() else 'anomalous'} images")
    if seen.unmasked:
        notes.append(f"{name} has {seen.unmasked} anomalous images without a mask: no pixel metrics")
    return ClassResult(name, int((~labels).sum()), int(labels.sum()), {k: metrics[k] for k in COLUMNS}, notes)


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
