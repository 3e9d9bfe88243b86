"""From which score on an image counts as anomalous, and which images that gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filo.records import Record
from filo.report.run import Run
from filo.summary import Tally, falling
from filo.thresholds import best_f1

FEW = 4  # images of one sort that are shown for each class


@dataclass(frozen=True)
class Cut:
    """A threshold and where it comes from, in words; None and why there is none."""

    threshold: float | None = None
    origin: str = ""

    def finds(self, record: Record) -> bool:
        return self.threshold is not None and record.score >= self.threshold


@dataclass(frozen=True)
class Group:
    """Some images of a class under one heading, the first of `total` of the sort."""

    name: str
    about: str
    records: list[Record]
    total: int


def find_cut(run: Run, name: str, tally: Tally) -> Cut:
    """Find the threshold of a class: the run's own, or the one of the best F1 on its labels."""
    given = (run.about.get("thresholds") or {}).get(name, tally.threshold)
    if given is not None:
        source = run.about.get("decisions")
        return Cut(float(given), f"from {source}" if source else "given to the run")
    if not run.is_test:
        about = (run.about.get("classes") or {}).get(name) or {}
        return Cut(None, about.get("undecided") or "nobody calibrated it")
    records = tally.records
    labels = np.array([record.label for record in records])
    if len(set(labels.tolist())) < 2:
        return Cut(None, "there are no images of the other sort to choose one by")
    scores = np.array([record.score for record in records])
    return Cut(best_f1(scores, labels.astype(bool)), "the best F1 on these very labels, hence optimistic")


def errors(records: Sequence[Record], cut: Cut) -> tuple[list[Record], list[Record]]:
    """Give the false alarms, the highest score first, and the misses, the lowest first."""
    alarms = [record for record in records if record.label == 0 and cut.finds(record)]
    misses = [record for record in records if record.label == 1 and not cut.finds(record)]
    return falling(alarms), falling(misses)[::-1]


def groups(records: Sequence[Record], cut: Cut) -> list[Group]:
    """Choose the images of a class that a test run shows: what went wrong first, then what went well."""
    ranked = falling(records)
    if cut.threshold is None:
        return _kept([("Highest scores", "", ranked), ("Lowest scores", "", ranked[::-1])])
    alarms, misses = errors(records, cut)
    normal = [record for record in ranked if record.label == 0 and not cut.finds(record)]
    found = [record for record in ranked if record.label == 1 and cut.finds(record)]
    worst = [
        ("False alarms", "normal but above the threshold; the highest scores first", alarms),
        ("Misses", "anomalous but below the threshold; the lowest scores first", misses),
    ]
    close = [("Closest calls", "found with the lowest scores", found[::-1][:FEW])] if not misses else []
    best = [
        ("Surest finds", "found with the highest scores", found),
        ("Calmest", "normal images with the lowest scores", normal[::-1]),
    ]
    return _kept([*worst, *close, *best])


def decided(tally: Tally, cut: Cut) -> list[Group]:
    """Part the images of a class as a prediction shows them, the highest scores first."""
    ranked, about = falling(tally.records), "the highest score first"
    if cut.threshold is None:
        return [Group("Images", about, ranked, tally.images)]
    parts = [[record for record in ranked if cut.finds(record) == anomalous] for anomalous in (True, False)]
    totals = (tally.anomalous, tally.images - tally.anomalous)
    names = ("Called anomalous", "Called normal")
    return [Group(*each) for each in zip(names, (about, about), parts, totals, strict=True) if each[2]]


def _kept(groups: list[tuple[str, str, list[Record]]]) -> list[Group]:
    """Cut every group to a few, no image twice."""
    shown: set[int] = set()
    kept = []
    for name, about, records in groups:
        few = [record for record in records if record.index not in shown][:FEW]
        shown |= {record.index for record in few}
        if few:
            kept.append(Group(name, about, few, len(records)))
    return kept
