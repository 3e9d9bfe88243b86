"""How a method that needs no training is made from flags, in the form of a checkpoint without tensors."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Literal, get_args, get_origin

from filo import options
from filo.all_methods import METHODS, Config, method_name
from filo.checkpoint import Checkpoint
from filo.clip.build import read_config
from filo.clip.load import OPENAI_MEAN_STD
from filo.ensembles import HYBRID, WINCLIP, find_ensemble, read_ensemble
from filo.errors import InputError
from filo.files import sha256_of
from filo.prompts import ClassTexts, PromptBook, agnostic_texts, find_prompt_file, spoken

CLIP = ("ViT-B-16-plus-240", "laion400m_e31")
OBJECT = "object"  # how FADE speaks of the class where it compares patches
# the texts that images and patches are compared with; WinCLIP has one set for both
ENSEMBLES = {"winclip": (("winclip_program",), ()), "fade": (WINCLIP, HYBRID)}
OF_PRESET = {("winclip", "paper"): (WINCLIP, ())}  # where a preset has other ones
HELP = {
    "patch_tokens": "which block's patch tokens are remembered; the paper's are penultimate",
    "tiling": "cut long pictures into squares along their longer side, as the paper does",
    "coreset_share": "share of the references' patches that is kept in memory, chosen greedily",
    "classification_mode": "what image scores are made of",
    "segmentation_mode": "what maps are made of",
    "language_classification_feature": "which class token is compared with texts",
    "language_segmentation_feature": "which patches are compared with texts",
    "vision_feature": "which patches are compared with the memory",
    "vision_segmentation_multiplier": "of distances to the memory",
    "vision_segmentation_weight": "of vision against language in maps of both",
    "use_query_img_in_vision_memory_bank": "compare patches with others of their own image as well",
    "classification_img_size": "side of the image that scores are made of",
    "segmentation_img_sizes": "sides of the images that maps are made of, as 240,448,896",
    "eval_img_size": "side of the maps",
    "text_model_type": "what tells normal from abnormal by the texts",
    "normalize_segmentations": "stretch every image's own map to 0 to 1",
    "fusion": "fixed weights as published, or adaptive ones from the references alone",
}


def is_untrained(method: str | None) -> bool:
    """Say whether a method needs no checkpoint."""
    return method in ENSEMBLES


def find_untrained() -> str | None:
    """Read --method off the command line, if it names a method that needs no checkpoint and has own flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--method", type=options.method_name)
    words = [word for word in sys.argv[1:] if word not in ("-h", "--help")]
    found = parser.parse_known_args(words)[0].method
    return found if is_untrained(found) else None


def add_settings(parser: argparse.ArgumentParser, method: str) -> None:
    """Add a flag for every field of a method's config, by its name and with hyphens as published."""
    known = METHODS[method]
    add = parser.add_argument_group(f"settings of {known.title}: what it is made of").add_argument
    add("--preset", choices=tuple(known.presets), default="official", help="whose values the others have")
    for field in fields(known.config):
        names = dict.fromkeys(f"--{field.name.replace('_', sign)}" for sign in "_-")
        help_text = f"{HELP[field.name]} (default: the preset's)"
        add(*names, dest=field.name, default=None, help=help_text, **_reading(field))
    for what, names in zip(("image", "patch"), ENSEMBLES[method], strict=True):
        if names:
            usual = f"ensembles of texts for the {what} (default: {', '.join(names)}, or the preset's)"
            add(f"--{what}_prompts", nargs="+", metavar="NAME", help=usual)
    if method == "fade":
        add("--square", action="store_true", help="kept for old scripts: images are always made square")


def _reading(field) -> dict:
    """How a flag's value is read."""
    if get_origin(field.type) is Literal:
        return {"choices": get_args(field.type)}
    if field.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if field.type is float:
        return {"type": options.rate}
    if field.type is int:
        return {"type": options.side}
    return {"type": _sides} if field.name == "segmentation_img_sizes" else {"type": str}


def _sides(text: str) -> tuple[int, ...]:
    return tuple(options.side(part) for part in text.replace(",", " ").split())


def read_settings(args: argparse.Namespace) -> Config:
    """Make the config that the flags ask for.

    Raises:
        InputError: values contradict each other.
    """
    known = METHODS[args.method]
    given = {field.name: getattr(args, field.name) for field in fields(known.config)}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(known.presets[args.preset], **given)


def make_checkpoint(config: Config, model: str | None = None, pretrained: str | None = None) -> Checkpoint:
    """Put a method together that is not trained; its CLIP is looked at in its own image size.

    Raises:
        InputError: there is no such CLIP.
    """
    name, weights = model or CLIP[0], pretrained or CLIP[1]
    name = name if name.endswith(".json") else name.replace("/", "-")  # FADE's program writes ViT-B/16-...
    side = read_config(name)["vision_cfg"].get("image_size", 224)
    clip = {"model": name, "pretrained": weights, "image_size": side, "sha256": ""}
    clip |= {key: list(each) for key, each in zip(("mean", "std"), OPENAI_MEAN_STD, strict=True)}
    said = json.dumps([method_name(config), asdict(config)], sort_keys=True)
    provenance = {"dataset": "nothing", "meta_sha256": ""}
    return Checkpoint({}, config, clip, provenance, hashlib.sha256(said.encode()).hexdigest())


def fill_texts(args: argparse.Namespace, classes: Sequence[str]) -> dict[str, ClassTexts]:
    """Fill the texts of `classes` from the ensembles that are asked for.

    A class is spoken as the files in prompts/ say, otherwise by its name with blanks.

    Raises:
        InputError: an ensemble is missing or damaged.
    """
    names = _spoken_names(args)
    return {name: fill_class(args, names.get(name, spoken(name))) for name in classes}


def fill_class(args: argparse.Namespace, word: str) -> ClassTexts:
    """Fill the texts of a class as it is spoken."""
    names_of_images, names_of_patches = _names(args)
    of_images, of_patches = _labelled(names_of_images, word), _labelled(names_of_patches, OBJECT)
    normal, abnormal = (tuple(text for text, label in of_images if label == side) for side in (0, 1))
    places = agnostic_texts("", "").positions
    return ClassTexts(normal, abnormal, places, image_prompts=of_images, patch_prompts=of_patches)


def hash_ensembles(args: argparse.Namespace) -> dict[str, str]:
    """Give the hash of every file that the texts come from."""
    paths = dict.fromkeys(find_ensemble(name) for names in _names(args) for name in names)
    return {str(path): sha256_of(path) for path in paths}


def _names(args: argparse.Namespace) -> tuple[Sequence[str], Sequence[str]]:
    """Name the ensembles for images and for patches that were asked for, else the preset's."""
    of_images, of_patches = OF_PRESET.get((args.method, args.preset), ENSEMBLES[args.method])
    return args.image_prompts or of_images, getattr(args, "patch_prompts", None) or of_patches


def _labelled(names: Sequence[str], word: str) -> tuple[tuple[str, int], ...]:
    """All prompts of some ensembles, file by file, within one normal ones first."""
    files = [read_ensemble(find_ensemble(name)).speak(word) for name in names]
    sides = [(side, label) for each in files for label, side in enumerate((each.normal, each.abnormal))]
    return tuple((text, label) for side, label in sides for text in side)


def _spoken_names(args: argparse.Namespace) -> dict[str, str]:
    try:
        paths = args.prompts or [find_prompt_file(args.dataset)]
    except (InputError, AttributeError):  # any dataset will do: without a file names are spoken as they are
        return {}
    return {key: prompt.name for key, prompt in PromptBook(paths).classes.items()}
