"""Evaluate a method on a dataset: image and pixel metrics per class, as in the papers.

python test.py --dataset mvtec --data_path ./data/mvtec --ckpt_path ./checkpoints/filo_visa/filo.safetensors
python test.py --dataset mvtec --data_path ./data/mvtec --method winclip --shots 4 --seed 0 1 2 3 4

Method and architecture come from the checkpoint; WinCLIP and FADE need none. Zero-shot means that the dataset
tested here is not the one trained on.
"""

import argparse
import sys
import time
from pathlib import Path

from filo import options
from filo.checkpoint import Checkpoint
from filo.datasets import AnomalyDataset
from filo.decisions import decisions_path, read_decisions
from filo.determinism import make_repeatable
from filo.errors import InputError, exit_clearly
from filo.evaluate import LEVELS, evaluate_all
from filo.job import join
from filo.localise import localise
from filo.logs import describe_environment, pick_device, plain
from filo.meta import Meta, read_meta
from filo.methods.filo_config import ABLATIONS
from filo.processes import Processes
from filo.report import write_report
from filo.resume import require_same_everywhere, settings
from filo.run_folder import TEST
from filo.run_lock import hold
from filo.seeds import summarise
from filo.subject import load_subject, name_of
from filo.trials import claim, conclude, contents, prepare
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
    """Test by one seed, or by several at once, each in a folder of its own, and then what they come to.

    What is left of an unfinished test of the same in these folders is not computed again.
    """
    device, several = pick_device(us.own_device(args.device)), len(args.seed) > 1
    if several and not args.shots:
        raise InputError("several --seed draw several references: give --shots as well, or one seed")
    make_repeatable(args.seed[0], args.deterministic)
    meta = read_meta(args.data_path, "test")
    subject = load_subject(args, meta.classes, device)
    model, clip, texts = subject.model, subject.clip, subject.texts
    read_decisions(decisions_path(name_of(args)))  # now, so that a damaged file costs no hours
    warn_if_seen(args, subject.checkpoint, meta)
    claimed = claim(args, folder, us.is_first)  # now, so that a bad folder costs no hours
    about = settings(plain(vars(args))) | contents(subject, meta)
    require_same_everywhere(us, about | {"checkpoint": subject.checkpoint.sha256})
    where = (clip.image_size, device, us)
    boxes, detector = localise(args, meta, texts, subject.config.boxes, *where)
    what = (subject, meta, boxes, detector, device, us.is_first)
    tests = [prepare(*each, *what) for each in claimed]
    environment = describe_environment(device) | {"processes": us.count}
    dataset = AnomalyDataset(meta, model.map_side, clip.mean, clip.std, view=model.view)

    started = time.perf_counter()
    workers = options.count_workers(args, device.type)
    how = (boxes, args.eval_size, args.report, us, args.metrics)
    trials = [test.trial for test in tests]
    found = evaluate_all(model, dataset, trials, args.batch_size, device, workers, *how)
    seconds = (time.perf_counter() - started) / len(tests)
    if not us.is_first:
        return

    for test, results in zip(tests, found, strict=True):
        conclude(test, subject, meta, results, seconds, environment)
    if several:
        print(f"{len(tests)} seeds, means and standard deviations:\n{summarise(folder, args.seed)}")
        if args.report:
            print(f"report: {write_report(folder)}")


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
