"""Which published figures stand beside a run's own: those of its method's paper and of released logs."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filo.metrics import mean_metrics

FILE = Path(__file__).with_name("published.json")
DEFAULT = "filo"  # the method of a run that was written before there were several

Figures = dict[str, float]  # metric, by the names of `filo.metrics`, -> value in [0, 1]


@dataclass(frozen=True)
class Published:
    """The figures of one method on one dataset.

    Attributes:
        method: as its paper writes it, with how many references it had
        rows: source ("paper", "log") -> class, or "mean" of the tested ones -> figures
        sources: source -> where it can be read
        note: what to keep in mind in comparing
        trained_on: dataset that the weights were trained on, None of a method without training
        tested: how many classes the run has
        known: how many were published
    """

    method: str
    rows: Mapping[str, Mapping[str, Figures]]
    sources: Mapping[str, str]
    note: str
    trained_on: str | None
    tested: int
    known: int

    @property
    def is_part(self) -> bool:
        """The published mean is over fewer classes than were published, those that were tested."""
        return self.tested < self.known and any("mean" in rows for rows in self.rows.values())

    def of(self, row: str, metric: str) -> Figures:
        """Give a metric of a class, or of `mean`, by source; nothing where nothing was published."""
        found = {source: rows.get(_key(row), {}).get(metric) for source, rows in self.rows.items()}
        return {source: value for source, value in found.items() if value is not None}


def known_methods() -> list[str]:
    """Name the methods that something is published of."""
    return list(_methods())


def title_of(method: str, shots: int = 0) -> str:
    """Say how a method is written in its paper, and how many references it had of each class."""
    title = _methods()[method]["title"] if method in _methods() else method
    return f"{title}, {shots} shot{'s' if shots > 1 else ''}" if shots else title


def find_published(
    method: str, dataset: str | None, classes: Iterable[str], shots: int = 0
) -> Published | None:
    """Find a method's figures of a dataset by its name, or by its classes where they are all of them; with so
    many normal images of each class as it was shown.

    Where only some classes were tested, the published mean is taken over these; it is left out where the
    classes do not stand in the source one by one, or where others were tested too.
    """
    about = _methods().get(method, {})
    sources = about.get("few_shot", {}).get(str(shots), {}) if shots else about.get("sources", {})
    tested = {_key(name) for name in classes}
    name = _find_set(sources.values(), dataset, tested)
    found = {source: each["sets"][name] for source, each in sources.items() if name in each["sets"]}
    rows = {source: said for source, entry in found.items() if (said := _rows(entry, tested))}
    if not rows:
        return None
    one = next(iter(found.values()))
    return Published(
        title_of(method, shots),
        rows,
        {source: f"{sources[source]['where']}, {found[source]['from']}" for source in rows},
        about["note"],
        one.get("trained_on"),
        len(tested),
        _count(one),
    )


@cache
def _methods() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))["methods"]


def _find_set(sources: Iterable[dict], dataset: str | None, tested: Collection[str]) -> str | None:
    for source in sources:
        for name, entry in source["sets"].items():
            known = entry.get("classes", {}).keys()
            if known == tested or (dataset == name and (tested & known or not known)):
                return name
    return None


def _rows(entry: dict, tested: set[str]) -> dict[str, Figures]:
    """Give the tested classes and their mean, as far as one source has them."""
    mean = _shares(entry["mean"])
    if "classes" not in entry:
        if len(tested) != entry["count"]:
            return {}
        return {"mean": mean} | (dict.fromkeys(tested, mean) if len(tested) == 1 else {})
    classes = {name: _shares(each) for name, each in entry["classes"].items() if name in tested}
    if classes.keys() != tested:
        return classes
    return classes | {"mean": mean if len(tested) == _count(entry) else mean_metrics(list(classes.values()))}


def _count(entry: dict) -> int:
    return len(entry["classes"]) if "classes" in entry else entry["count"]


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _shares(percent: Mapping[str, float]) -> Figures:
    return {metric: value / 100 for metric, value in percent.items()}
