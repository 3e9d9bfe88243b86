"""The flags that several commands share, and what their values may be."""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import torch

from filo.errors import InputError
from filo.files import sha256_of
from filo.grounding.boxes import Thresholds
from filo.precision import DTYPES, is_native
from filo.prompts import ClassTexts, PromptBook, agnostic_texts, find_prompt_file
from filo.transforms import LARGEST, allow_pixels

METHODS = ("filo", "anomalyclip", "winclip", "fade")


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to a help text, unless it is none or the text speaks of it already."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if (
            action.default is None
            or action.default in ([], "")
            or action.default is False
            or "default" in action.help
        ):
            return action.help
        return super()._get_help_string(action)


def make_parser(about: str) -> argparse.ArgumentParser:
    """Make a command's parser; `about` is its docstring, of which the first paragraph is shown."""
    return argparse.ArgumentParser(description=about.split("\n\n")[0], formatter_class=_Defaults)


def add_prompt_option(add: Callable, default: str = "prompts/<dataset>.json") -> None:
    add(
        "--prompts",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=f"prompt files, a later one overriding an earlier one (default: {default})",
    )


def add_checkpoint_options(add: Callable) -> None:
    flags = ("--ckpt_path", "--checkpoint_path")  # FiLo's program, AnomalyCLIP's
    add(*flags, type=Path, help="a checkpoint of train.py, or a published one; winclip and fade need none")
    flags = ("--clip_model", "--model-name")  # --model-name and --pretrained are those of FADE's program
    add(
        *flags, help="the checkpoint's CLIP by another name or config file (winclip, fade: ViT-B-16-plus-240)"
    )
    add(
        "--clip_pretrained",
        "--pretrained",
        help="the checkpoint's CLIP weights at another place; checkpoint: those in a published file",
    )
    add("--image_size", type=side, help="another side than in training, in pixels")
    add(
        "--features_list",
        type=positive,
        nargs="+",
        help="of a published FiLo with other than four heads, or AnomalyCLIP with other than layer 24; "
        "otherwise it must be the checkpoint's",
    )
    for name in ("n_ctx", "depth", "t_n_ctx"):
        add(f"--{name}", type=positive, help="must be the checkpoint's; kept for old scripts")
    add(
        "--feature_map_layer",
        type=count,
        nargs="+",
        help="of AnomalyCLIP: taps before it are not used (default: as in training)",
    )
    add("--sigma", type=rate, help="of AnomalyCLIP: pixels of the maps' Gaussian (default: 4)")
    add(
        "--method",
        type=method_name,
        choices=METHODS,
        help="winclip or fade, which need no checkpoint; otherwise it must be the checkpoint's",
    )


def method_name(text: str) -> str:
    """Read a method's name."""
    return {"clip-lmfa": "fade"}.get(text, text)


def asked_of_checkpoint(args: argparse.Namespace) -> dict[str, object]:
    """Give those of `add_checkpoint_options` that a checkpoint must agree with or take over, by name."""
    asked = {name: getattr(args, name) for name in ("method", "n_ctx", "depth", "t_n_ctx", "sigma")}
    return asked | {"feature_map_layer": args.feature_map_layer and args.feature_map_layer[0]}


def add_scale_option(add: Callable, default: str) -> None:
    """Add --scale, which `plots.given_scale` reads; `default` says what holds without it."""
    add(
        "--scale",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values of the maps that get the first and the last colour in every picture "
        f"(default: {default})",
    )


class _AllowPixels(argparse.Action):
    """Sets the limit where the flag is read, so that no command can forget it."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        setattr(namespace, self.dest, value)
        allow_pixels(value)


def add_image_option(add: Callable) -> None:
    add(
        "--largest_image",
        type=pixels,
        action=_AllowPixels,
        default=LARGEST,
        metavar="PIXELS",
        help="an image of more pixels is refused; each takes 4 bytes of memory and more",
    )


def add_run_options(add: Callable) -> None:
    add_image_option(add)
    add("--device", help="cuda, cuda:1, cpu, mps (default: CUDA's first, or the CPU)")
    add("--workers", type=count, help="processes that read images (default: 8 beside a GPU, otherwise none)")
    add("--deterministic", action="store_true", help="on CUDA the same bits every time, more slowly")


def add_speed_options(add: Callable) -> None:
    add(
        "--precision",
        choices=tuple(DTYPES),
        default="fp32",
        help="in which frozen weights, and the heads at test, multiply; bf16 and fp16 are faster and change "
        "numbers a little",
    )
    add("--compile", action="store_true", help="compile the image tower (CUDA only; takes minutes at first)")


def add_feature_options(add: Callable) -> None:
    add("--cache_features", type=Path, help="folder where the frozen features are kept, to be computed once")
    add("--cache_precision", choices=("fp32", "fp16"), default="fp32", help="fp16: half the disk, rounded")


def add_resume_options(add: Callable) -> None:
    add("--overwrite", action="store_true", help="throw away the run that the folder holds")
    add(
        "--resume",
        action="store_true",
        help="go on with the unfinished run that the folder holds, and end if there is none; without this "
        "flag an unfinished run of the same arguments goes on too, and otherwise one begins",
    )
    add(
        "--save_every",
        type=rate,
        default=10,
        metavar="MINUTES",
        help="at most so much work is lost when the process is killed; 0: never save where it stands",
    )


def split_name(run: str) -> tuple[str, Path]:
    """Split `[NAME=]FOLDER` at the first equals sign; without one the folder is the name."""
    name, equals, folder = run.partition("=")
    return (name, Path(folder)) if equals else (run, Path(run))


def set_speed(args: argparse.Namespace, clip, device: torch.device) -> None:
    """Apply `add_speed_options` to a CLIP.

    Raises:
        InputError: there is nothing to compile for.
    """
    if args.compile and device.type != "cuda":
        raise InputError(f"--compile is for CUDA, this is {device}: leave it out")
    if not is_native(args.precision, device):
        print(f"note: {device} only imitates {args.precision}, so fp32 may be faster", file=sys.stderr)
    clip.set_precision(args.precision)
    if args.compile:
        clip.vision.compile()


def read_prompts(args: argparse.Namespace) -> PromptBook:
    """Open the prompt files that the arguments name, or the dataset's own."""
    return PromptBook(args.prompts or [find_prompt_file(args.dataset)])


def hash_prompts(args: argparse.Namespace, config) -> dict[str, str]:
    """Give the hash of every file that a method's texts come from."""
    files = () if config.is_agnostic else read_prompts(args).files
    return {str(path): sha256_of(path) for path in files}


def add_detector_options(add: Callable) -> None:
    add(
        "--detector",
        choices=("groundingdino", "cached", "none"),
        help="groundingdino: run it where its answer is not on disk yet; cached: never run it; none: all "
        "nine positions, maps not weighted (default: groundingdino if there is a --grounded_checkpoint)",
    )
    add("--grounded_checkpoint", help="Grounding DINO's weights: a file, or drawn:SEED for timing")
    add("--groundingdino_config", type=Path, help="its config (default: groundingdino-py's SwinT-OGC)")
    add("--bert", type=Path, help="vocab.txt of bert-base-uncased, or its folder (default: from the hub)")
    for name, default in asdict(Thresholds()).items():
        add(f"--{name}_threshold", type=rate, help=f"{MEANING[name]} (default: {default})")
    add("--cache_dir", type=Path, default=Path("./cache"), help="what was computed once is kept here")


MEANING = {
    "box": "a box is kept if its best token is more likely",
    "text": "a token of the caption belongs to a box if it is more likely",
    "area": "a box is kept if its share of the image is smaller",
}


def read_texts(args: argparse.Namespace, classes: Iterable[str], config) -> dict[str, ClassTexts]:
    """Fill the texts of `classes` as a method's config wants them."""
    if config.is_agnostic:
        return dict.fromkeys(classes, agnostic_texts(config.normal, config.abnormal))
    quirks = (config.templates, config.share_descriptions_by_name)
    return read_prompts(args).texts(classes, *quirks, config.described, not config.learned_template)


def add_without_option(add: Callable, parts: Iterable[str]) -> None:
    add(
        "--without",
        nargs="+",
        default=[],
        choices=list(parts),
        metavar="PART",
        help=f"parts to switch off, to see what each is worth: {', '.join(parts)}",
    )


def count_workers(args: argparse.Namespace, device_type: str) -> int:
    if args.workers is not None:
        return args.workers
    return 8 if device_type == "cuda" else 0


def positive(text: str) -> int:
    """Parse a whole number from 1 to 65535, the largest that sizes and counts need."""
    return _bounded(text, int, 1, 65535)


def side(text: str) -> int:
    """Parse an image side in pixels."""
    return _bounded(text, int, 1, 4096)


def pixels(text: str) -> int:
    """Parse how many pixels an image may have."""
    return _bounded(text, int, 1, 2**40)


def count(text: str) -> int:
    """Parse a number of epochs or processes."""
    return _bounded(text, int, 0, 1024)


def seed(text: str) -> int:
    """Parse a seed, as far as generators take it."""
    return _bounded(text, int, 0, 2**63 - 1)


def rate(text: str) -> float:
    """Parse a finite number, zero or above."""
    return _bounded(text, float, 0, sys.float_info.max)


def share(text: str) -> float:
    """Parse a probability."""
    return _bounded(text, float, 0, 1)


def _bounded(text: str, kind: type, lowest: int, highest: float):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not lowest <= value <= highest:
        wanted = (
            f"whole number from {lowest} to {highest}"
            if kind is int
            else f"number from {lowest} to {highest:.3g}"
        )
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a {wanted}")
    return value
