"""The table of a report: the metrics of every class with the published ones below, or what was decided."""

from collections.abc import Mapping, Sequence

import numpy as np

from filo.markup import Markup, join, tag
from filo.metrics import COLUMNS, percent
from filo.prompts import spoken
from filo.records import Record
from filo.report.cut import Cut, errors
from filo.report.format import MEANING, number, points
from filo.report.published import Published
from filo.report.run import Run
from filo.summary import SORTS, Tally

Cell = tuple[object, float | None]  # what is shown, what is sorted by


def metrics_table(
    run: Run, cuts: Mapping[str, Cut], anchors: Mapping[str, str], published: Published | None
) -> Markup:
    """Give a row for each class and their mean, a column for each metric, and how many images went wrong."""
    heads = ["class", "images", "missed", "false alarms", *(MEANING[column] for column in COLUMNS)]
    rows = []
    for name, values in run.about["classes"].items():
        tally = run.classes[name]
        cells = [metric(name, column, values.get(column), published) for column in COLUMNS]
        rows.append([_link(name, anchors), _count(tally.images), *_wrong(tally, cuts[name]), *cells])
    mean = run.about["mean"]
    cells = [metric("mean", column, mean.get(column), published) for column in COLUMNS]
    total = run.summary.images
    return sortable("results", heads, rows, [_text("mean"), _count(total), ("", None), ("", None), *cells])


def decision_table(run: Run, cuts: Mapping[str, Cut], anchors: Mapping[str, str]) -> Markup:
    """Give a row for each class: how many images, how many of them were called anomalous, their scores."""
    heads = ["class", "images", "anomalous", "threshold", "median score", "highest score"]
    rows = []
    for name, tally in run.classes.items():
        if not tally.images:  # none of them could be read
            rows.append([_text(spoken(name)), _count(0), *[("n/a", None)] * 4])
            continue
        cut, scores = cuts[name], tally.scores_of(*SORTS)
        decided = [("n/a", None)] * 2
        if cut.threshold is not None:
            decided = [_count(tally.anomalous), (number(cut.threshold), cut.threshold)]
        marks = [(number(value), value) for value in (float(np.median(scores)), float(scores.max()))]
        rows.append([_link(name, anchors), _count(tally.images), *decided, *marks])
    return sortable("decisions", heads, rows)


def kinds_table(records: Sequence[Record], cut: Cut) -> Markup | None:
    """Give a row for each kind of defect in a class: how many images show it and how many were missed."""
    kinds = sorted({record.kind for record in records if record.label == 1})
    if len(kinds) < 2:
        return None
    rows = []
    for kind in kinds:
        own = [record for record in records if record.label == 1 and record.kind == kind]
        median = float(np.median([record.score for record in own]))
        missed = sum(not cut.finds(record) for record in own)
        rows.append([_text(spoken(kind)), _count(len(own)), _count(missed), (number(median), median)])
    rows.sort(key=lambda row: -row[2][1] / row[1][1])
    return sortable("kinds", ["kind of defect", "images", "missed", "median score"], rows)


def sortable(
    name: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], foot: Sequence[Cell] = ()
) -> Markup:
    """Make a table whose rows a script sorts by the column that is clicked; its foot stays where it is."""
    top = tag("tr", [tag("th", head, scope="col") for head in heads])
    body = tag("tbody", [_row(row) for row in rows])
    table = tag("table", tag("thead", top), body, tag("tfoot", _row(foot)) if foot else None, class_=name)
    return tag("div", table, class_="wide", tabindex=0, role="region", aria_label=f"table of {name}")


def _row(cells: Sequence[Cell]) -> Markup:
    first, *others = cells
    head = tag("th", first[0], scope="row", data_v=first[1])
    return tag("tr", head, [tag("td", shown, data_v=value) for shown, value in others])


def metric(
    row: str, column: str, value: float | None, published: Published | None, spread: float | None = None
) -> Cell:
    """Give the cell of a metric: its value, with `spread` its standard deviation, what is published below."""
    known = published.of(row, column) if published else {}
    below = [
        tag(
            "span",
            tag("i", source),
            f" {percent(figure)} ",
            tag("b", points(value - figure)) if value is not None else None,
            class_="published",
        )
        for source, figure in known.items()
    ]
    shown = percent(value, spread)
    return join(tag("span", shown, class_="ours"), below), value


def _wrong(tally: Tally, cut: Cut) -> list[Cell]:
    if cut.threshold is None:
        return [("n/a", None)] * 2
    alarms, misses = errors(tally.records, cut)
    of = [(misses, tally.anomalous), (alarms, tally.images - tally.anomalous)]
    return [
        (join(f"{len(wrong):,}", tag("span", f" of {total:,}", class_="of")), float(len(wrong)))
        for wrong, total in of
    ]


def _link(name: str, anchors: Mapping[str, str]) -> Cell:
    return tag("a", spoken(name), href=f"#{anchors[name]}"), None


def _text(text: str) -> Cell:
    return text, None


def _count(number: int) -> Cell:
    return f"{number:,}", float(number)
