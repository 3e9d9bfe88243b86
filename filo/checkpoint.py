"""How trained weights are kept: tensors, config and provenance in one safetensors file.

Published files (`filo.published`, `filo.published_anomalyclip`) are read as they are. `python -m
filo.checkpoint inspect FILE` says what a weights file is; `python -m filo.checkpoint convert IN OUT` turns a
published FiLo into ours and back.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from filo import published_anomalyclip
from filo.all_methods import METHODS, TRAINED, Config, method_name
from filo.clip.load import OPENAI_MEAN_STD
from filo.clip.sizes import read_sizes
from filo.errors import InputError, exit_clearly
from filo.files import sha256_of
from filo.grounding.weights import find_form
from filo.options import make_parser, positive
from filo.published import clip_part, trained_part
from filo.weights import find_kind, fingerprint, read_tensors, require_finite, write_tensors

FORMAT = "filo-checkpoint-1"
SUFFIX = ".safetensors"
IN_FILE = "checkpoint"  # what `pretrained` is where a file brings its CLIP with it
PUBLISHED_CLIP, PUBLISHED_SIZE = "ViT-L-14-336", 518
# what test.py relies on; there may be more
CLIP_FIELDS = {"model": str, "pretrained": str, "image_size": int, "sha256": str, "mean": list, "std": list}
PROVENANCE_FIELDS = {"dataset": str, "meta_sha256": str}


@dataclass(frozen=True)
class Checkpoint:
    """A trained FiLo or AnomalyCLIP without its CLIP; `config` tells which.

    `clip` says which CLIP belongs to it: model, pretrained, image_size, sha256 of the weights, mean and std
    of its images. `pretrained` is "checkpoint" where the file itself holds the CLIP, and `model` is empty
    where its sizes are not those of the published one; a published AnomalyCLIP does not say `sha256`, which
    is empty then. `provenance` says where the weights come from:
    dataset, hashes of meta.json and prompts, arguments, stage, epoch and its loss, versions, commit,
    hardware; of a published file only the dataset, as far as its name tells it.
    """

    state: dict[str, Tensor]
    config: Config
    clip: dict
    provenance: dict
    sha256: str

    @property
    def title(self) -> str:
        """How its method is spoken of."""
        return METHODS[method_name(self.config)].title


def save_checkpoint(
    path: Path, state: dict[str, Tensor], config: Config, clip: dict, provenance: dict
) -> None:
    """Write a checkpoint atomically.

    Raises:
        InputError: it cannot be written; an earlier file of that name stands untouched.
    """
    metadata = {"format": FORMAT, "method": method_name(config)}
    for name, part in (("config", asdict(config)), ("clip", clip), ("provenance", provenance)):
        metadata[name] = json.dumps(part)
    write_tensors(path, state, metadata, is_lasting=True)


def _check_fields(what: str, found: object, wanted: dict[str, type]) -> None:
    if not isinstance(found, dict):
        raise TypeError(f"{what} is a {type(found).__name__}")
    for name, kind in wanted.items():
        if not isinstance(found.get(name), kind):
            raise TypeError(f"{name} of {what} is {found.get(name)!r}, wanted {kind.__name__}")


def _check_clip(clip: dict) -> None:
    if isinstance(clip["image_size"], bool) or not 1 <= clip["image_size"] <= 4096:
        raise ValueError(f"image_size is {clip['image_size']}, wanted 1 to 4096")
    for name in ("mean", "std"):
        fits = len(clip[name]) == 3 and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in clip[name])
        if not fits or (name == "std" and 0 in clip[name]):
            raise ValueError(f"{name} is {clip[name]}, wanted three numbers of RGB between 0 and 1")


def epoch_path(folder: Path, stage: int, epoch: int) -> Path:
    """Name the checkpoint of one epoch of one stage, both counted from 1."""
    return folder / f"stage{stage}_epoch_{epoch:02d}.safetensors"


def is_ours(path: Path) -> bool:
    """Say whether a file has the header of a checkpoint of this project, of whatever version.

    Raises:
        InputError: it ends in .safetensors and is none.
    """
    return read_header(path).get("format", "").startswith("filo-")


def load_checkpoint(
    path: Path, features_list: Sequence[int] | None = None, asked: Mapping[str, object] | None = None
) -> Checkpoint:
    """Read a checkpoint, ours or a published file; of the latter only the trained part is kept in memory.

    `features_list` names the tapped layers of a published file that does not say them itself: a FiLo with
    other than four linear heads, an AnomalyCLIP with other than layer 24. Otherwise it and what is `asked`
    for, fields of the method's config by name, must be what the file says, but for those that may differ from
    training: they are changed. `method` among them must be the checkpoint's.

    Raises:
        InputError: the file is missing, cut off, something else than a checkpoint, or one of another method
            or architecture.
    """
    found = _load(path, features_list)
    given = {name: value for name, value in (asked or {}).items() if value is not None}
    own = method_name(found.config)
    if (method := given.pop("method", own)) != own:
        raise InputError(
            f"{path} holds {_article(found.title)}, not {_article(METHODS[method].title)}: leave --method "
            "out, or give a checkpoint of that method"
        )
    if features_list is not None:
        given["features_list"] = tuple(features_list)
    for name, value in given.items():
        _require_asked(path, found, name, value)
    changed = {name: value for name, value in given.items() if name in found.config.of_testing}
    return replace(found, config=replace(found.config, **changed))


def _article(title: str) -> str:
    return f"{'an' if title[0] in 'AEIOU' else 'a'} {title}"


def _require_asked(path: Path, found: Checkpoint, name: str, value: object) -> None:
    """Raise `InputError` if a checkpoint has another value, or its method no such thing."""
    if not hasattr(found.config, name):
        raise InputError(f"{path} holds {_article(found.title)}, which has no {name}: leave --{name} out")
    trained = getattr(found.config, name)
    if value != trained and name not in found.config.of_testing:
        raise InputError(
            f"{path} was trained with {name} {trained}, not {value}: leave --{name} out, or give the "
            "checkpoint of that architecture"
        )


def _load(path: Path, features_list: Sequence[int] | None) -> Checkpoint:
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; `bash train.sh` makes one")
    if is_ours(path):
        return _load_ours(path, read_header(path))
    weights = read_tensors(path)
    loaders = {"published": (_load_published, "FiLo"), "anomalyclip": (_load_anomalyclip, "AnomalyCLIP")}
    if (kind := find_kind(weights)) not in loaders:
        raise InputError(f"{path} is no checkpoint: {say_what(weights)}")
    load, title = loaders[kind]
    try:
        return load(path, weights, features_list)
    except InputError as error:
        raise InputError(f"{path} looks like a published {title} file, but {error}") from error


def read_header(path: Path) -> dict[str, str]:
    """Give what a safetensors file says about itself; nothing for a file of another form."""
    if path.suffix != SUFFIX:
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no readable safetensors file (cut off, or another format?): {error}"
        ) from error


def _load_ours(path: Path, header: dict[str, str]) -> Checkpoint:
    if header["format"] != FORMAT:
        raise InputError(
            f"{path} was written by another version: its format is {header['format']!r}, wanted {FORMAT!r}"
        )
    try:
        config, clip, provenance = (json.loads(header[key]) for key in ("config", "clip", "provenance"))
        known = {name: METHODS[name] for name in TRAINED}
        config = known[header.get("method", "filo")].from_dict(config)
        _check_fields("clip", clip, CLIP_FIELDS)
        _check_clip(clip)
        _check_fields("provenance", provenance, PROVENANCE_FIELDS)
    except InputError as error:
        raise InputError(
            f"{path} was written by another version of this program: {error}; train anew"
        ) from error
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} has a damaged header ({type(error).__name__}: {error})") from error
    state = read_tensors(path)
    require_finite(path, state)
    return Checkpoint(state, config, clip, provenance, sha256_of(path))


def _load_published(
    path: Path, weights: Mapping[str, Tensor], features_list: Sequence[int] | None
) -> Checkpoint:
    config, trained = trained_part(weights, features_list)
    frozen = clip_part(weights)
    sizes = read_sizes(frozen)
    clip = {"model": PUBLISHED_CLIP if sizes.fits(PUBLISHED_CLIP) else "", "pretrained": IN_FILE}
    clip |= {"image_size": sizes.image_size, "sha256": fingerprint(frozen)}
    clip |= {name: list(each) for name, each in zip(("mean", "std"), OPENAI_MEAN_STD, strict=True)}
    try:
        _check_clip(clip)
    except ValueError as error:
        raise InputError(str(error)) from error
    named = re.search(r"filo_train_on_(mvtec|visa)", path.name)
    provenance = {"dataset": named[1] if named else "unknown", "meta_sha256": ""}
    provenance |= {"published": f"{path.name}, in the form of the published program's weights"}
    # copied, so that nothing refers to the mapped file any longer
    state = {name: tensor.clone() for name, tensor in trained.items()}
    require_finite("its trained part", state)
    return Checkpoint(state, config, clip, provenance, sha256_of(path))


def _load_anomalyclip(
    path: Path, weights: Mapping[str, Tensor], features_list: Sequence[int] | None
) -> Checkpoint:
    config, state = published_anomalyclip.trained_part(weights, features_list)
    is_usual = state["ctx_pos"].shape[-1] == published_anomalyclip.TEXT_WIDTH
    clip = {"model": PUBLISHED_CLIP if is_usual else "", "pretrained": "openai", "sha256": ""}
    clip |= {"image_size": PUBLISHED_SIZE}
    clip |= {name: list(each) for name, each in zip(("mean", "std"), OPENAI_MEAN_STD, strict=True)}
    provenance = {"dataset": published_anomalyclip.find_dataset(path), "meta_sha256": ""}
    provenance |= {"published": f"{path.name}, in the form of the published program's weights"}
    require_finite("its trained part", state)
    if unused := published_anomalyclip.list_unused(weights):
        more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
        print(f"note: {path}: {unused[0]}{more} play no part in the method", file=sys.stderr)
    return Checkpoint(state, config, clip, provenance, sha256_of(path))


def say_what(weights: Mapping[str, Tensor]) -> str:
    """Say whose tensors these are, if not a published file's, and by which flag they are given."""
    if find_form(weights):
        return "it holds a Grounding DINO, which belongs to --grounded_checkpoint"
    kind, wanted = find_kind(weights), "wanted what train.py wrote, or a published filo_train_on_*.pth"
    if kind == "clip":
        return "it holds a CLIP, which belongs to --clip_pretrained"
    if kind == "trained":
        return f"it holds a FiLo's trained tensors, but their header is lost (format not stated); {wanted}"
    some = ", ".join(sorted(weights)[:3])
    known = " or ".join(_article(METHODS[name].title) for name in TRAINED)
    return f"its {len(weights)} tensors are none of {known} ({some or 'it is empty'}); {wanted}"


def parse_args() -> argparse.Namespace:
    parser = make_parser("Say what a weights file is, or turn a published FiLo file into ours and back.")
    parser.prog = "python -m filo.checkpoint"
    commands = parser.add_subparsers(dest="command", required=True)
    about = "Say what a weights file is, what is in it, where it comes from and where it belongs."
    one = commands.add_parser("inspect", help="say what a weights file is", description=about)
    one.add_argument("file", type=Path, help="any weights file")
    about = "Turn a published FiLo file into a checkpoint of ours with its CLIP beside it, or back."
    two = commands.add_parser("convert", help="turn a published file into ours, or back", description=about)
    two.add_argument("source", type=Path, metavar="IN", help="a published FiLo file, or a checkpoint of ours")
    two.add_argument(
        "target", type=Path, metavar="OUT", help="ours ends in .safetensors, a published one not"
    )
    two.add_argument("--clip_model", help="model or config file, where IN does not lead to it")
    two.add_argument("--clip_pretrained", help="its weights, where IN does not lead to them; only from ours")
    two.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    for command in (one, two):
        help_text = "tapped layers of a published file, unless it has four heads"
        command.add_argument("--features_list", type=positive, nargs="+", help=help_text)
    return parser.parse_args()


def main() -> int:
    from filo.convert import convert  # both need this module, so they come when it is complete
    from filo.identify import describe

    args = parse_args()
    taps = tuple(args.features_list) if args.features_list else None
    if args.command == "inspect":
        report, is_known = describe(args.file, taps)
        print(report)
        return 0 if is_known else 1
    where = (args.clip_model, args.clip_pretrained)
    print("\n".join(convert(args.source, args.target, taps, *where, args.overwrite)))
    return 0


if __name__ == "__main__":
    exit_clearly(main)
