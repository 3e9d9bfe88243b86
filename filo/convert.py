"""How published FiLo files become checkpoints of ours and back, tensor for tensor."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from filo.checkpoint import IN_FILE, SUFFIX, Checkpoint, load_checkpoint, save_checkpoint
from filo.clip.load import OPENAI_MEAN_STD
from filo.clip.positions import resize_positions
from filo.clip.sizes import read_sizes
from filo.errors import InputError
from filo.files import write_atomically
from filo.published import WRAPPER, check_holdable, join, list_unused
from filo.trained_clip import TABLE, check_fingerprint, find_trained_weights, locate
from filo.weights import fingerprint, read_tensors, write_tensors


def convert(
    source: Path,
    target: Path,
    features_list: tuple[int, ...] | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write `target` in the other of the two forms than `source` has; give lines that say what was done.

    `features_list` is for published files that do not have four linear heads. `model` and `pretrained` say
    where the CLIP of one of our checkpoints lies, or under which name that of a published file is noted down.

    Raises:
        InputError: `source` is no FiLo, the other form cannot hold it, or `target` cannot be written.
    """
    checkpoint = load_checkpoint(source, features_list)
    is_published = checkpoint.clip["pretrained"] == IN_FILE
    if (target.suffix == SUFFIX) != is_published:
        wanted = f"one of ours, ending in {SUFFIX}" if is_published else "a published one, ending in .pth"
        raise InputError(f"{source} can only become {wanted}: name the output accordingly, not {target.name}")
    refuse_to_overwrite(target, overwrite)
    if is_published:
        return to_ours(source, checkpoint, target, model, pretrained, overwrite)
    return to_published(source, checkpoint, target, model, pretrained)


def refuse_to_overwrite(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: choose another name, or add --overwrite")


# ---- published -> ours


def to_ours(
    source: Path,
    checkpoint: Checkpoint,
    target: Path,
    model: str | None,
    pretrained: str | None,
    overwrite: bool,
) -> list[str]:
    """Write the trained part to `target` and the CLIP to a file beside it, which the checkpoint names."""
    if pretrained:
        raise InputError(f"{source} brings its CLIP with it: leave --clip_pretrained out")
    frozen = find_trained_weights(source, checkpoint, "", IN_FILE)
    if model and not read_sizes(frozen).fits(model):
        raise InputError(f"the CLIP in {source} has not the sizes of {model} but {read_sizes(frozen)}")
    beside = target.with_name(f"{target.stem}_clip{SUFFIX}")
    kept = beside.exists() and _same_tensors(read_tensors(beside), frozen)
    if not kept:
        refuse_to_overwrite(beside, overwrite)
        write_tensors(beside, frozen)
    clip = checkpoint.clip | {"model": model or checkpoint.clip["model"], "pretrained": beside.name}
    origin = {"converted_from": {"file": source.name, "sha256": checkpoint.sha256}}
    save_checkpoint(target, checkpoint.state, checkpoint.config, clip, checkpoint.provenance | origin)
    lines = [
        _describe(target, checkpoint.state),
        _describe(beside, frozen) + (", kept as it was" if kept else ""),
    ]
    unused = list_unused(read_tensors(source))
    return lines + ([f"left out, as they are no weights: {', '.join(unused)}"] if unused else [])


def _same_tensors(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        t.dtype == others[name].dtype and torch.equal(t, others[name]) for name, t in some.items()
    )


# ---- ours -> published


def to_published(
    source: Path, checkpoint: Checkpoint, target: Path, model: str | None, pretrained: str | None
) -> list[str]:
    """Write the trained part and the CLIP it was trained on, at the size it was trained at, to `target`."""
    try:
        check_holdable(checkpoint.config)
        _check_normalisation(checkpoint)
        name, place = locate(source, checkpoint, model, pretrained)
        frozen = find_trained_weights(source, checkpoint, name, place)
        check_fingerprint(source, checkpoint, fingerprint(frozen), f"{name} ({place})")
        frozen = _at_image_size(frozen, checkpoint.clip["image_size"])
        state = join(checkpoint.config, _compact(checkpoint.state), _compact(frozen))
    except InputError as error:
        raise InputError(f"{source} cannot take the published form: {error}") from error
    write_atomically(target, lambda temporary: _save_pickle(temporary, {WRAPPER: state}))
    return [
        _describe(target, state),
        "left behind, as this form has no place for it: where the weights come from "
        f"(inspect {source} says it)",
    ]


def _check_normalisation(checkpoint: Checkpoint) -> None:
    for name, wanted in zip(("mean", "std"), OPENAI_MEAN_STD, strict=True):
        found = checkpoint.clip[name]
        if not all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(found, wanted, strict=True)):
            raise InputError(f"its images have the {name} {found}, the published form knows OpenAI's alone")


def _at_image_size(weights: dict[str, Tensor], image_size: int) -> dict[str, Tensor]:
    """Resize the position table as the model did; one that fits is left as it is."""
    patch = read_sizes(weights).patch_size
    if image_size % patch:
        raise InputError(f"its image size {image_size} is no multiple of the {patch}-pixel patch")
    if read_sizes(weights).image_size == image_size:
        return weights
    return weights | {TABLE: resize_positions(weights[TABLE].float(), image_size // patch)}


def _compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Free every tensor of what else its memory holds, since `torch.save` would write all of it."""
    return {
        name: t if t.untyped_storage().nbytes() == t.numel() * t.element_size() else t.clone()
        for name, t in tensors.items()
    }


def _save_pickle(path: Path, content: dict) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # closing the archive fails too, and that is what torch tells
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0]) from error


def _describe(path: Path, tensors: Mapping[str, Tensor]) -> str:
    kinds = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()}))
    return f"{path}: {len(tensors)} tensors, {kinds}, {path.stat().st_size / 1e9:.3f} GB"
