"""How good a method is on a dataset: run it, score it class by class, print the published table."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from filo.class_result import ClassResult
from filo.curves import class_curves
from filo.datasets import AnomalyDataset, Batch, iterate
from filo.errors import InputError
from filo.grounding.boxes import Boxes
from filo.meta import Entry
from filo.method import Method, Prediction
from filo.metrics import COLUMNS, IMAGE_COLUMNS, PIXEL_COLUMNS, class_metrics, mean_metrics, percent
from filo.outcomes import Kept, Outcome
from filo.processes import ALONE, Processes
from filo.prompts import spoken
from filo.views import move_images

# what --metrics chooses, in the words of AnomalyCLIP's program
LEVELS = ("image-level", "pixel-level", "image-pixel-level")


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


class Trial(NamedTuple):
    """One of several tests of a method on the same images, which differ in what it remembers.

    Attributes:
        memory: the method's
        observe: is told of every image, with its number in the dataset
        kept: keeps outcomes on disk; those it has taken up are not computed again, nor told
    """

    memory: dict[str, Any]
    observe: Callable[[int, Entry, Outcome], None] | None = None
    kept: Kept | None = None


def evaluate(
    method: Method,
    dataset: AnomalyDataset,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    boxes: Mapping[Entry, Boxes] | None = None,
    eval_size: int | None = None,
    observe: Callable[[int, Entry, Outcome], None] | None = None,
    with_curves: bool = False,
    kept: Kept | None = None,
    us: Processes = ALONE,
    level: str = LEVELS[-1],
) -> list[ClassResult]:
    """Score every class, as `evaluate_all` does in a single trial, by what the method remembers now."""
    trials, how = [Trial(method.memory, observe, kept)], (boxes, eval_size, with_curves, us, level)
    return evaluate_all(method, dataset, trials, batch_size, device, workers, *how)[0]


def evaluate_all(
    method: Method,
    dataset: AnomalyDataset,
    trials: Sequence[Trial],
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    boxes: Mapping[Entry, Boxes] | None = None,
    eval_size: int | None = None,
    with_curves: bool = False,
    us: Processes = ALONE,
    level: str = LEVELS[-1],
) -> list[list[ClassResult]]:
    """Score every class in every trial; the image tower looks at each image once for all of them. A class's
    maps are dropped as soon as its last image is done.

    Of several processes each computes whole batches in turn, the same ones as a single process; the first one
    gets and scores what all found, the others give nothing and need no `kept` in their trials.

    `boxes` are those a detector found in every image; None without a detector. With `eval_size` maps and
    masks are brought to that side before they are compared, which takes less time and memory and changes the
    numbers. `level`, one of `LEVELS`, says which metrics are wanted; the others are None.

    Raises:
        InputError: an image cannot be read, or the method gives a value that is not finite.
    """
    tallies = [_Tally(dataset, eval_size, with_curves, trial, level) for trial in trials]
    (done, *_), total = us.gather(min(tally.done for tally in tallies)), len(dataset)
    index = done if done == total else done - done % batch_size  # a batch is computed as it was before
    starts = range(index, total, batch_size)
    mine = [i for start in starts[us.rank :: us.count] for i in range(start, min(start + batch_size, total))]
    batches = iterate(dataset, batch_size, mine, workers)
    answers = _answer(method, trials, batches, device, boxes)
    with tqdm(total=total, initial=index, desc="test", unit="image", disable=None) as bar:
        for predictions, masks in us.in_turn(answers, len(starts)):
            for tally, prediction in zip(tallies, predictions, strict=True):
                tally.take(index, prediction, masks)
            index += len(masks)
            bar.update(len(masks))
    names = dataset.meta.classes if us.is_first else ()
    return [[tally.results[name] for name in names] for tally in tallies]


def _answer(
    method: Method,
    trials: Sequence[Trial],
    batches: Iterable[Batch],
    device: torch.device,
    boxes: Mapping[Entry, Boxes] | None,
) -> Iterator[tuple[list[Prediction], Tensor]]:
    """Give what the method says about each batch in every trial, on the CPU, and the masks."""
    for batch in batches:
        of_batch = None if boxes is None else [boxes[entry] for entry in batch.entries]
        seen = method.look(move_images(batch.images, device))
        predictions = []
        for trial in trials:
            method.memory = trial.memory
            predictions.append(_to_cpu(method.answer(seen, batch.class_names, boxes=of_batch)))
        yield predictions, batch.masks


class _Tally:
    """Scores the classes of a trial as they become complete, and drops what was collected of them.

    Attributes:
        done: how many images were taken up from disk
        results: by class
    """

    def __init__(
        self,
        dataset: AnomalyDataset,
        eval_size: int | None,
        with_curves: bool,
        trial: Trial,
        level: str,
    ) -> None:
        self.dataset, self.eval_size, self.with_curves = dataset, eval_size, with_curves
        self.observe, self.kept, self.level = trial.observe, trial.kept, level
        self.counts = Counter(entry.class_name for entry in dataset.entries)
        self.collected: dict[str, _Collected] = {}
        self.results: dict[str, ClassResult] = {}
        self.done = self.kept.taken if self.kept else 0
        if self.kept:
            self.results |= self.kept.results
            for entry, outcome in self.kept.outcomes():
                self._collect(entry, outcome, dataset.read_mask(entry))

    def take(self, first: int, prediction: Prediction, masks: Tensor) -> None:
        """Take down what is said about a batch that begins at the image `first`, unless it is there already.

        Raises:
            InputError: something of it is not finite.
        """
        for index, (outcome, mask) in enumerate(zip(unpack(prediction), masks, strict=True), start=first):
            entry = self.dataset.entries[index]
            require_finite(outcome, entry.image)
            if index < self.done:
                continue
            if self.observe:
                self.observe(index, entry, outcome)
            if self.kept:
                self.kept.add(entry, outcome)
            self._collect(entry, outcome, mask)

    def _collect(self, entry: Entry, outcome: Outcome, mask: Tensor) -> None:
        name, anomaly_map = entry.class_name, outcome.anomaly_map
        if self.eval_size:
            anomaly_map, mask = _resize(anomaly_map, self.eval_size), _resize(mask, self.eval_size) > 0.5
        if name not in self.collected:
            self.collected[name] = _Collected(self.counts[name], self.eval_size or self.dataset.side)
        self.collected[name].add(entry, outcome.score, anomaly_map, mask)
        if self.collected[name].is_complete:
            self.results[name] = _score(name, self.collected.pop(name), self.with_curves, self.level)
            if self.kept:
                self.kept.finish(self.results[name])


def unpack(prediction: Prediction) -> list[Outcome]:
    """Give what is said about each image by itself."""
    return [
        Outcome(score.item(), anomaly_map, similarities.tolist(), position)
        for score, anomaly_map, similarities, position in zip(*_to_cpu(prediction), strict=True)
    ]


def _to_cpu(prediction: Prediction) -> Prediction:
    scores, maps, similarities, positions = prediction
    similarities = tuple(each.cpu() for each in similarities)
    return Prediction(scores.float().cpu(), maps.float().cpu(), similarities, positions)


def require_finite(outcome: Outcome, image: Path) -> None:
    """Raise `InputError` if an image got a score or a map that is not finite."""
    if not (math.isfinite(outcome.score) and outcome.anomaly_map.isfinite().all()):
        raise InputError(f"the model's answer to {image} is not finite; are the weights damaged?")


def _resize(values: Tensor, side: int) -> Tensor:
    """Resize (S, S) by the mean of what falls together."""
    return F.interpolate(values.float()[None, None], (side, side), mode="area")[0, 0]


def _score(name: str, seen: _Collected, with_curves: bool, level: str) -> ClassResult:
    pixels = () if level == "image-level" else seen.pixels
    metrics = class_metrics(seen.scores, seen.labels, *pixels)
    curves = class_curves(seen.scores, seen.labels, *pixels) if with_curves else None
    if level == "pixel-level":
        metrics |= dict.fromkeys(IMAGE_COLUMNS)
    normal, anomalous = int((~seen.labels).sum()), int(seen.labels.sum())
    return ClassResult(name, normal, anomalous, metrics, _explain(name, seen, metrics, level), curves)


def _explain(name: str, seen: _Collected, metrics: dict[str, float | None], level: str) -> list[str]:
    """Say why metrics of a class are undefined, one line for each cause; they are left out of the mean."""
    notes = []
    if metrics["auroc_sp"] is None and level != "pixel-level":
        missing = "normal" if seen.labels.all() else "anomalous"
        notes.append(f"{name} has no {missing} images: no image metrics, left out of their mean")
    if level == "image-level":
        return notes
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


def format_table(results: Iterable[ClassResult], level: str = LEVELS[-1]) -> str:
    """Give the published table, a row for each class and their mean, in percent, `n/a` where undefined.

    Its columns are those of one of `LEVELS`.
    """
    results = list(results)
    hidden = {"image-level": PIXEL_COLUMNS, "pixel-level": IMAGE_COLUMNS}.get(level, ())
    columns = [column for column in COLUMNS if column not in hidden]
    rows = [(spoken(result.class_name), result.metrics) for result in results]
    rows.append(("mean", mean_metrics([result.metrics for result in results])))
    cells = [[name, *(percent(metrics[column]) for column in columns)] for name, metrics in rows]
    align = ("left", *["right"] * len(columns))
    return tabulate(
        cells, headers=("objects", *columns), tablefmt="pipe", disable_numparse=True, colalign=align
    )
