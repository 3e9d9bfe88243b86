"""How trained weights are kept: tensors, config and provenance in one safetensors file."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from filo.errors import InputError
from filo.files import sha256_of, write_atomically
from filo.methods.filo_config import FiLoConfig, config_from_dict

FORMAT = "filo-checkpoint-1"
# what test.py relies on; there may be more
CLIP_FIELDS = {"model": str, "pretrained": str, "image_size": int, "sha256": str, "mean": list, "std": list}
PROVENANCE_FIELDS = {"dataset": str, "meta_sha256": str}


@dataclass(frozen=True)
class Checkpoint:
    """A trained FiLo without its CLIP.

    `clip` says which CLIP belongs to it: model, pretrained, image_size, sha256 of the weights, mean and std
    of its images. `provenance` says where the weights come from: dataset, hashes of meta.json and prompts,
    arguments, stage, epoch and its loss, versions, commit, hardware.
    """

    state: dict[str, Tensor]
    config: FiLoConfig
    clip: dict
    provenance: dict
    sha256: str


def save_checkpoint(
    path: Path, state: dict[str, Tensor], config: FiLoConfig, clip: dict, provenance: dict
) -> None:
    """Write a checkpoint atomically.

    Raises:
        InputError: it cannot be written; an earlier file of that name stands untouched.
    """
    metadata = {"format": FORMAT, "method": "filo"}
    for name, part in (("config", asdict(config)), ("clip", clip), ("provenance", provenance)):
        metadata[name] = json.dumps(part)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{error}") from error

    write_atomically(path, write)


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


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: the file is missing, cut off, or something else than a checkpoint of this project.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; `bash train.sh` makes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no readable safetensors file (cut off, or another format?): {error}"
        ) from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} is no FiLo checkpoint: its format is {metadata.get('format', 'not stated')!r}, "
            f"wanted {FORMAT!r}; give the file that train.py wrote"
        )
    try:
        config, clip, provenance = (json.loads(metadata[key]) for key in ("config", "clip", "provenance"))
        config = config_from_dict(config)
        _check_fields("clip", clip, CLIP_FIELDS)
        _check_clip(clip)
        _check_fields("provenance", provenance, PROVENANCE_FIELDS)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} has a damaged header ({type(error).__name__}: {error})") from error
    return Checkpoint(state, config, clip, provenance, sha256_of(path))


# our name -> the published program's, as patterns; what both call alike is spelled out all the same
PUBLISHED_NAMES = {
    r"linear_heads\.(\d+)\.(weight|bias)": r"decoder_linear.fc.\1.\2",
    r"(normal|abnormal)_prompt\.ctx": r"\1_prompt_learner.ctx",
    r"(normal|abnormal)_prompt\.meta_net\.0\.(weight|bias)": r"\1_prompt_learner.meta_net.linear1.\2",
    r"(normal|abnormal)_prompt\.meta_net\.2\.(weight|bias)": r"\1_prompt_learner.meta_net.linear2.\2",
    r"adapter\.down\.(weight|bias)": r"adapter.fc.0.\1",
    r"adapter\.up\.(weight|bias)": r"adapter.fc.2.\1",
}


def published_name(name: str, config: FiLoConfig) -> str:
    """Give the name that a trained tensor has in the published weights; MMCI branches are named by kernel
    there.
    """
    if match := re.fullmatch(r"mmci_heads\.(\d+)\.branches\.(\d+)\.(weight|bias)", name):
        head, branch, kind = match.groups()
        height, width = config.mmci_shapes[int(branch)]
        return f"decoder_cov.fc_{height}{width}.{head}.{kind}"
    for ours, theirs in PUBLISHED_NAMES.items():
        if re.fullmatch(ours, name):
            return re.sub(ours, theirs, name)
    raise KeyError(f"{name} has no counterpart in the published weights")
