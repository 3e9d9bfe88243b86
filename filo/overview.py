"""How methods do on many datasets: a row for each, industrial ones first, then medical ones, and their means.

python -m filo.overview checkpoints/anomalyclip_*/test_on_*
python -m filo.overview checkpoints/*/test_on_mvtec checkpoints/*/test_on_visa --beside winclip april-gan

All comes from the results.json of finished tests. What is published for a run's method stands beside it.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from filo import options
from filo.compare import RESULTS, read_results, read_spread
from filo.errors import InputError, exit_clearly, printable
from filo.files import write_text
from filo.metrics import Metrics, mean_metrics, percent
from filo.report.published import DEFAULT, Published, find_published, known_methods, title_of

INDUSTRIAL = ("mvtec", "visa", "mpdd", "btad", "sdd", "dagm", "dtd_synthetic")
MEDICAL = ("headct", "brainmri", "br35h", "covid19")  # no masks
MEDICAL += ("isic", "colondb", "clinicdb", "kvasir", "endo", "tn3k")  # no normal images
SHOWN = ("auroc_sp", "ap_sp", "auroc_px", "aupro_legacy")


@dataclass(frozen=True)
class Line:
    """One run on one dataset, or what is published of a method without a run.

    Attributes:
        name: what the run is called; lines of one name are averaged
        ours: the run's means, None where undefined; empty without a run
        published: what stands beside them, where anything does
        shots: how many normal images of each class were shown
        spread: standard deviations over several seeds, where there are several
        trained_on: the dataset of the run's weights, where it says so
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    ours: Metrics
    published: Published | None
    shots: int = 0
    trained_on: str | None = None
    spread: Metrics = field(default_factory=dict)

    def source(self, metric: str) -> str | None:
        """Name the source of the published mean, the first that has this metric."""
        return next(iter(self.published.of("mean", metric)), None) if self.published else None

    @property
    def beside(self) -> Metrics:
        """The published means that there are."""
        sources = {metric: self.source(metric) for metric in SHOWN}
        return {m: self.published.of("mean", m)[source] for m, source in sources.items() if source}

    @property
    def label(self) -> str:
        about = self.published
        part = f" ({about.tested} of {about.known} classes)" if about and about.is_part else ""
        return self.dataset + part


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="a folder that test.py wrote, and whose row it is in (default: the method's)",
    )
    add("--beside", nargs="+", default=[], choices=known_methods(), help="published rows of other methods")
    add("--out", type=Path, help="write the table there as well")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    lines = read_lines(args.runs)
    lines = in_order(lines + other_lines(lines, args.beside))
    text = "\n\n".join(filter(None, (format_lines(lines), "\n".join(footnotes(lines)))))
    print(text)
    if args.out:
        write_text(args.out, text + "\n")


def read_lines(runs: Iterable[str]) -> list[Line]:
    """Read the results of runs, each `[NAME=]FOLDER`.

    Raises:
        InputError: a folder holds no results, or two runs of one name are on one dataset.
    """
    lines: dict[tuple[str, str], Line] = {}
    for run in runs:
        line = _read(run)
        if (line.name, line.dataset) in lines:
            raise InputError(
                f"{run} is the second run of {line.name} on {line.dataset}: tell them apart as NAME=FOLDER"
            )
        lines[line.name, line.dataset] = line
    return list(lines.values())


def _read(run: str) -> Line:
    given, folder = options.split_name(run)
    said = read_results(folder)
    try:
        dataset, classes = said["arguments"]["dataset"], tuple(said["classes"])
        method, trained_on = said.get("method", DEFAULT), (said.get("trained") or {}).get("dataset")
        shots = said["arguments"].get("shots", 0)
        if not all(isinstance(word, str) for word in (dataset, method, *classes)):
            raise TypeError("a name is no text")
        if not isinstance(shots, int):
            raise TypeError("shots is no number")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / RESULTS} does not say what was tested ({type(error).__name__}: {error}); name a "
            "folder that test.py wrote"
        ) from error
    name = given if "=" in run else title_of(method, shots)
    published = find_published(method, dataset, classes, shots)
    spread = read_spread(said)
    return Line(
        printable(name), printable(dataset), classes, said["mean"], published, shots, trained_on, spread
    )


def other_lines(lines: Sequence[Line], methods: Iterable[str]) -> list[Line]:
    """Give what is published of methods on the datasets, classes and numbers of references of these lines."""
    tested = {(line.dataset, line.shots): line.classes for line in reversed(lines)}
    return [
        Line(f"{published.method}, published", dataset, classes, {}, published, shots)
        for method in methods
        for (dataset, shots), classes in tested.items()
        if (published := find_published(method, dataset, classes, shots))
    ]


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Put the industrial datasets first, those that are in no list behind them, then the medical ones; the
    lines of one dataset stay as they are.
    """
    places = {name: place for place, name in enumerate((*INDUSTRIAL, "", *MEDICAL))}
    given = list(lines)
    datasets = list(dict.fromkeys(line.dataset for line in given))
    names = list(dict.fromkeys(line.name for line in given))
    return sorted(
        given,
        key=lambda line: (
            places.get(line.dataset, places[""]),
            datasets.index(line.dataset),
            names.index(line.name),
        ),
    )


def format_lines(lines: Sequence[Line]) -> str:
    """Give the table: each metric in percent with the published figure, and of several datasets the means of
    every group, and of all where there are two.
    """
    groups = {"industrial": [line for line in lines if line.dataset not in MEDICAL]}
    groups["medical"] = [line for line in lines if line.dataset in MEDICAL]
    rows = []
    for group, own in groups.items():
        rows += [(line.label, line.name, line.ours, line.beside, line.spread) for line in own]
        rows += _means(group, own) if len({line.dataset for line in lines}) > 1 else []
    rows += _means("", lines) if all(groups.values()) else []
    cells = [[*row[:2], *(cell for metric in SHOWN for cell in _cells(metric, *row[2:]))] for row in rows]
    heads = ["set", "run", *(head for metric in SHOWN for head in (metric, "published"))]
    if len({line.name for line in lines}) == 1:
        heads, cells = heads[:1] + heads[2:], [row[:1] + row[2:] for row in cells]
    align = ["left"] * (len(heads) - 2 * len(SHOWN)) + ["right"] * 2 * len(SHOWN)
    return tabulate(cells, heads, tablefmt="pipe", disable_numparse=True, colalign=align)


def _means(group: str, lines: Sequence[Line]) -> list[tuple]:
    rows = []
    for name in dict.fromkeys(line.name for line in lines):
        own = [line for line in lines if line.name == name]
        ours = mean_metrics([line.ours for line in own]) if own[0].ours else {}
        means = {metric: _mean_beside(own, lines, metric) for metric in SHOWN}
        beside = {metric: mean for metric, mean in means.items() if mean is not None}
        rows.append((f"mean of {len(own)} {group}".strip(), name, ours, beside, {}))
    return rows


def _mean_beside(own: Sequence[Line], lines: Sequence[Line], metric: str) -> float | None:
    """Average published figures over the very datasets that our own mean is over; None if one is missing."""
    runs = own if own[0].ours else lines
    wanted = {line.dataset for line in runs if line.ours.get(metric) is not None}
    values = [line.beside.get(metric) for line in own if line.dataset in wanted]
    whole = len(values) == len(wanted) > 0 and None not in values
    return sum(values) / len(values) if whole else None


def _cells(metric: str, ours: Metrics, beside: Metrics, spread: Metrics) -> tuple[str, str]:
    own = percent(ours[metric], spread.get(metric)) if metric in ours else ""
    return own, percent(beside[metric]) if metric in beside else ""


def footnotes(lines: Iterable[Line]) -> list[str]:
    """Say where the published figures come from, and how far they compare with ours."""
    where: dict[tuple[str, str], list[str]] = {}  # what of whom, where it stands -> datasets
    notes: dict[str, None] = {}
    for line in lines:
        sources = {metric: line.source(metric) for metric in line.beside}
        for source in dict.fromkeys(sources.values()):
            some = ", ".join(metric for metric in sources if sources[metric] == source)
            what = line.published.method + (f" ({some})" if len(set(sources.values())) > 1 else "")
            where.setdefault((what, line.published.sources[source]), []).append(line.dataset)
            notes[f"{line.published.method}: {line.published.note}"] = None
        notes |= dict.fromkeys(_differences(line))
    if any(line.ours and None in (line.ours[metric] for metric in SHOWN) for line in lines):
        notes["n/a: undefined (no masks, no normal images) or not asked for, and left out of the means."] = (
            None
        )
    told = [f"published, {what} on {', '.join(on)}: {source}" for (what, source), on in where.items()]
    return [f"- {note}" for note in (*told, *notes)]


def _differences(line: Line) -> Iterable[str]:
    if not line.beside or not line.ours:
        return
    if line.published.is_part:
        yield "Where not all published classes were tested, the published mean is over the tested ones alone."
    trained, wanted = line.trained_on, line.published.trained_on
    if wanted and trained not in (None, "unknown", wanted):
        ours = f"{line.name} on {line.dataset} is by weights trained on {printable(str(trained))}"
        yield f"{ours}, the published figures by such trained on {wanted}."


if __name__ == "__main__":
    exit_clearly(main)
