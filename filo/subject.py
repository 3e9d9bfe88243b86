"""What test.py puts to the test: a method with its CLIP and its texts, from a checkpoint or from flags."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from filo import options
from filo.all_methods import Config, kept_state, make_model, switch_off
from filo.checkpoint import Checkpoint, load_checkpoint
from filo.clip.load import CLIP
from filo.decisions import UNTRAINED
from filo.errors import InputError
from filo.few_shot import choose_references, remember
from filo.files import readable, sha256_of
from filo.meta import read_meta
from filo.method import Method
from filo.methods.few_shot import FewShot
from filo.prompts import ClassTexts
from filo.trained_clip import load_trained_clip
from filo.untrained import fill_texts, hash_ensembles, is_untrained, make_checkpoint, read_settings


@dataclass
class Subject:
    """A method ready to answer.

    Attributes:
        config: the checkpoint's, without what was switched off
        prompts: the hash of every file that its texts come from
        references: the files that it was shown of each class, and their hashes
    """

    checkpoint: Checkpoint
    config: Config
    clip: CLIP
    texts: dict[str, ClassTexts]
    prompts: dict[str, str]
    model: Method
    references: dict[str, dict[str, str]]


def name_of(args: argparse.Namespace) -> Path:
    """Where what belongs to the method lies: its checkpoint, or without one a name in a folder for these."""
    return args.ckpt_path or UNTRAINED / str(args.method)


def find_checkpoint(args: argparse.Namespace) -> Checkpoint:
    """Read the checkpoint, or put together the method that needs none.

    Raises:
        InputError: there is none and one is needed, or the reverse.
    """
    if is_untrained(args.method):
        if args.ckpt_path:
            raise InputError(f"--method {args.method} is not trained: leave --ckpt_path out")
        config = read_settings(args)
        require_references(args, config)
        return make_checkpoint(config, args.clip_model, args.clip_pretrained)
    path = require_checkpoint(args)
    return load_checkpoint(path, args.features_list, options.asked_of_checkpoint(args))


def require_checkpoint(args: argparse.Namespace) -> Path:
    """Give the checkpoint's path.

    Raises:
        InputError: none is named.
    """
    if args.ckpt_path is None:
        raise InputError(
            "--ckpt_path is missing: name a checkpoint, which `bash train.sh` makes; --method winclip and "
            "--method fade need none"
        )
    return args.ckpt_path


def require_references(args: argparse.Namespace, config: Config) -> None:
    """Raise `InputError` if a memory is asked for and nothing would be in it."""
    has_some = bool(getattr(args, "shots", 0) or getattr(args, "references", None))
    needs = getattr(config, "needs_vision", False) and not config.use_query_img_in_vision_memory_bank
    if needs and not has_some:
        raise InputError(
            "a mode of vision with 0 shots has nothing to compare with: give --shots, or put the query image "
            "into the memory by --use_query_img_in_vision_memory_bank (--preset zero-shot), or choose the "
            "mode language"
        )


def load_subject(args: argparse.Namespace, classes: Sequence[str], device: torch.device) -> Subject:
    """Load the method that the arguments name, for some classes.

    Raises:
        InputError: something is missing, damaged, or does not fit together.
    """
    checkpoint = find_checkpoint(args)
    config, free = switch_off(checkpoint.config, args.without), is_untrained(args.method)
    texts = fill_texts(args, classes) if free else options.read_texts(args, classes, config)
    prompts = hash_ensembles(args) if free else options.hash_prompts(args, config)
    if args.method == "fade" and args.image_size:
        raise InputError(
            "FADE's sizes are --classification_img_size and --segmentation_img_sizes, not --image_size"
        )
    where = (args.clip_model, args.clip_pretrained, args.image_size, device)
    clip = load_trained_clip(name_of(args), checkpoint, *where)
    options.set_speed(args, clip, device)
    if not free and clip.image_size != (trained := checkpoint.clip["image_size"]):
        print(f"note: tested at {clip.image_size} pixels, trained at {trained}", file=sys.stderr)
    model = make_model(clip, config, texts)
    model.load_trained_state(kept_state(checkpoint.state, checkpoint.config, config))
    model.to(device).eval()
    if args.shots and not free:
        model = FewShot(model).to(device).eval()
    return Subject(checkpoint, config, clip, texts, prompts, model, {})


def show_references(
    subject: Subject, root: Path, classes: Sequence[str], shots: int, seed: int, device: torch.device
) -> None:
    """Choose references of each class by a seed and show them to the method, instead of earlier ones.

    Raises:
        InputError: a class has too few normal training images, or one cannot be read.
    """
    if not shots:
        return
    train: dict[str, list[Path]] = {}
    for entry in read_meta(root, "train").entries:
        train.setdefault(entry.class_name, []).append(entry.image)
    chosen = choose_references(root, train, classes, shots, seed)
    prepare = partial(subject.model.view, mean=subject.clip.mean, std=subject.clip.std)
    remember(subject.model, chosen, prepare, device)
    real = root.resolve()
    subject.references = {
        name: {readable(path.relative_to(real)): sha256_of(path) for path in paths}
        for name, paths in chosen.items()
    }


def list_references(subject: Subject) -> dict[str, list[str]]:
    """Name the files that the method was shown of each class, from the dataset's root."""
    return {name: list(files) for name, files in subject.references.items()}
