"""What a report says of one class: curves, scores, descriptions, and its images, the worst first."""

from filo.markup import Markup, tag
from filo.prompts import spoken
from filo.report.cards import card
from filo.report.cut import Cut, Group, decided, errors, groups
from filo.report.format import count, number
from filo.report.graphs import curve_figures, score_figure
from filo.report.pictures import Album
from filo.report.run import Run
from filo.report.similar import similarity_table
from filo.report.table import kinds_table
from filo.summary import Tally


def class_section(
    run: Run, name: str, anchor: str, cut: Cut, album: Album, span: tuple[float, float]
) -> Markup:
    """Say everything about a class; `span` is of the bars of cosines, see `cosine_span`."""
    tally = run.classes[name]
    parts = _tested if run.is_test else _predicted
    return tag(
        "section",
        tag("h2", spoken(name)),
        tag("p", _summary(run, tally, cut), class_="summary"),
        parts(run, name, tally, cut, album, span),
        id=anchor,
        class_="class",
    )


def _tested(
    run: Run, name: str, tally: Tally, cut: Cut, album: Album, span: tuple[float, float]
) -> list[Markup | None]:
    records = tally.records
    charts = tag("div", curve_figures(run, name), score_figure(run, tally, cut), class_="charts")
    pictures = [_gallery(group, cut, album, span) for group in groups(records, cut)]
    kinds = _part("Kinds of defects", "the most missed first", kinds_table(records, cut))
    return [charts, *(pictures if album.has_pictures else []), kinds, _descriptions(tally, cut, True)]


def _predicted(
    run: Run, name: str, tally: Tally, cut: Cut, album: Album, span: tuple[float, float]
) -> list[Markup | None]:
    """The images come last: they are many, and those that seem normal are folded."""
    charts = tag("div", score_figure(run, tally, cut), class_="charts")
    overview = tag("div", charts, _descriptions(tally, cut, False), class_="overview")
    return [overview, *(_gallery(group, cut, album, span) for group in decided(tally, cut))]


def _summary(run: Run, tally: Tally, cut: Cut) -> str:
    if cut.threshold is None:
        return f"{count(tally.images, 'image')}, none of them decided: {cut.origin}."
    threshold = f"The threshold is {number(cut.threshold)}, {cut.origin}."
    if not run.is_test:
        return f"{tally.anomalous:,} of {count(tally.images, 'image')} called anomalous. {threshold}"
    alarms, misses = errors(tally.records, cut)
    anomalous = tally.anomalous
    normal = tally.images - anomalous
    return (
        f"{anomalous - len(misses):,} of {count(anomalous, 'anomalous image')} found, "
        f"{count(len(alarms), 'false alarm')} among {count(normal, 'normal image')}. {threshold}"
    )


def _gallery(group: Group, cut: Cut, album: Album, span: tuple[float, float]) -> Markup:
    shown = "" if group.total == len(group.records) else f"{len(group.records)} of "
    about = ", ".join(filter(None, [f"{shown}{group.total:,}", group.about]))
    cards = tag("div", [card(record, cut, album, span) for record in group.records], class_="cards")
    if group.name == "Called normal":
        return tag("details", tag("summary", _title(group.name, about)), cards, class_="group calm")
    return _part(group.name, about, cards)


def _descriptions(tally: Tally, cut: Cut, is_test: bool) -> Markup | None:
    called = "" if is_test or cut.threshold is None else ", by what the images were called"
    about = f"mean cosine of description and image{called}"
    return _part("Which descriptions fit", about, similarity_table(tally))


def _part(title: str, about: str, content: Markup | None) -> Markup | None:
    return None if content is None else tag("div", _title(title, about), content, class_="group")


def _title(title: str, about: str) -> Markup:
    return tag("h3", title, " ", tag("span", about))
