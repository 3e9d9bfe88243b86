"""What a report says first: what was looked at, the figures that matter, and what to keep in mind."""

from collections.abc import Mapping

from filo.markup import Markup, tag
from filo.metrics import percent
from filo.report.cut import Cut
from filo.report.format import MEANING, count
from filo.report.published import Published, title_of
from filo.report.run import Run

MOST = 12  # failures that are named
SHOWN = ("auroc_sp", "auroc_px", "aupro", "ap_px")


def header(run: Run, cuts: Mapping[str, Cut], published: Published | None) -> Markup:
    """Give title, one sentence and at most four large figures."""
    kind = "test" if run.is_test else "prediction"
    figures = means(run.about["mean"], published) if run.is_test else _decisions(run, cuts)
    return head(over(run.method, run.shots, kind), run.title, _sentence(run), figures)


def head(above: str, title: str, sentence: str, figures: list[Markup]) -> Markup:
    """Lay out what a page says first."""
    return tag(
        "header",
        tag("p", above, class_="over"),
        tag("h1", title),
        tag("p", sentence, class_="lead"),
        tag("div", figures, class_="figures"),
    )


def over(method: str, shots: int, kind: str) -> str:
    """Say above the title which method this is, and of what sort."""
    return f"{title_of(method, shots)} · {'few' if shots else 'zero'}-shot anomaly detection · {kind}"


def _sentence(run: Run) -> str:
    classes = run.classes
    what = f"{count(run.summary.images, 'image')} of {count(len(classes), 'class')}"
    if not run.is_test:
        return f"{what}."
    anomalous = sum(tally.anomalous for tally in classes.values())
    trained = (run.about.get("trained") or {}).get("dataset")
    return f"{what}, {anomalous:,} of them anomalous" + (f"; trained on {trained}." if trained else ".")


def means(
    mean: Mapping[str, float | None],
    published: Published | None,
    deviations: Mapping[str, float | None] | None = None,
) -> list[Markup]:
    """Give the means over the classes as large figures, with what is published below."""
    figures = []
    for metric in SHOWN:
        known = published.of("mean", metric) if published else {}
        below = " · ".join(f"{source} {percent(value)}" for source, value in known.items())
        shown = percent(mean.get(metric), deviations and deviations.get(metric))
        figures.append(_figure(shown, f"mean {MEANING[metric]}", below))
    return figures


def _decisions(run: Run, cuts: Mapping[str, Cut]) -> list[Markup]:
    found = sum(tally.anomalous or 0 for tally in run.classes.values())
    decided = any(cut.threshold is not None for cut in cuts.values())
    failed = run.summary.failed
    figures = [_figure(f"{run.summary.images - failed:,}", "images looked at")]
    figures += [_figure(f"{found:,}", "called anomalous")] if decided else []
    return figures + ([_figure(f"{failed:,}", "could not be read")] if failed else [])


def _figure(value: str, name: str, below: str = "") -> Markup:
    return tag("div", tag("b", value), tag("span", name), tag("small", below) if below else None)


def notes(run: Run, published: Published | None) -> Markup | None:
    """Say what a reader of the table has to know: where figures come from, and why some are missing."""
    lines = [*about_published(run.about, published), *map(str, run.about.get("notes") or [])]
    arguments, trained = run.about.get("arguments") or {}, run.about.get("trained") or {}
    if run.is_test and trained.get("dataset") == arguments.get("dataset"):
        lines.append("Trained on the dataset under test: these numbers are not zero-shot.")
    if run.is_test and not any((curves or {}).get("pixel") for curves in run.curves.values()):
        lines.append(
            "No curves over pixels are kept: test.py with --report keeps them, where there are masks."
        )
    if run.is_cut:
        lines.append("Of each class the highest scores are shown; predictions.csv has all images.")
    lines += [f"{record.image}: {record.error}" for record in run.summary.named[:MOST]]
    if run.summary.failed > MOST:
        lines.append(f"and {run.summary.failed - MOST:,} more failed; predictions.jsonl has them all")
    return note_list(lines)


def note_list(lines: list[str]) -> Markup | None:
    return tag("ul", [tag("li", line) for line in lines], class_="notes") if lines else None


def about_published(about: dict, published: Published | None) -> list[str]:
    """Say where the published figures come from, and how far they compare with a run's own."""
    if published is None:
        return []
    lines = [f"{source}: {where}." for source, where in published.sources.items()]
    if not any("mean" in rows for rows in published.rows.values()):
        lines.append(
            "The published means are over other classes than were tested, so none stands beside ours."
        )
    elif published.is_part:
        which = f"{count(published.tested, 'tested class')} of {published.known}"
        lines.append(f"The published means beside ours are over the {which}, from their printed figures.")
    trained = str((about.get("trained") or {}).get("dataset", "unknown"))
    if published.trained_on and trained not in (published.trained_on, "unknown"):
        lines.append(
            f"Published are figures of weights trained on {published.trained_on}; these were trained on "
            f"{trained}."
        )
    return [*lines, published.note, "Differences are ours less the published figure, in points."]
