"""Which descriptions fit (the paper's figure 4): of a class on average, and of one image."""

from collections.abc import Callable, Iterable

from filo.charts import dumbbell
from filo.markup import Markup, tag
from filo.records import Record
from filo.report.format import number
from filo.report.table import Cell, sortable
from filo.summary import NORMAL, SORTS, Tally

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


def cosine_span(tallies: Iterable[Tally]) -> tuple[float, float]:
    """Give the cosines of an empty and of a whole bar: 0, or the lowest if that is below, and the highest."""
    ends = [(tally.lowest, tally.highest) for tally in tallies]
    return min([0.0, *(low for low, _ in ends)]), max([0.01, *(high for _, high in ends)])


def similarity_table(tally: Tally) -> Markup | None:
    """Give a row for each description of a class: its mean cosine with normal and with anomalous images.

    Where there is but one sort of images, one column.
    """
    means = {
        sort: {kind: mean.value for kind, mean in tally.cosines[sort].items()}
        for sort in SORTS
        if sort in tally.cosines
    }
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
