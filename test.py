"""Evaluate a method on a dataset: image and pixel metrics per class, as in the papers.

python test.py --dataset mvtec --data_path ./data/mvtec --ckpt_path ./checkpoints/filo_visa/filo.safetensors
python test.py --dataset mvtec --data_path ./data/mvtec --method winclip --shots 4 --seed 0 1 2 3 4

Method and architecture come from the checkpoint; WinCLIP and FADE need none. Zero-shot means that the dataset
tested here is not the one trained on.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from filo import options
from filo.calibrate import calibrate_run
from filo.checkpoint import Checkpoint
from filo.class_result import ClassResult
from filo.datasets import AnomalyDataset
from filo.decisions import decisions_path, describe_scoring, find_thresholds, read_decisions
from filo.determinism import make_repeatable
from filo.errors import InputError, exit_clearly
from filo.evaluate import LEVELS, evaluate, format_table
from filo.files import write_json, write_text
from filo.job import join
from filo.localise import localise
from filo.logs import describe_environment, peak_memory, pick_device, plain
from filo.meta import Meta, read_meta
from filo.methods.filo_config import ABLATIONS
from filo.outcomes import open_kept
from filo.processes import Processes
from filo.recorder import Recorder
from filo.report import write_report
from filo.results import describe
from filo.resume import require_same_everywhere, settings
from filo.run_folder import TEST, require_free, seed_folder
from filo.run_lock import hold
from filo.seeds import summarise
from filo.subject import Subject, load_subject, name_of, show_references
from filo.untrained import add_settings, find_untrained


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("data: what it is tested on").add_argument
    name = ("--dataset", "--dataset-name")  # the second names are those of FADE's program
    add(*name, default="mvtec", help="name of the dataset; picks prompts/<dataset>.json")
    root = ("--data_path", "--dataset-source")
    add(*root, type=Path, default=Path("./data/mvtec"), help="its root, which holds meta.json")
    options.add_prompt_option(add)

    add = parser.add_argument_group("method: what is tested").add_argument
    options.add_checkpoint_options(add)
    options.add_without_option(add, ABLATIONS)
    add("--shots", type=options.count, default=0, help="normal training images of each class that are shown")
    if method := find_untrained():
        add_settings(parser, method)

    add = parser.add_argument_group("grounding: where anomalies are looked for").add_argument
    options.add_detector_options(add)

    add = parser.add_argument_group("speed: what is exact at fp32, and what is not").add_argument
    options.add_speed_options(add)
    add("--eval_size", type=options.side, help="side of the maps that are compared (default: the image size)")

    add = parser.add_argument_group("run: where and how it runs").add_argument
    add(
        "--save_path",
        type=Path,
        help="folder for table and results (default: test_on_<dataset> beside the checkpoint)",
    )
    add("--batch_size", type=options.positive, default=1, help="images at once, of each process")
    add("--metrics", choices=LEVELS, default=LEVELS[-1], help="which are computed and shown")
    several = "of the references; of several seeds come the means and standard deviations as well"
    add("--seed", type=options.seed, nargs="+", default=[0], help=several)
    add("--report", action="store_true", help="write report.html: table, curves, pictures")
    add(
        "--calibrate",
        choices=("f1", "fpr"),
        help="choose each class's threshold by this rule of filo.calibrate and keep it beside the checkpoint",
    )
    add("--rate", type=options.share, default=0.01, help="of the rule fpr: share of false alarms")
    add("--no_resume", action="store_true", help="keep nothing on disk from which a stopped test could go on")
    options.add_run_options(add)
    return parser.parse_args()


def main() -> None:
    with join() as us:
        args = parse_args()
        name = name_of(args)
        own = "" if args.ckpt_path else f"{args.method}_"
        folder = args.save_path or name.parent / f"{own}test_on_{args.dataset}"
        with us.first_only(hold(folder, TEST)):
            test_all(args, folder, us)


def test_all(args: argparse.Namespace, folder: Path, us: Processes) -> None:
    """Test by one seed, or by several, each in a folder of its own, and then what they come to."""
    device, seeds = pick_device(us.own_device(args.device)), args.seed
    if len(seeds) > 1 and not args.shots:
        raise InputError("several --seed draw several references: give --shots as well, or one seed")
    meta = read_meta(args.data_path, "test")
    subject = load_subject(args, meta.classes, device)
    for seed in seeds:
        own = seed_folder(folder, seed) if len(seeds) > 1 else folder
        test(argparse.Namespace(**vars(args) | {"seed": seed}), own, subject, meta, device, us)
    if len(seeds) > 1 and us.is_first:
        print(f"{len(seeds)} seeds, means and standard deviations:\n{summarise(folder, seeds)}")
        if args.report:
            print(f"report: {write_report(folder)}")


def test(
    args: argparse.Namespace, folder: Path, subject: Subject, meta: Meta, device: torch.device, us: Processes
) -> None:
    """Test, or go on with the unfinished test of the same that the folder holds."""
    make_repeatable(args.seed, args.deterministic)
    checkpoint, config, clip, texts = subject.checkpoint, subject.config, subject.clip, subject.texts
    decisions = read_decisions(decisions_path(name_of(args)))  # now, so that a damaged file costs no hours
    warn_if_seen(args, checkpoint, meta)
    if us.is_first:
        require_free(folder, TEST)
        write_json(folder / "args.json", plain(vars(args)))  # now, so that a bad folder costs no hours
    show_references(subject, args.data_path, meta.classes, args.shots, args.seed, device)
    contents = {"CLIP weights": clip.sha256, "meta.json": meta.sha256, "config": asdict(config)}
    about = settings(plain(vars(args))) | contents
    require_same_everywhere(us, about | {"checkpoint": checkpoint.sha256})
    boxes, detector = localise(args, meta, texts, config.boxes, clip.image_size, device, us)
    scoring = (config, clip.image_size, args.precision, args.without, detector, texts)
    scoring = describe_scoring(checkpoint.sha256, *scoring, subject.references)
    environment, is_kept, side = describe_environment(device), not args.no_resume, subject.model.map_side
    what = (meta.entries, side, about | scoring, environment, is_kept)
    kept = open_kept(folder, *what) if us.is_first else None
    dataset = AnomalyDataset(meta, side, clip.mean, clip.std, sides=subject.model.sides)

    started = time.perf_counter()
    workers = options.count_workers(args, device.type)
    pictures = bool(args.report or args.calibrate)
    recorder = Recorder(folder, meta.root, texts, config.boxes, boxes, pictures)
    how = (args.batch_size, device, workers, boxes, args.eval_size, recorder, args.report, kept, us)
    how += (args.metrics,)
    results = evaluate(subject.model, dataset, *how)
    seconds = time.perf_counter() - started
    if not us.is_first:
        return

    environment |= {"processes": us.count}
    record = describe(args, config, checkpoint, meta, results, environment, subject.prompts)
    record |= {
        "detector": detector,
        "references": {n: list(files) for n, files in subject.references.items()},
    }
    computed = len(dataset) - kept.taken
    record |= {"scoring": scoring, "seconds": round(seconds, 2), "images_computed": computed}
    record |= {"seconds_per_image": round(seconds / computed, 4) if computed else None}
    record |= {"peak_memory": peak_memory(device)} | find_thresholds(decisions, scoring)
    write_results(args, folder, results, record)
    print(f"{computed} images in {seconds:.1f} s; table and results: {folder}")
    if args.calibrate:
        print("\n".join(calibrate_run(folder, args.calibrate, args.rate).lines))
        record |= find_thresholds(read_decisions(decisions.path), scoring, same_images=True)
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


def warn_if_seen(args: argparse.Namespace, checkpoint: Checkpoint, meta: Meta) -> None:
    trained = checkpoint.provenance
    if trained["dataset"] == args.dataset or trained["meta_sha256"] == meta.sha256:
        print(
            f"warning: {args.ckpt_path} was trained on {trained['dataset']}, the dataset under test: "
            "these numbers are not zero-shot",
            file=sys.stderr,
        )


if __name__ == "__main__":
    exit_clearly(main)
