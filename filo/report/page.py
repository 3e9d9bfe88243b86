"""How the parts of a report become one HTML file that loads nothing and works without its script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from filo.errors import InputError
from filo.files import write_text
from filo.markup import Markup, join, tag
from filo.plots import Scale
from filo.records import Record
from filo.report.beside import Beside, comparison, read_beside
from filo.report.cards import filter_form
from filo.report.classes import class_section
from filo.report.cut import Cut, find_cut, groups
from filo.report.format import anchor
from filo.report.head import header, notes
from filo.report.legend import legend
from filo.report.pictures import Album
from filo.report.provenance import provenance
from filo.report.published import Published, find_published
from filo.report.run import Run, choose_scale, read_run
from filo.report.seeds import read_seeds, seeds_content
from filo.report.similar import cosine_span
from filo.report.table import decision_table, metrics_table

PAGE = "report.html"
HERE = Path(__file__).parent


def write_report(run: Path, scale: Scale | None = None, beside: Sequence[tuple[str, Path]] = ()) -> Path:
    """Write RUN/report.html from the files of the run and give its path; of several seeds, a page of means.

    `scale` is of all pictures; without one it is the run's own, or made of all its maps. `beside` are names
    and folders of other tests of the same images, which are shown beside it, in scales of their own.

    Raises:
        InputError: a folder holds no run, a file in it is damaged, or the page cannot be written.
    """
    if seeds := read_seeds(run):
        if beside:
            raise InputError(f"{run} is of several seeds: --beside is for the folder of one of them")
        kind, title, content = "test", seeds.title, seeds_content(seeds, PAGE)
    else:
        found = read_run(run)
        kind, title = "test" if found.is_test else "prediction", found.title
        content = _content(found, scale or choose_scale(found), read_beside(found, beside))
    write_text(run / PAGE, f"<!DOCTYPE html>\n{_document(kind, title, content)}\n")
    return run / PAGE


def _content(run: Run, scale: Scale, others: Sequence[Beside]) -> Markup:
    cuts = {name: find_cut(run, name, tally) for name, tally in run.classes.items()}
    anchors = {name: anchor(name, number) for number, name in enumerate(run.classes, start=1)}
    published = None
    if run.is_test:
        published = find_published(run.method, run.dataset, run.about["classes"], run.shots)
    album, span = Album(run, scale, _pictured(run, cuts), others), cosine_span(run.classes.values())
    sections = [
        class_section(run, name, anchors[name], cuts[name], album, span)
        for name in tqdm(run.classes, desc="report", unit="class", disable=None)
        if run.classes[name].images
    ]
    decides = any(cut.threshold is not None for cut in cuts.values())
    controls = None if run.is_test else filter_form(decides)
    return join(
        header(run, cuts, published),
        tag(
            "main",
            _results(run, cuts, anchors, published),
            comparison(run, others),
            legend(run, scale, album),
            controls,
            sections,
        ),
        provenance(run, scale),
    )


def _pictured(run: Run, cuts: Mapping[str, Cut]) -> list[Record]:
    """Choose the images that the page shows."""
    if not run.is_test:
        return [record for tally in run.classes.values() for record in tally.records]
    chosen = [groups(tally.records, cuts[name]) for name, tally in run.classes.items()]
    return [record for of_class in chosen for group in of_class for record in group.records]


def _results(
    run: Run, cuts: Mapping[str, Cut], anchors: Mapping[str, str], published: Published | None
) -> Markup:
    table = (
        metrics_table(run, cuts, anchors, published) if run.is_test else decision_table(run, cuts, anchors)
    )
    return tag("section", tag("h2", "Class by class"), table, notes(run, published), id="results")


def _document(kind: str, title: str, content: Markup) -> Markup:
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # nothing is loaded, and no script runs but ours, whatever a class or a file is called
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}: {kind} report"),
        tag("style", style),
    )
    return tag("html", head, tag("body", content, tag("script", script), class_=kind), lang="en")
