"""The tests of one command of test.py: one for each seed, in a folder of its own, from claim to results."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from filo.calibrate import calibrate_run
from filo.class_result import ClassResult
from filo.decisions import decisions_path, describe_scoring, find_thresholds, read_decisions
from filo.evaluate import Trial, format_table
from filo.files import write_json, write_text
from filo.grounding.boxes import Boxes
from filo.logs import describe_environment, peak_memory, plain
from filo.meta import Entry, Meta
from filo.outcomes import open_kept
from filo.recorder import Recorder
from filo.report import write_report
from filo.results import describe
from filo.resume import settings
from filo.run_folder import TEST, require_free, seed_folder
from filo.subject import Subject, name_of, show_references


@dataclass(frozen=True)
class Prepared:
    """One test that is ready to run.

    Attributes:
        args: test.py's arguments, with the one seed
        references: the files that were shown of each class, and their hashes
        scoring: what scores depend on
        detector: a record of what was localised, and by what
        trial: what `evaluate_all` takes
    """

    args: argparse.Namespace
    folder: Path
    references: dict[str, dict[str, str]]
    scoring: dict
    detector: dict
    trial: Trial


def claim(args: argparse.Namespace, folder: Path, is_first: bool) -> list[tuple[argparse.Namespace, Path]]:
    """Give each seed's own arguments and folder, in which they are written down.

    Raises:
        InputError: a folder holds something else, or cannot be written to.
    """
    several = len(args.seed) > 1
    claimed = [
        (argparse.Namespace(**vars(args) | {"seed": seed}), seed_folder(folder, seed) if several else folder)
        for seed in args.seed
    ]
    for own, place in claimed if is_first else ():
        require_free(place, TEST)
        write_json(place / "args.json", plain(vars(own)))
    return claimed


def contents(subject: Subject, meta: Meta) -> dict:
    """Name what a test is of by what it contains, wherever it lies."""
    hashes = {"CLIP weights": subject.clip.sha256, "meta.json": meta.sha256}
    return hashes | {"config": asdict(subject.config)}


def prepare(
    args: argparse.Namespace,
    folder: Path,
    subject: Subject,
    meta: Meta,
    boxes: Mapping[Entry, Boxes] | None,
    detector: dict,
    device: torch.device,
    is_first: bool,
) -> Prepared:
    """Show the method the references of a test, and find what is left of an unfinished one in its folder.

    Raises:
        InputError: a class has too few normal training images, or the folder cannot be cleared.
    """
    subject.model.forget()
    show_references(subject, args.data_path, meta.classes, args.shots, args.seed, device)
    config, clip, texts = subject.config, subject.clip, subject.texts
    how = (config, clip.image_size, args.precision, args.without, detector, texts)
    scoring = describe_scoring(subject.checkpoint.sha256, *how, subject.references)
    recorder = Recorder(folder, meta.root, texts, config.boxes, boxes, bool(args.report or args.calibrate))
    kept = None
    if is_first:
        about = settings(plain(vars(args))) | contents(subject, meta) | scoring
        what = (meta.entries, subject.model.map_side, about, describe_environment(device))
        kept = open_kept(folder, *what, not args.no_resume)
    trial = Trial(subject.model.memory, recorder, kept)
    return Prepared(args, folder, subject.references, scoring, detector, trial)


def conclude(
    test: Prepared,
    subject: Subject,
    meta: Meta,
    results: Sequence[ClassResult],
    seconds: float,
    environment: dict,
) -> None:
    """Write what was found into the test's folder, and show it; then calibrate and report, if asked for.

    Raises:
        InputError: something cannot be written.
    """
    args, folder, kept = test.args, test.folder, test.trial.kept
    config, checkpoint = subject.config, subject.checkpoint
    decisions = read_decisions(decisions_path(name_of(args)))
    computed = len(meta.entries) - kept.taken
    record = describe(args, config, checkpoint, meta, results, environment, subject.prompts)
    record |= {
        "detector": test.detector,
        "references": {name: list(files) for name, files in test.references.items()},
        "scoring": test.scoring,
        "seconds": round(seconds, 2),
        "images_computed": computed,
        "seconds_per_image": round(seconds / computed, 4) if computed else None,
        "peak_memory": peak_memory(torch.device(environment["device"])),
    }
    record |= find_thresholds(decisions, test.scoring)
    write_results(args, folder, results, record)
    print(f"{computed} images in {seconds:.1f} s; table and results: {folder}")
    if args.calibrate:
        print("\n".join(calibrate_run(folder, args.calibrate, args.rate).lines))
        record |= find_thresholds(read_decisions(decisions.path), test.scoring, same_images=True)
        # once more: calibrating reads it as of any finished run, and now there are other thresholds
        write_json(folder / "results.json", record)
    if args.report:
        print(f"report: {write_report(folder)}")
    kept.remove()


def write_results(
    args: argparse.Namespace, folder: Path, results: Sequence[ClassResult], record: dict
) -> None:
    """Write what was found, and show it."""
    table = format_table(results, args.metrics)
    write_text(folder / "table.md", table + "\n")
    if args.report:
        write_json(folder / "curves.json", {result.class_name: result.curves for result in results})
    write_json(folder / "results.json", record)
    print(table)
    print("".join(f"n/a: {note}\n" for note in record["notes"]), end="")
