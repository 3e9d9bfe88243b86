"""What a run left in its folder, read for a report."""

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from filo.curves import class_curves
from filo.errors import InputError
from filo.plots import Scale, run_scale
from filo.prompts import spoken
from filo.records import Record, read_records, read_small
from filo.run_folder import LINES

RESULTS, PREDICTION, CURVES = "results.json", "predict.json", "curves.json"


@dataclass(frozen=True)
class Run:
    """A run as its files have it.

    Attributes:
        about: what results.json or predict.json says
        records: of all images, in order, those that failed included
        curves: of the classes, as `class_curves` gives them; empty where none were kept
        is_test: labels are known, so there are metrics, false alarms and misses
    """

    folder: Path
    about: dict
    records: list[Record]
    curves: dict[str, dict] = field(default_factory=dict)
    is_test: bool = True

    @property
    def title(self) -> str:
        """What was looked at: the dataset, or a class or two, or whatever the folder is called."""
        dataset = (self.about.get("arguments") or {}).get("dataset")
        few = " and ".join(map(spoken, self.classes)) if 0 < len(self.classes) < 3 else ""
        return str(dataset or few or self.folder.resolve().name)

    @cached_property
    def classes(self) -> dict[str, list[Record]]:
        """The images that were looked at, by class, in the order of the run."""
        found: dict[str, list[Record]] = {name: [] for name in self.about.get("classes", {})}
        for record in self.records:
            if not record.error:
                found.setdefault(record.class_name, []).append(record)
        return found

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.error]


def read_run(folder: Path) -> Run:
    """Read what `test.py` or `filo.predict` wrote.

    Raises:
        InputError: nothing of the kind is there, or a file is damaged.
    """
    is_test = (folder / RESULTS).is_file()
    if not is_test and not (folder / PREDICTION).is_file():
        raise InputError(
            f"{folder} holds neither {RESULTS} nor {PREDICTION}: name a folder that test.py or filo.predict "
            "wrote"
        )
    about = _read(folder / (RESULTS if is_test else PREDICTION))
    if is_test and not (isinstance(about.get("classes"), dict) and isinstance(about.get("mean"), dict)):
        raise InputError(f"{folder / RESULTS} has no classes and mean: run test.py again")
    records = read_records(folder)
    if bad := next((r for r in records if not _is_usable(r, is_test)), None):
        raise InputError(
            f"{folder / LINES}: the record of {bad.image!r} has no finite score or no label; run the command "
            "that wrote it again"
        )
    run = Run(folder, about, records, is_test=is_test)
    if not is_test:
        return run
    kept = folder / CURVES
    return replace(run, curves=_read(kept) if kept.is_file() else _curves_of_images(run))


def _curves_of_images(run: Run) -> dict[str, dict]:
    """Compute the curves that scores alone tell; those over pixels are computed in the test."""
    return {
        name: class_curves(np.array([r.score for r in own]), np.array([r.label for r in own]))
        for name, own in run.classes.items()
        if own
    }


def _is_usable(record: Record, is_test: bool) -> bool:
    scored = isinstance(record.score, (int, float)) and math.isfinite(record.score)
    return bool(record.error) or (scored and (not is_test or record.label in (0, 1)))


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"wanted an object, found {type(content).__name__}")
        return content
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); run the command that wrote it again") from error


def choose_scale(run: Run) -> Scale:
    """Give the scale that the run states, or one made of all its small maps."""
    stated = run.about.get("scale")
    if stated is not None:
        try:
            return Scale(float(stated["low"]), float(stated["high"]), str(stated["origin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{run.folder} states no usable scale ({error}); give one by --scale") from error
    smalls = (read_small(run.folder, record.index) for record in run.records if not record.error)
    return run_scale(small.anomaly_map for small in smalls if small is not None)
