"""Choose from which score on an image is anomalous, class by class, and keep that beside the checkpoint.

python -m filo.calibrate checkpoints/filo_visa/test_on_mvtec
python -m filo.calibrate good_parts --normal --rate 0.05

The first takes a run of test.py, whose images have labels; the second a run of filo.predict over images that
are all normal.
"""

import argparse
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from filo import options
from filo.decisions import (
    UNTRAINED,
    Decision,
    Decisions,
    decisions_path,
    of_class,
    read_decisions,
    write_decisions,
)
from filo.errors import InputError, exit_clearly
from filo.files import sha256_of
from filo.plots import MapValues, Scale
from filo.records import Record, iterate_records, read_small
from filo.thresholds import RULES, choose_threshold, rates

ABOUT = ("results.json", "predict.json")  # of a run of test.py, of filo.predict


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.calibrate"
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder that test.py wrote, or filo.predict with --normal")
    add(
        "--rule",
        choices=RULES,
        help="f1: the best F1; fpr: at most a share --rate of the normal images lies above; quantile: from "
        "normal images alone, so that new ones are above with probability --rate at most (default: f1, with "
        "--normal quantile)",
    )
    add("--rate", type=options.share, default=0.01, help="share of normal images that may be taken for bad")
    add("--normal", action="store_true", help="every image of the run is normal, whatever nobody said of it")
    add("--rescale", action="store_true", help="choose the scale of heatmaps anew, for all classes")
    add("--out", type=Path, help="the file to write (default: <checkpoint>.decisions.json beside it)")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    done = calibrate_run(args.run, args.rule, args.rate, args.normal, args.out, args.rescale)
    print("\n".join(done.lines))
    if not done.classes:
        raise InputError(f"no class of {args.run} could be calibrated, so nothing is written")
    print(f"thresholds: {done.path}")
    return 1 if done.skipped else 0


@dataclass(frozen=True)
class Calibrated:
    """What a calibration wrote, and what there is to say of it: one line for each class."""

    path: Path
    classes: dict[str, Decision]
    skipped: tuple[str, ...]
    lines: tuple[str, ...]


def calibrate_run(
    run: Path,
    rule: str | None = None,
    rate: float = 0.01,
    all_normal: bool = False,
    out: Path | None = None,
    rescale: bool = False,
) -> Calibrated:
    """Choose a threshold for every class of a finished run and write them to `out`, or beside the run's
    checkpoint; classes that are there already and not in the run stay.

    `rule` is one of `thresholds.RULES`, by default f1, or quantile where all images are normal. A class with
    too few images for it is skipped, which its line says. Nothing is written if no class is left. The scale
    of heatmaps is chosen once for all classes, and again only to `rescale`.

    Raises:
        InputError: the run is damaged or knows no labels, or its checkpoint is not where it was.
    """
    about = _read_about(run)
    known: dict[str, Known] = {}
    for record, label in _labelled(run, all_normal):
        known.setdefault(record.class_name, Known()).add(record.score, label)
    path = out or _beside(about)
    rule = rule or ("quantile" if all_normal else "f1")
    failed = sum(bool(record.error) for record in iterate_records(run))
    chosen, skipped = {}, []
    lines = [f"note: {failed} images of the run failed and are left out"] if failed else []
    for name, own in known.items():
        try:
            chosen[name] = _decide(own, rule, rate, _source(run, about), of_class(about["scoring"], name))
            lines.append(f"{name}: {_say(chosen[name])}")
        except InputError as error:
            skipped.append(name)
            lines.append(f"{name}: no threshold, {error}")
    if chosen:
        scale = choose_scale(run, _labelled(run, all_normal))
        new = Decisions(path, chosen, scale, of_class(about["scoring"], None))
        merged = read_decisions(path).merged(new, rescale)
        write_decisions(merged)
        lines += _say_scale(merged, new)
    return Calibrated(path, chosen, tuple(skipped), tuple(lines))


@dataclass
class Known:
    """Scores of images of one class, and their labels, 0 normal and 1 anomalous: 9 bytes for each."""

    scores: array = field(default_factory=lambda: array("d"))
    labels: array = field(default_factory=lambda: array("b"))

    def add(self, score: float, label: int) -> None:
        self.scores.append(score)
        self.labels.append(label)


def _decide(known: Known, rule: str, rate: float, source: dict, settings: dict) -> Decision:
    scores, labels = known.scores, known.labels
    threshold = choose_threshold(scores, labels, rule, rate)
    return Decision(
        threshold=threshold,
        rule=rule,
        rate=None if rule == "f1" else rate,
        normal=labels.count(0),
        anomalous=labels.count(1),
        achieved=rates(scores, labels, threshold),
        source=source,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        settings=settings,
    )


def _say(decision: Decision) -> str:
    """Describe a threshold and what it does to the images it was made of, in one line."""
    hits, alarms, f1 = (decision.achieved[k] for k in ("true_positive_rate", "false_positive_rate", "f1"))
    parts = [f"{decision.normal} normal, {decision.anomalous} anomalous images"]
    parts += [] if hits is None else [f"finds {100 * hits:.1f} %"]
    parts += [] if alarms is None else [f"false alarms {100 * alarms:.1f} %"]
    parts += [] if f1 is None else [f"F1 {100 * f1:.1f}"]
    if decision.rule == "fpr" and decision.rate * decision.normal < 1:
        parts.append(f"too few normal images to tell a rate of {decision.rate:g} from none")
    by = decision.rule if decision.rate is None else f"{decision.rule} {decision.rate:g}"
    return f"anomalous from {decision.threshold:.6g} on ({by}; {'; '.join(parts)})"


def _say_scale(merged: Decisions, new: Decisions) -> list[str]:
    if merged.scale is None:
        return []
    what = "" if merged.scale == new.scale else ", kept as it was; --rescale chooses another"
    return [f"scale of heatmaps: {merged.scale.low:.4g} to {merged.scale.high:.4g}{what}"]


def _read_about(run: Path) -> dict:
    """Read what a run says of itself.

    Raises:
        InputError: it is not finished, damaged, or of a version that did not say what scores depend on.
    """
    path = next((run / name for name in ABOUT if (run / name).is_file()), None)
    if path is None:
        raise InputError(f"{run} holds no finished run: name a folder that test.py or filo.predict wrote")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        of_class(about["scoring"], "")
        Path(about["arguments"]["ckpt_path"] or "")
        return about
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} does not say how its scores were made ({type(error).__name__}: {error}); run the "
            "command that wrote it again"
        ) from error


def _labelled(run: Path, all_normal: bool) -> Iterator[tuple[Record, int]]:
    """Give the images of a run that did not fail with their labels.

    Raises:
        InputError: one has none, or not the one that all are said to have.
    """
    for record in iterate_records(run):
        if record.error:
            continue
        if all_normal and record.label == 1:
            raise InputError(f"--normal: {record.image} of {run} is labelled anomalous; leave --normal out")
        if record.label is None and not all_normal:
            raise InputError(
                f"{run} has no labels: add --normal if every image in it is normal, or take a run of test.py"
            )
        yield record, int(bool(record.label))


def _beside(about: Mapping) -> Path:
    """Where the thresholds of a run go: beside its checkpoint, which must still be the same."""
    if about["arguments"]["ckpt_path"] is None:  # a method that needs none
        return decisions_path(UNTRAINED / str(about.get("method")))
    checkpoint = Path(about["arguments"]["ckpt_path"])
    if not checkpoint.is_file():
        raise InputError(f"the run's checkpoint {checkpoint} is not there: name the file to write by --out")
    if sha256_of(checkpoint) != about["scoring"]["checkpoint"]:
        raise InputError(
            f"{checkpoint} is not the one of the run any more: run again, or name a file by --out"
        )
    return decisions_path(checkpoint)


def _source(run: Path, about: Mapping) -> dict:
    arguments = about["arguments"]
    data = {key: arguments[key] for key in ("dataset", "data_path", "images") if key in arguments}
    return {"run": str(run), **data, "command": about.get("command", "")}


def choose_scale(run: Path, labelled: Iterable[tuple[Record, int]]) -> Scale | None:
    """Give the scale of heatmaps that the small maps of a run tell: from the median of normal images' pixels
    to the 99.9th percentile of anomalous ones', 1 where none is anomalous; None without maps.
    """
    normal, anomalous = values = MapValues(), MapValues()
    for record, label in labelled:
        small = read_small(run, record)
        if small is not None:
            values[label].add(small.anomaly_map)
    if not normal.maps:
        return None
    low, high = normal.quantile(0.5), anomalous.quantile(0.999) if anomalous.maps else 1.0
    end = f"99.9th percentile of {anomalous.maps} anomalous ones" if anomalous.maps else "1"
    origin = f"median of {normal.maps} normal images to {end}, in {run}"
    return Scale(low, high, origin) if low < high else None


if __name__ == "__main__":
    exit_clearly(main)
