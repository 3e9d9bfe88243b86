"""What a run left in its folder, read for a report. A test holds all its records, a prediction as many as the
page shows.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from filo.curves import class_curves
from filo.errors import InputError
from filo.plots import Scale, run_scale
from filo.prompts import spoken
from filo.records import Record, iterate_records, read_records, read_small
from filo.report.published import DEFAULT
from filo.run_folder import LINES
from filo.summary import Summary, Tally, by_decision, by_label, summarise

RESULTS, PREDICTION, CURVES = "results.json", "predict.json", "curves.json"
SHOWN = 2000  # images of a prediction; of more the highest scores of every class
FEWEST = 20  # of each of very many classes


@dataclass(frozen=True)
class Run:
    """A run as its files have it.

    Attributes:
        about: what results.json or predict.json says
        summary: of all images
        curves: of the classes, as `class_curves` gives them; empty where none were kept
        is_test: labels are known, so there are metrics, false alarms and misses
    """

    folder: Path
    about: dict
    summary: Summary
    curves: dict[str, dict] = field(default_factory=dict)
    is_test: bool = True

    @property
    def title(self) -> str:
        """What was looked at: the dataset, or a class or two, or whatever the folder is called."""
        few = " and ".join(map(spoken, self.classes)) if 0 < len(self.classes) < 3 else ""
        return str(self.dataset or few or self.folder.resolve().name)

    @property
    def method(self) -> str:
        """Whose numbers these are, by the name of its module."""
        return str(self.about.get("method", DEFAULT))

    @property
    def dataset(self) -> str | None:
        """What it was tested on, by the name that test.py was told."""
        return (self.about.get("arguments") or {}).get("dataset")

    @property
    def shots(self) -> int:
        """How many normal images of each class the method was shown; of a prediction, of the first class."""
        shown = next(iter((self.about.get("references") or {}).values()), ())
        return len(shown)

    @property
    def classes(self) -> dict[str, Tally]:
        """The classes, in the order of the run."""
        return self.summary.classes

    @property
    def is_cut(self) -> bool:
        """There are more images than the page shows."""
        return any(len(tally.records) < tally.images for tally in self.classes.values())


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
    about = read_json(folder / (RESULTS if is_test else PREDICTION))
    if is_test and not (isinstance(about.get("classes"), dict) and isinstance(about.get("mean"), dict)):
        raise InputError(f"{folder / RESULTS} has no classes and mean: run test.py again")
    names = dict(about.get("classes") or {})
    if not is_test:
        sort, most = by_decision(about.get("thresholds")), _count_shown(about, names)
        return Run(
            folder,
            about,
            summarise(_usable(folder, iterate_records(folder)), sort, most, names),
            is_test=False,
        )
    records = _usable(folder, read_records(folder), labelled=True)
    run = Run(folder, about, summarise(records, by_label, None, names))
    kept = folder / CURVES
    return replace(run, curves=read_json(kept) if kept.is_file() else _curves_of_images(run))


def _count_shown(about: dict, names: dict) -> int:
    """Say how many images of each class a prediction shows."""
    images = about.get("images")
    fits = not isinstance(images, int) or images <= SHOWN
    return SHOWN if fits else max(FEWEST, SHOWN // max(1, len(names)))


def _curves_of_images(run: Run) -> dict[str, dict]:
    """Compute the curves that scores alone tell; those over pixels are computed in the test."""
    return {
        name: class_curves(np.array([r.score for r in own]), np.array([r.label for r in own]))
        for name, tally in run.classes.items()
        if (own := tally.records)
    }


def _usable(folder: Path, records: Iterable[Record], labelled: bool = False) -> Iterator[Record]:
    """Give records; raise `InputError` at one that has no finite score, or no label where it must have."""
    for record in records:
        scored = isinstance(record.score, (int, float)) and math.isfinite(record.score)
        if not record.error and not (scored and (not labelled or record.label in (0, 1))):
            raise InputError(
                f"{folder / LINES}: the record of {record.image!r} has no finite score or no label; run the "
                "command that wrote it again"
            )
        yield record


def read_json(path: Path) -> dict:
    """Read an object; raise `InputError` if the file is damaged."""
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
    smalls = (read_small(run.folder, r) for tally in run.classes.values() for r in tally.records)
    return run_scale(small.anomaly_map for small in smalls if small is not None)
