"""The drawings of one class in a report: curves, and how scores lie about the threshold."""

from collections.abc import Sequence

from filo.charts import Curve, curve_chart, histogram
from filo.markup import Markup, tag
from filo.metrics import FPR_LIMIT
from filo.prompts import spoken
from filo.records import Record
from filo.report.cut import Cut
from filo.report.format import MEANING, percent
from filo.report.run import Run

# title, name in curves.json, axes, end of the x axis, areas: which curves there are and what they amount to
FORMS = (
    ("ROC", "roc", ("false-positive rate", "recall"), 1.0, {"image": "auroc_sp", "pixel": "auroc_px"}),
    ("Precision and recall", "pr", ("recall", "precision"), 1.0, {"image": "ap_sp", "pixel": "ap_px"}),
    ("Overlap per region", "pro", ("false-positive rate", "overlap"), FPR_LIMIT, {"pixel": "aupro"}),
)
LOOKS = {"image": "one", "pixel": "two"}


def curve_figures(run: Run, name: str) -> list[Markup]:
    """Draw the curves that the run kept of a class, with their areas."""
    curves, metrics = run.curves.get(name) or {}, run.about["classes"].get(name) or {}
    figures = []
    for title, key, labels, x_max, areas in FORMS:
        found = {level: (curves.get(level) or {}).get(key) for level in areas}
        drawn = {level: points for level, points in found.items() if points}
        if drawn:
            lines = [Curve(*points, LOOKS[level]) for level, points in drawn.items()]
            words = [
                _key(LOOKS[level], f"{MEANING[areas[level]]} {percent(metrics.get(areas[level]))}")
                for level in drawn
            ]
            chart = curve_chart(lines, f"{title} of {spoken(name)}", labels, x_max, chance=key == "roc")
            figures.append(_figure(title, chart, words))
    return figures


def score_figure(run: Run, records: Sequence[Record], cut: Cut) -> Markup:
    """Draw how many images have which score: normal ones upwards, anomalous ones downwards."""
    upper = [record.score for record in records if record.label != 1]
    lower = [record.score for record in records if record.label == 1]
    scores = [*upper, *lower, *([] if cut.threshold is None else [cut.threshold])]
    known = f": {len(upper)} normal, {len(lower)} anomalous" if run.is_test else ""
    about = f"how many of {len(records)} images have which score{known}"
    chart = histogram(upper, lower, (min(scores), max(scores)), about, cut.threshold)
    words = [_key("normal", "normal"), _key("anomalous", "anomalous")] if run.is_test else []
    words += [] if cut.threshold is None else [_key("threshold", "threshold")]
    return _figure("Scores", chart, words)


def _figure(title: str, chart: Markup, words: Sequence[Markup]) -> Markup:
    return tag("figure", tag("figcaption", tag("b", title), words), chart)


def _key(look: str, text: str) -> Markup:
    return tag("span", tag("i", class_=look), text, class_="key")
