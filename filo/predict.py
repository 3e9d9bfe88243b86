"""Look for anomalies in images of your own: score, decision, kind, position, boxes and heatmap of each.

python -m filo.predict parts/*.jpg --class "metal bracket" --ckpt_path filo.safetensors --out predictions
python -m filo.predict parts --class_from_folder --ckpt_path filo.safetensors --out predictions
python -m filo.predict --list a_million.txt --shard 2/4 --class nut --ckpt_path filo.safetensors --out big
torchrun --nproc_per_node=4 -m filo.predict parts --class nut --ckpt_path filo.safetensors --out big

Leaves with status 0 if every image was done, 1 if some failed, 2 if none could be done.
"""

import argparse
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from filo import options, prediction_state
from filo.errors import InputError, exit_clearly
from filo.few_shot import References
from filo.files import write_json
from filo.inputs import find_images, listed_images
from filo.job import join
from filo.localise import choose_detector
from filo.logs import peak_memory
from filo.look import look_at_all
from filo.merge import merge
from filo.output import require_elsewhere, write_failed
from filo.plots import given_scale
from filo.prediction import arguments, describe_answers, describe_run
from filo.predictor import FiLo
from filo.processes import Processes
from filo.records import iterate_records
from filo.report import write_report
from filo.resume import require_same_everywhere
from filo.run_folder import FAILED, MERGE, PREDICTED, PREDICTION, require_free, start_run
from filo.run_lock import hold
from filo.shards import Shard, parse_shard, require_one_set
from filo.subject import find_checkpoint, require_checkpoint
from filo.summary import by_decision, say_what_failed, summarise
from filo.untrained import add_settings, fill_class, find_untrained, is_untrained
from filo.worklist import Worklist


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.predict"
    add = parser.add_argument_group("data: what is looked at").add_argument
    add("images", nargs="*", metavar="IMAGES", help="files, folders, globs")
    add(
        "--list",
        metavar="FILE",
        help="text file with one image a line, as many as there are: its path, and where it is wanted a tab "
        "and its class; - for the standard input",
    )
    add(
        "--shard",
        metavar="I/N",
        help="look at the I-th of N shards alone, counted from 1, in a folder of its own within --out; "
        "`python -m filo.merge` puts all together",
    )
    add("--class", dest="class_name", metavar="NAME", help="what the images show, such as 'metal bracket'")
    add(
        "--class_from_folder",
        action="store_true",
        help="an image shows what its folder is called: the first one below a folder that is named here, "
        "otherwise the one it lies in",
    )
    options.add_prompt_option(
        add, "the one file of prompts/ that has the class, or else general words for what is wrong"
    )

    add = parser.add_argument_group("method: what looks at it").add_argument
    options.add_checkpoint_options(add)
    add("--references", type=Path, metavar="DIR", help="normal images: DIR/IMAGE, or DIR/CLASS/IMAGE")
    add("--shots", type=options.count, default=0, help="so many references, the first by name (default: all)")
    if method := find_untrained():
        add_settings(parser, method)
    add("--decisions", type=Path, help="thresholds (default: <checkpoint>.decisions.json beside it)")

    add = parser.add_argument_group("grounding: where anomalies are looked for").add_argument
    options.add_detector_options(add)

    add = parser.add_argument_group("speed: what is exact at fp32, and what is not").add_argument
    options.add_speed_options(add)

    add = parser.add_argument_group("run: where and how it runs").add_argument
    add("--out", type=Path, required=True, help="folder for predictions, heatmaps and report")
    add("--overwrite", action="store_true", help="throw away the run that the folder holds")
    add("--batch_size", type=options.positive, default=8, help="images at once")
    options.add_scale_option(add, "the calibrated ones, or else 0 and 1")
    add("--heatmap_side", type=options.side, default=1024, help="longest side of a heatmap, in pixels")
    add("--no_heatmaps", action="store_true", help="write no heatmaps")
    add(
        "--no_pictures",
        action="store_true",
        help="write neither heatmaps nor the small pictures that a report shows, which of very many images "
        "fill a disk",
    )
    add("--no_report", action="store_true", help="write no report.html")
    options.add_image_option(add)
    add("--device", help="cuda, cuda:1, cpu, mps (default: CUDA's first, or the CPU)")
    args = parser.parse_args()
    args.shard = None if args.shard is None else parse_shard(args.shard)
    return args


def main() -> int:
    with join() as us:
        args = parse_args()
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large has its own line
        return predict(args, us)


def predict(args: argparse.Namespace, us: Processes) -> int:
    """Look at all images, or at one shard of them in a folder of its own within --out; give the status.

    Of several processes each looks at a shard, and the first one merges them when all are done.
    """
    args.shard = choose_shard(args, us)
    work, folder = find_work(args), args.out
    if args.shard is not None:
        require_free(args.out, replace(MERGE, flag=PREDICTION.flag))
        require_one_set(args.out, args.shard.of)
        folder = args.out / args.shard.folder
    with hold(folder, PREDICTION):
        status = predict_into(folder, args, work, us)
    if us.count == 1:
        return status
    us.wait()
    return us.gather(merge(args.out, not args.no_report, "filo.predict") if us.is_first else None)[0]


def choose_shard(args: argparse.Namespace, us: Processes) -> Shard | None:
    """Give the shard that was asked for, of several processes that of this one's rank.

    Raises:
        InputError: several processes were told a shard, or to share the standard input.
    """
    if us.count == 1:
        return args.shard
    if args.shard is not None:
        raise InputError(
            f"--shard {args.shard}: each of the {us.count} processes looks at a shard of its own: leave it "
            "out, or start one process"
        )
    if args.list == "-":
        raise InputError(
            f"--list -: {us.count} processes cannot all read the standard input: put the list into a file"
        )
    return Shard(us.rank + 1, us.count)


def predict_into(folder: Path, args: argparse.Namespace, work: Worklist, us: Processes) -> int:
    """Look at images, or go on with the unfinished prediction of the same that the folder holds."""
    goes_on = prediction_state.require_usable(folder, args.overwrite, of_job=us.count > 1)
    require_elsewhere(folder, work.paths())
    filo = load(args, us.own_device(args.device))
    draws = not (args.no_heatmaps or args.no_pictures)
    work.settle({name: understand(filo, name, name == args.class_name) for name in work.classes}, draws)
    work.require_any()
    say_what_is_undecided(filo)
    what = (arguments(args), work, describe_answers(filo))
    same, identity = prediction_state.identify_shards(*what), prediction_state.identify(*what)
    require_same_everywhere(us, same)
    if goes_on:
        prediction_state.require_same(folder, identity)
    else:
        heatmaps = (item.heatmap for item in work.items()) if draws else ()
        start_run(folder, PREDICTION, arguments(args), heatmaps)
        prediction_state.begin(folder, identity)

    started = time.perf_counter()
    computed = look_at_all(folder, filo, work, args)
    seconds = time.perf_counter() - started

    names = {known.name: known for known in filo.classes.values()}
    summary = summarise(iterate_records(folder), by_decision(), most=1, names=names)
    if summary.failed:
        write_failed(folder, iterate_records(folder), work.items())
    about = describe_run(args, filo, summary, us) | {"seconds": round(seconds, 2)}
    about |= {"images_computed": computed, "peak_memory": peak_memory(filo.device)}
    about |= {"seconds_per_image": round(seconds / computed, 4) if computed else None}
    if args.shard is not None:
        own = {name: value for name, value in identity.items() if name not in same}
        about |= {"shard": {"is": str(args.shard), "repeated": work.repeated, "same": same, "own": own}}
    write_json(folder / PREDICTED, about)
    print(f"{computed} images in {seconds:.1f} s, {summary.failed} failed; predictions: {folder}")
    if us.count == 1:  # otherwise that is said of all shards together
        say_what_failed(summary, folder / FAILED)
    if not args.no_report and args.shard is None and summary.status < 2:
        print(f"report: {write_report(folder)}")
    prediction_state.finish(folder)
    return summary.status


def understand(filo: FiLo, name: str, is_meant: bool) -> tuple[str, str]:
    """Give a class's name as it was understood and "", or the name of a folder or in a list and why it is no
    class, which becomes an error of its images.

    Raises:
        InputError: the class `is_meant` for all images, and not understood.
    """
    try:
        return filo.know(name).name, ""
    except InputError as error:
        if is_meant:
            raise
        return name, str(error)


def say_what_is_undecided(filo: FiLo) -> None:
    """Print why there will be no decision, once for all classes with one reason."""
    reasons: dict[str, list[str]] = {}
    for name in dict.fromkeys(known.name for known in filo.classes.values()):
        reasons.setdefault(filo.threshold(name)[1], []).append(name)
    for reason, undecided in reasons.items():
        if reason:
            print(f"note: no decision for {', '.join(undecided)}: {reason}", file=sys.stderr)


def find_work(args: argparse.Namespace) -> Worklist:
    """Find the images that were asked for.

    Raises:
        InputError: nothing says of what class they are, or there is none of them.
    """
    if not args.images and args.list is None:
        raise InputError("nothing to look at: name files, folders or globs, or a list of images by --list")
    if args.class_from_folder and args.class_name is not None:
        raise InputError("--class and --class_from_folder contradict each other: leave one out")
    if args.images and not args.class_from_folder and args.class_name is None:
        raise InputError(
            "nothing says what the images show: name the class by --class, or add --class_from_folder"
        )
    work = Worklist(args.shard)
    work.add(find_images(args.images, args.class_name))
    if args.list is not None:
        listed = listed_images(args.list, args.class_name, args.class_from_folder)
        work.add(tqdm(listed, desc="list", unit="image", disable=None))
        if work.repeated:
            print(
                f"note: {work.repeated:,} images are named more than once; each is looked at once",
                file=sys.stderr,
            )
    if args.shard is not None:
        print(f"shard {args.shard}: {len(work):,} of {work.listed:,} images")
    work.require_any()
    return work


def load(args: argparse.Namespace, device: str | None) -> FiLo:
    """Load what the arguments name, onto a device."""
    scale = given_scale(args.scale)
    free = is_untrained(args.method)
    references = None
    if args.references:
        references = References(args.references, args.shots or None, args.class_name is not None)
    filo = FiLo.load(
        find_checkpoint(args) if free else require_checkpoint(args),
        clip_model=args.clip_model,
        clip_pretrained=args.clip_pretrained,
        image_size=args.image_size,
        features_list=args.features_list,
        asked=options.asked_of_checkpoint(args),
        prompts=args.prompts or (),
        detector=choose_detector(args),
        decisions=args.decisions,
        device=device,
        references=references,
        fill=partial(fill_class, args) if free else None,
    )
    options.set_speed(args, filo.clip, filo.device)
    filo.scale = scale
    return filo


if __name__ == "__main__":
    exit_clearly(main)
