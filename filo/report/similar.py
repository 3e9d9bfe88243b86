"""Which descriptions fit (the paper's figure 4): of a class on average, and of one image."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from filo.charts import dumbbell
from filo.markup import Markup, tag
from filo.records import Record
from filo.report.cut import Cut
from filo.report.format import number
from filo.report.table import Cell, sortable

NORMAL = "what is normal"

Means = dict[str, dict[str, float]]  # sort of images -> description -> mean cosine


def kinds_list(record: Record, most: int, span: tuple[float, float]) -> Markup | None:
    """List the descriptions that fit an image best, and what is normal where it ranks among them.

    `span` holds the cosines of an empty and of a whole bar, the same for the whole run.
    """
    if not record.kinds:
        return None
    ranked = [(kind, value, value > record.normal_similarity) for kind, value in record.kinds[:most]]
    ranked.append((NORMAL, record.normal_similarity, None))
    ranked.sort(key=lambda each: -each[1])
    looks = {True: "fits-better", None: "is-normal"}
    items = [
        tag(
            "li",
            tag("span", kind),
            tag("b", number(value)),
            class_=looks.get(better),
            style=f"--v:{100 * min(1, max(0, (value - span[0]) / (span[1] - span[0]))):.0f}%",
        )
        for kind, value, better in ranked
    ]
    return tag("ol", items, class_="fits")


def cosine_span(records: Sequence[Record]) -> tuple[float, float]:
    """Give the cosines of an empty and of a whole bar: 0, or the lowest if that is below, and the highest."""
    described = [record for record in records if record.kinds]
    values = [value for record in described for _, value in record.kinds]
    values += [record.normal_similarity for record in described]
    return min([0.0, *values]), max([0.01, *values])


def similarity_table(records: Sequence[Record], cut: Cut, is_test: bool) -> Markup | None:
    """Give a row for each description of a class: its mean cosine with normal and with anomalous images.

    Where there is but one sort of images, one column.
    """
    means = {sort: _means(of_sort) for sort, of_sort in _by_sort(records, cut, is_test).items()}
    values = [value for of_sort in means.values() for value in of_sort.values()]
    if not values:
        return None
    span = (min(values), max(values))
    kinds = sorted(dict.fromkeys(kind for of_sort in means.values() for kind in of_sort), key=_order(means))
    scale = f"cosine {number(span[0])} to {number(span[1])}"
    both = len(means) > 1
    heads = ["description", *means, *(["apart"] if both else []), scale]
    return sortable("similarities", heads, [_row(kind, means, span, both) for kind in kinds])


def _row(kind: str, means: Means, span: tuple[float, float], both: bool) -> list[Cell]:
    pair = {sort: of_sort.get(kind) for sort, of_sort in means.items()}
    told = ", ".join(f"{sort} {number(value)}" for sort, value in pair.items())
    gap = _gap(kind, means)
    chart = dumbbell(pair.get("normal", pair.get("mean")), pair.get("anomalous"), span, f"{kind}: {told}")
    apart = [(number(gap, signed=True), gap)] if both else []
    return [(kind, None), *((number(value), value) for value in pair.values()), *apart, (chart, gap)]


def _by_sort(records: Sequence[Record], cut: Cut, is_test: bool) -> dict[str, list[Record]]:
    """Part images by their labels or else by the decision; without either they stay together."""
    described = [record for record in records if record.kinds]
    if not is_test and cut.threshold is None:
        return {"mean": described} if described else {}
    anomalous = [record.label == 1 if is_test else cut.finds(record) for record in described]
    sorts = {
        sort: [
            record
            for record, is_anomalous in zip(described, anomalous, strict=True)
            if is_anomalous == wanted
        ]
        for sort, wanted in (("normal", False), ("anomalous", True))
    }
    return {sort: of_sort for sort, of_sort in sorts.items() if of_sort}


def _means(records: Sequence[Record]) -> dict[str, float]:
    values = defaultdict(list)
    for record in records:
        for kind, value in ((NORMAL, record.normal_similarity), *record.kinds):
            values[kind].append(value)
    return {kind: float(np.mean(each)) for kind, each in values.items()}


def _gap(kind: str, means: Means) -> float | None:
    """How much nearer a description is to the anomalous images than to the normal ones."""
    pair = [means.get(sort, {}).get(kind) for sort in ("normal", "anomalous")]
    return None if None in pair else pair[1] - pair[0]


def _order(means: Means) -> Callable[[str], tuple]:
    """Normal first, then what tells the two sorts apart best, or fits best."""

    def place(kind: str) -> tuple:
        gap = _gap(kind, means)
        fit = max(of_sort[kind] for of_sort in means.values() if kind in of_sort)
        return kind != NORMAL, -fit if gap is None else -gap

    return place
