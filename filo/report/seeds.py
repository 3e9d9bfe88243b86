"""The page of a test by several seeds: means and standard deviations, and the way to each seed's own page."""

from dataclasses import dataclass
from pathlib import Path

from filo.errors import InputError
from filo.kinds import DAMAGES
from filo.markup import Markup, join, tag
from filo.metrics import COLUMNS
from filo.prompts import spoken
from filo.report.format import MEANING, count
from filo.report.head import about_published, head, means, note_list, over
from filo.report.provenance import list_provenance
from filo.report.published import DEFAULT, Published, find_published
from filo.report.run import RESULTS, read_json
from filo.report.table import Cell, metric, sortable
from filo.run_folder import seed_folder

SPREAD = "Behind ± stands the standard deviation over the seeds, which draw the normal images that are shown."


@dataclass(frozen=True)
class Seeds:
    """A test by several seeds.

    Attributes:
        about: what results.json says: means as of a single test, `std` beside them, `seeds`
        shots: how many normal images of each class each seed drew
    """

    folder: Path
    about: dict
    method: str
    dataset: str | None
    shots: int

    @property
    def title(self) -> str:
        """What it was tested on, or whatever the folder is called."""
        return str(self.dataset or self.folder.resolve().name)


def read_seeds(folder: Path) -> Seeds | None:
    """Read what `test.py` wrote beside the folders of several seeds; None where there is nothing of the kind.

    Raises:
        InputError: it is damaged.
    """
    path = folder / RESULTS
    about = read_json(path) if path.is_file() else {}
    if "seeds" not in about:
        return None
    try:
        arguments, deviations = about["arguments"], about["std"]
        complete = about["classes"].keys() == deviations["classes"].keys()
        if not (complete and about["mean"].keys() >= set(COLUMNS) and about["seeds"]):
            raise ValueError("a class or a metric is missing")
        return Seeds(
            folder, about, about.get("method", DEFAULT), arguments.get("dataset"), arguments["shots"]
        )
    except DAMAGES as error:
        raise InputError(f"{path} is damaged ({error}); run the command that wrote it again") from error


def seeds_content(run: Seeds, page: str) -> Markup:
    """Give the page's content; `page` is what a seed's own is called."""
    about, deviations = run.about, run.about["std"]
    published = find_published(run.method, run.dataset, about["classes"], run.shots)
    sentence = (
        f"{count(about['images'], 'image')} of {count(len(about['classes']), 'class')}, tested "
        f"{count(len(about['seeds']), 'time')}, each time with other references."
    )
    notes = [SPREAD, *about_published(about, published), *map(str, about.get("notes") or [])]
    return join(
        head(
            over(run.method, run.shots, "test"),
            run.title,
            sentence,
            means(about["mean"], published, deviations["mean"]),
        ),
        tag(
            "main",
            tag(
                "section",
                tag("h2", "Class by class"),
                _table(about, published),
                note_list(notes),
                id="results",
            ),
            tag("section", tag("h2", "Seed by seed"), _own_pages(run, page), id="seeds"),
        ),
        list_provenance({key: value for key, value in about.items() if key not in ("std", "references")}),
    )


def _table(about: dict, published: Published | None) -> Markup:
    """A row for each class and their mean, a column for each metric."""
    heads, deviations = ["class", *(MEANING[column] for column in COLUMNS)], about["std"]["classes"]
    rows = [
        [(spoken(name), None), *_cells(name, values, deviations[name], published)]
        for name, values in about["classes"].items()
    ]
    mean = _cells("mean", about["mean"], about["std"]["mean"], published)
    return sortable("results", heads, rows, [("mean", None), *mean])


def _cells(row: str, values: dict, spread: dict, published: Published | None) -> list[Cell]:
    return [metric(row, column, values.get(column), published, spread.get(column)) for column in COLUMNS]


def _own_pages(run: Seeds, page: str) -> Markup:
    """Which references each seed drew, and where its own page is, if it has one."""
    rows = []
    for seed in run.about["seeds"]:
        folder = seed_folder(run.folder, seed)
        name = tag("a", f"seed {seed}", href=f"{folder.name}/{page}") if (folder / page).is_file() else None
        drawn = (run.about.get("references") or {}).get(str(seed), {})
        shown = [tag("div", tag("i", spoken(each)), ", ".join(files)) for each, files in drawn.items()]
        rows += [tag("dt", name or f"seed {seed}"), tag("dd", shown)]
    return tag("div", tag("dl", rows), class_="facts")
