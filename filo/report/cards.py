"""How one image stands in a report: picture, score, where and what."""

from filo.markup import Markup, tag
from filo.prompts import spoken
from filo.records import Record
from filo.report.cut import Cut
from filo.report.format import number
from filo.report.pictures import Album
from filo.report.similar import kinds_list

KINDS = 3  # descriptions listed below an image


def card(record: Record, cut: Cut, album: Album, span: tuple[float, float]) -> Markup:
    """Make the figure of an image; `span` is of the bars of cosines, see `cosine_span`."""
    verdict, look = _judge(record, cut)
    picture = album.picture(record, _alternative(record, verdict))
    if picture is None and album.has_pictures:
        picture = tag("p", "no picture", class_="none")
    head = tag(
        "p",
        tag("b", number(record.score), class_="score"),
        tag("span", verdict, class_=f"verdict {look}") if verdict else None,
        class_="head",
    )
    others = [(each.name, each.record_of(record)) for each in album.others]
    said = " · ".join(f"{name} {number(own.score)}" for name, own in others if own)
    beside = tag("p", said, class_="beside") if said else None
    place = "" if verdict == "normal" else record.position
    more = [spoken(record.kind) if record.label else "", place]
    words = "".join(f" · {word}" for word in more if word)
    where = tag("p", tag("span", _breakable(record.image), class_="name"), words, class_="about")
    caption = tag("figcaption", head, beside, where, kinds_list(record, KINDS, span))
    return tag("figure", picture, caption, class_="card", data_verdict=look)


def _breakable(path: str) -> list[str]:
    """Let a path break behind its slashes first."""
    folders = path.split("/")
    return [part for folder in folders[:-1] for part in (f"{folder}/", tag("wbr"))] + folders[-1:]


def filter_form(decides: bool) -> Markup:
    """Make the controls that show some cards alone; hidden, since only the script can work them."""
    word = tag("input", type="search", name="word", placeholder="part of a file name", aria_label="file name")
    choices = (("", "all"), ("yes", "anomalous"), ("no", "normal"))
    radios = [
        tag("label", tag("input", type="radio", name="verdict", value=value, checked=not value), name)
        for value, name in (choices if decides else ())
    ]
    return tag("form", word, radios, tag("output"), class_="filter", hidden=True)


def _judge(record: Record, cut: Cut) -> tuple[str, str]:
    """Say what was decided, or else what is known, and how it looks: `yes` anomalous, `no`, `wrong`."""
    anomalous, normal = ("anomalous", "yes"), ("normal", "no")
    if cut.threshold is None:
        return ("", "") if record.label is None else (anomalous if record.label else normal)
    found = cut.finds(record)
    if record.label is None:
        return anomalous if found else normal
    if record.label:
        return ("found", "yes") if found else ("missed", "wrong")
    return ("false alarm", "wrong") if found else normal


def _alternative(record: Record, verdict: str) -> str:
    """Tell in words what the picture shows."""
    known = "its defect outlined, " if record.has_mask and record.label else ""
    judged = f", {verdict}" if verdict else ""
    return f"{record.image} and the same with its anomaly map, {known}score {number(record.score)}{judged}"
