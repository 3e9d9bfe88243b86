"""How the CLIP that a checkpoint was trained on is found again, and told from any other."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from filo.checkpoint import IN_FILE, PUBLISHED_CLIP, Checkpoint
from filo.clip.build import read_config
from filo.clip.load import CLIP, find_weights, load_clip
from filo.clip.positions import resize_positions
from filo.errors import InputError
from filo.published import clip_part
from filo.weights import read_tensors

TABLE = "visual.positional_embedding"
ROUNDING = 1e-3  # of a position table that was resized by somebody else


def load_trained_clip(
    path: Path,
    checkpoint: Checkpoint,
    model: str | None = None,
    pretrained: str | None = None,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
) -> CLIP:
    """Load the CLIP that the checkpoint at `path` was trained on.

    `model` and `pretrained` say where it lies here, `image_size` asks for another size than in training; by
    default all three are the checkpoint's. Of a published file the CLIP within is used even if it is given
    from elsewhere too, which is then merely checked.

    Raises:
        InputError: it is not there, or it is another CLIP.
    """
    name, source = locate(path, checkpoint, model, pretrained)
    require_model(path, name)
    weights = None  # then load_clip finds them, once it has looked at everything else
    if IN_FILE in (source, checkpoint.clip["pretrained"]):
        found = find_trained_weights(path, checkpoint, name, source)
        weights = {n: t.float() for n, t in found.items()}
    size = image_size or checkpoint.clip["image_size"]
    config = checkpoint.config
    clip = load_clip(name, source, size, config.activation, device, weights=weights, resize=config.resize)
    check_fingerprint(path, checkpoint, clip.sha256, f"{name} ({source})")
    clip.mean, clip.std = tuple(checkpoint.clip["mean"]), tuple(checkpoint.clip["std"])
    return clip


def locate(
    path: Path, checkpoint: Checkpoint, model: str | None = None, pretrained: str | None = None
) -> tuple[str, str]:
    """Give the model and the weights to load: what is given, otherwise what the checkpoint says.

    A file that the checkpoint names is looked for beside it, then where its name leads to from here. The
    model is empty where nobody says it.

    Raises:
        InputError: a file is in neither place.
    """
    found = []
    for flag, given in (("model", model), ("pretrained", pretrained)):
        said = checkpoint.clip[flag]
        beside = path.parent / said
        if given or not Path(said).suffix:
            found.append(given or said)
        elif beside.is_file() or Path(said).exists():
            found.append(str(beside) if beside.is_file() else said)
        else:
            raise InputError(
                f"{path} was trained on the CLIP of {said}, which is not there: --clip_{flag} names another "
                "place"
            )
    return found[0], found[1]


def find_trained_weights(
    path: Path, checkpoint: Checkpoint, model: str, pretrained: str
) -> dict[str, Tensor]:
    """Give the weights of that CLIP at the size they are kept in, each tensor as its file has it.

    Raises:
        InputError: they are not there; a published file was trained on others.
    """
    if checkpoint.clip["pretrained"] != IN_FILE:
        if pretrained == IN_FILE:
            raise InputError(f"{path} holds no CLIP: --clip_pretrained checkpoint is for published files")
        return _find_elsewhere(path, model, pretrained)
    try:
        own = clip_part(read_tensors(path))
    except InputError as error:
        raise InputError(f"{path} should hold its CLIP, but {error}") from error
    if pretrained != IN_FILE:
        try:
            other = _find_elsewhere(path, model, pretrained)
        except InputError as error:
            raise InputError(f"{error} (or leave --clip_pretrained out: {path} holds its CLIP)") from error
        check_same_clip(path, own, other, pretrained)
    return own


def _find_elsewhere(path: Path, model: str, pretrained: str) -> dict[str, Tensor]:
    if not model and Path(pretrained).is_file():  # a file speaks for itself
        return read_tensors(Path(pretrained))
    require_model(path, model)
    return find_weights(model, read_config(model), pretrained, read_tensors)[0]


def require_model(path: Path, model: str) -> None:
    """Raise `InputError` if nobody says which model of open_clip a checkpoint's CLIP is."""
    if not model:
        raise InputError(
            f"{path} was trained on another CLIP than {PUBLISHED_CLIP} and does not say its name: give an "
            "open_clip model or a config file by --clip_model"
        )


def check_same_clip(path: Path, own: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str) -> None:
    """Raise `InputError` if weights from elsewhere are not the CLIP of the published file at `path`.

    Every value must be equal, but for the position table: resized to the file's grid, it may differ by
    rounding.
    """
    other = {name.removeprefix("text."): t for name, t in other.items()}  # of a separate text tower
    odd = sorted(own.keys() ^ other.keys())
    if not odd:
        odd = [n for n in own if n != TABLE and not torch.equal(_values(own[n]), _values(other[n]))]
    if not odd and not _tables_agree(_values(own[TABLE]), _values(other[TABLE])):
        odd = [TABLE]
    if odd:
        raise InputError(
            f"{path} was trained on another CLIP than {source}: {len(odd)} of {len(own)} tensors differ, the "
            f"first is {odd[0]}; leave --clip_pretrained out, as the file holds its CLIP"
        )


def _values(tensor: Tensor) -> Tensor:
    return tensor.float().squeeze()  # some keep the one number of logit_scale in a list


def _tables_agree(own: Tensor, other: Tensor) -> bool:
    if own.ndim != 2 or other.ndim != 2:
        return False
    try:
        resized = resize_positions(other, math.isqrt(len(own) - 1))
    except InputError:
        return False
    return own.shape == resized.shape and bool((own - resized).abs().max() <= ROUNDING)


def check_fingerprint(path: Path, checkpoint: Checkpoint, sha256: str, what: str) -> None:
    """Raise `InputError` if the weights with this fingerprint are not those the checkpoint was trained on, as
    far as it says.
    """
    trained = checkpoint.clip
    if sha256 != (trained["sha256"] or sha256):
        raise InputError(
            f"{path} was trained on the CLIP {trained['model']} ({trained['pretrained']}, weights "
            f"{trained['sha256'][:12]}), but {what} has the weights {sha256[:12]}: give the right ones by "
            "--clip_model and --clip_pretrained"
        )
