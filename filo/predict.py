"""Look for anomalies in images of your own: score, decision, kind, position, boxes and heatmap of each.

python -m filo.predict parts/*.jpg --class "metal bracket" --ckpt_path filo.safetensors --out predictions
python -m filo.predict parts --class_from_folder --ckpt_path filo.safetensors --out predictions

Leaves with status 0 if every image was done, 1 if some failed, 2 if none could be done.
"""

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from filo import options
from filo.errors import ImageError, InputError, exit_clearly
from filo.files import readable, sha256_of, write_json
from filo.inputs import Input, batches, find_images
from filo.localise import choose_detector
from filo.logs import describe_environment, peak_memory, plain
from filo.methods.filo_config import preset_name
from filo.output import (
    append_rows,
    name_heatmaps,
    require_elsewhere,
    to_record,
    write_pictures,
)
from filo.pictures import Picture, count_pixels
from filo.plots import given_scale
from filo.predictor import FiLo
from filo.records import Record, write_record
from filo.report import write_report
from filo.result import Result
from filo.run_folder import PREDICTION, require_free, start_run


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.predict"
    add = parser.add_argument_group("data: what is looked at").add_argument
    add("images", nargs="+", metavar="IMAGES", help="files, folders, globs")
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
    add("--no_report", action="store_true", help="write no report.html")
    add("--device", help="cuda, cuda:1, cpu, mps (default: CUDA's first, or the CPU)")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large has its own line
    inputs = choose_images(args)
    require_free(args.out, PREDICTION, args.overwrite)
    require_elsewhere(args.out, inputs)
    filo = load(args)
    inputs = by_class(filo, inputs, args.class_from_folder)
    require_any(inputs)
    say_what_is_undecided(filo)
    start_run(args.out, PREDICTION, arguments(args), [] if args.no_heatmaps else name_heatmaps(inputs))

    started = time.perf_counter()
    failed = run(args, filo, inputs)
    seconds = time.perf_counter() - started

    about = describe_run(args, filo, inputs, failed) | {"seconds": round(seconds, 2)}
    about |= {"seconds_per_image": round(seconds / len(inputs), 4), "peak_memory": peak_memory(filo.device)}
    write_json(args.out / "predict.json", about)
    print(f"{len(inputs)} images in {seconds:.1f} s, {len(failed)} failed; predictions: {args.out}")
    for record in failed:
        print(f"failed: {record.image}: {record.error}", file=sys.stderr)
    if not args.no_report and len(failed) < len(inputs):
        print(f"report: {write_report(args.out)}")
    return 0 if not failed else 1 if len(failed) < len(inputs) else 2


def by_class(filo: FiLo, inputs: Sequence[Input], from_folder: bool) -> list[Input]:
    """Order images by class, each class called as it was understood; what a folder's name may mean becomes
    an error of its images.

    Raises:
        InputError: the one class that was named is not understood.
    """
    names = dict.fromkeys(each.class_name for each in inputs if each.class_name or not each.error)
    found = {name: understand(filo, name, from_folder) for name in names}
    named = [
        replace(each, class_name=found[each.class_name][0], error=each.error or found[each.class_name][1])
        if each.class_name in found
        else each
        for each in inputs
    ]
    return sorted(named, key=lambda each: each.class_name)


def understand(filo: FiLo, name: str, from_folder: bool) -> tuple[str, str]:
    """Give a class's name as it was understood and "", or a folder's name and why it is no class."""
    try:
        return filo.know(name).name, ""
    except InputError as error:
        if not from_folder:
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


def arguments(args: argparse.Namespace) -> dict:
    """Give the arguments fit for JSON, which not every file name is."""
    return plain(vars(args)) | {"images": [readable(Path(name)) for name in args.images]}


def choose_images(args: argparse.Namespace) -> list[Input]:
    """Find the images that were asked for.

    Raises:
        InputError: nothing says of what class they are, or there is none of them.
    """
    if args.class_from_folder == (args.class_name is not None):
        raise InputError(
            "nothing says what the images show: name the class by --class, or add --class_from_folder"
            if args.class_name is None
            else "--class and --class_from_folder contradict each other: leave one out"
        )
    inputs = find_images(args.images, args.class_name)
    require_any(inputs)
    return inputs


def require_any(inputs: Sequence[Input]) -> None:
    """Raise `InputError` if nothing can be done with any of them."""
    if all(each.error for each in inputs):
        more = f" (and {len(inputs) - 1} more cannot be done)" if len(inputs) > 1 else ""
        raise InputError(f"{readable(inputs[0].path)}: {inputs[0].error}{more}")


def load(args: argparse.Namespace) -> FiLo:
    """Load what the arguments name."""
    scale = given_scale(args.scale)
    filo = FiLo.load(
        args.ckpt_path,
        clip_model=args.clip_model,
        clip_pretrained=args.clip_pretrained,
        image_size=args.image_size,
        features_list=args.features_list,
        prompts=args.prompts or (),
        detector=choose_detector(args),
        decisions=args.decisions,
        device=args.device,
    )
    options.set_speed(args, filo.clip, filo.device)
    filo.scale = scale
    return filo


def run(args: argparse.Namespace, filo: FiLo, inputs: Sequence[Input]) -> list[Record]:
    """Look at all images, batch by batch, and write down each; give those that failed."""
    names, failed = name_heatmaps(inputs), []
    with tqdm(total=len(inputs), desc="predict", unit="image", disable=None) as bar:
        for batch in batches(inputs, args.batch_size, count_pixels):
            of_batch, records = [inputs[i] for i in batch], []
            for i, answer in zip(batch, look(filo, of_batch), strict=True):
                records.append(to_record(i, inputs[i], answer, "" if args.no_heatmaps else names[i]))
                write_record(args.out, records[-1])  # first, so that no picture is left unlisted
                if isinstance(answer, Result):
                    write_pictures(args.out, records[-1], answer, args.heatmap_side)
                    answer.picture.close()
                said = answer.verdict if isinstance(answer, Result) else "failed"
                tqdm.write(f"{records[-1].image}: {said}", file=sys.stdout)
            append_rows(args.out, records)
            failed += [record for record in records if record.error]
            bar.update(len(batch))
    return failed


def look(filo: FiLo, batch: Sequence[Input]) -> list[Result | str]:
    """Look at a batch of one class: for each image its result, or why there is none."""
    pictures = [Picture(each.path, readable(each.path)) for each in batch]
    answers: dict[int, Result | str] = {}
    for i, (each, picture) in enumerate(zip(batch, pictures, strict=True)):
        try:
            if each.error:
                raise ImageError(each.error)
            picture.open()
        except ImageError as error:
            answers[i] = say_why(error, picture)
    good = [i for i in range(len(batch)) if i not in answers]
    try:
        found = filo.judge([pictures[i] for i in good], batch[0].class_name) if good else []
        answers |= dict(zip(good, found, strict=True))
    except ImageError as error:  # of one of them; the others are looked at by themselves
        for i in good:
            answers[i] = say_why(error, pictures[i]) if len(good) == 1 else look(filo, [batch[i]])[0]
    return [answers[i] for i in range(len(batch))]


def say_why(error: ImageError, picture: Picture) -> str:
    """Give an error in one line, without the image's name, which stands beside it everywhere."""
    text = str(error).removeprefix(str(picture.path)).lstrip(": ")
    return " ".join(text.split()).encode(errors="replace").decode()


def describe_run(
    args: argparse.Namespace, filo: FiLo, inputs: Sequence[Input], failed: Sequence[Record]
) -> dict:
    """Everything that is needed to repeat the predictions."""
    known = {each.name: each for each in filo.classes.values()}
    thresholds = {name: filo.threshold(name) for name in known}
    files = dict.fromkeys(path for each in known.values() for path in each.origin)
    return {
        "command": readable(Path(shlex.join(["python", "-m", "filo.predict", *sys.argv[1:]]))),
        "arguments": arguments(args),
        "preset": preset_name(filo.config),
        "config": asdict(filo.config),
        "classes": {
            name: {"kinds": len(each.texts.kinds), "note": each.note, "undecided": thresholds[name][1]}
            for name, each in known.items()
        },
        "thresholds": {name: value for name, (value, _) in thresholds.items() if value is not None},
        "decisions": str(filo.decisions.path),
        "scale": asdict(filo.heatmap_scale),
        "images": len(inputs),
        "failed": [{"image": record.image, "error": record.error} for record in failed],
        "scoring": filo.scoring(),
        "detector": filo.localiser.record,
        "hashes": {
            "checkpoint": filo.checkpoint.sha256,
            "clip_weights": filo.checkpoint.clip["sha256"],
            "prompts": {str(path): sha256_of(path) for path in files},
        },
        "trained": filo.checkpoint.provenance,
        "environment": describe_environment(filo.device),
    }


if __name__ == "__main__":
    exit_clearly(main)
