"""The drawings of one class in a report: curves, and how scores lie about the threshold."""

from collections.abc import Sequence

from filo.charts import Curve, curve_chart, histogram
from filo.markup import Markup, tag
from filo.metrics import FPR_LIMIT, percent
from filo.prompts import spoken
from filo.report.cut import Cut
from filo.report.format import MEANING
from filo.report.run import Run
from filo.summary import SORTS, Tally

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


def score_figure(run: Run, tally: Tally, cut: Cut) -> Markup:
    """Draw how many images have which score: normal ones upwards, anomalous ones downwards."""
    all_scores = tally.scores_of(*SORTS)
    upper = tally.scores_of("normal") if run.is_test else all_scores
    lower = tally.scores_of("anomalous") if run.is_test else ()
    ends = [all_scores.min(), all_scores.max(), *([] if cut.threshold is None else [cut.threshold])]
    known = f": {len(upper)} normal, {len(lower)} anomalous" if run.is_test else ""
    about = f"how many of {tally.images} images have which score{known}"
    chart = histogram(upper, lower, (float(min(ends)), float(max(ends))), about, cut.threshold)
    words = [_key("normal", "normal"), _key("anomalous", "anomalous")] if run.is_test else []
    words += [] if cut.threshold is None else [_key("threshold", "threshold")]
    return _figure("Scores", chart, words)


def _figure(title: str, chart: Markup, words: Sequence[Markup]) -> Markup:
    return tag("figure", tag("figcaption", tag("b", title), words), chart)


def _key(look: str, text: str) -> Markup:
    return tag("span", tag("i", class_=look), text, class_="key")
