"""What other tests of the same images say, beside the run that a report is of: scores, maps, metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filo.errors import InputError
from filo.markup import Markup, tag
from filo.metrics import percent
from filo.plots import Scale
from filo.prompts import spoken
from filo.records import Record
from filo.report.format import MEANING
from filo.report.published import title_of
from filo.report.run import Run, choose_scale, read_run
from filo.report.table import sortable

COLUMNS = ("auroc_sp", "auroc_px", "aupro")


@dataclass(frozen=True)
class Beside:
    """Another test, under the name it is shown by; its maps have a scale of their own."""

    name: str
    run: Run
    scale: Scale
    records: dict[tuple[str, str], Record]

    def record_of(self, record: Record) -> Record | None:
        """Give what this test says about the image of another one's record."""
        return self.records.get((record.class_name, record.image))


def read_beside(run: Run, named: Sequence[tuple[str, Path]]) -> list[Beside]:
    """Read the tests, each a name and a folder, that are to stand beside a run.

    Raises:
        InputError: one is damaged, no test, or of other images.
    """
    if named and not run.is_test:
        raise InputError(f"{run.folder} is a prediction: --beside is for runs of test.py")
    return [_read(run, *each) for each in named]


def _read(run: Run, name: str, folder: Path) -> Beside:
    found = read_run(folder)
    if not found.is_test:
        raise InputError(f"{folder} is a prediction: name a run of test.py by --beside")
    records = {(r.class_name, r.image): r for tally in found.classes.values() for r in tally.records}
    own = [r for tally in run.classes.values() for r in tally.records]
    if not any((r.class_name, r.image) in records for r in own):
        raise InputError(
            f"{folder} has no image of {run.folder}: name a test of the same dataset by --beside"
        )
    return Beside(name, found, choose_scale(found), records)


def comparison(run: Run, others: Sequence[Beside]) -> Markup | None:
    """Give the section that compares the metrics of all of them, class by class; the best is set off."""
    if not others:
        return None
    runs = [(title_of(run.method, run.shots), run), *((other.name, other.run) for other in others)]
    heads = ["class", *(f"{MEANING[column]} · {name}" for column in COLUMNS for name, _ in runs)]
    rows = [[(spoken(name), None), *_cells(name, runs)] for name in run.about["classes"]]
    table = sortable("comparison", heads, rows, [("mean", None), *_cells(None, runs)])
    return tag("section", tag("h2", "Side by side"), table, id="comparison")


def _cells(class_name: str | None, runs: Sequence[tuple[str, Run]]) -> list[tuple[object, float | None]]:
    """The cells of a class, or of the mean: of each metric one for each run."""
    cells = []
    for column in COLUMNS:
        values = [_value(run, class_name, column) for _, run in runs]
        best = max((value for value in values if value is not None), default=None)
        for value in values:
            shown = percent(value)
            cells.append((tag("b", shown) if value is not None and value == best else shown, value))
    return cells


def _value(run: Run, class_name: str | None, column: str) -> float | None:
    row = run.about["mean"] if class_name is None else run.about["classes"].get(class_name, {})
    return row.get(column)
