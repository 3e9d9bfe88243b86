"""Which published figures stand beside a run's own: those of FiLo's paper and of its released logs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """The figures of one dataset.

    Attributes:
        rows: source ("paper", "log") -> class or "mean" -> metric -> value in [0, 1]
        sources: source -> where it can be read
        note: what to keep in mind in comparing
        is_whole: the run has every published class, so the means may be compared
    """

    rows: Mapping[str, Mapping[str, Mapping[str, float]]]
    sources: Mapping[str, str]
    note: str
    is_whole: bool

    def of(self, row: str, metric: str) -> dict[str, float]:
        """Give a metric of a class, or of `mean`, by source; nothing where nothing was published."""
        if row == "mean" and not self.is_whole:
            return {}
        found = {source: rows.get(_key(row), {}).get(metric) for source, rows in self.rows.items()}
        return {source: value for source, value in found.items() if value is not None}


def find_published(dataset: str | None, classes: Iterable[str]) -> Published | None:
    """Find the figures of a dataset by its name, or by its classes where they are all the published ones."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    tested = {_key(name) for name in classes}
    for name, sources in content["datasets"].items():
        known = sources["paper"].keys() - {"mean"}
        if (dataset == name and tested & known) or tested == known:
            rows = {
                source: {row: _shares(values) for row, values in rows.items()}
                for source, rows in sources.items()
            }
            return Published(rows, content["sources"], content["note"], tested == known)
    return None


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _shares(percent: Mapping[str, float]) -> dict[str, float]:
    return {metric: value / 100 for metric, value in percent.items()}
