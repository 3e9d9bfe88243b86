"""What the published FiLo files hold, and what each of their tensors is called here.

`filo_train_on_{mvtec,visa}.pth` is {"filo": state dict} of the whole published program:

    clip_model.*       the frozen CLIP in open_clip's plain names, its position table resized to the image
                       size; the attention of image blocks behind the first tap is called `attn.qkv` and
                       `attn.proj`, since these blocks run the V-V path
    text_encoder.*     the tensors of CLIP's text tower a second time
    all others         the trained part, see `list_names`

Nothing says which layers are tapped, nor which switches were set: it is the preset `official`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

from torch import Tensor, equal

from filo.clip.sizes import check_complete
from filo.errors import InputError
from filo.methods.filo_config import PRESETS, FiLoConfig
from filo.mmci import SHAPES

WRAPPER = "filo"
CLIP, TWIN = "clip_model.", "text_encoder."
# what of CLIP stands under `text_encoder.` too
TEXT_TOWER = re.compile(r"(transformer|ln_final)\..+|positional_embedding|text_projection")
BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d{1,4})\.attn\.(.+)")
# open_clip's attention -> the same behind the first tap
ATTENTION = {
    "in_proj_weight": "qkv.weight",
    "in_proj_bias": "qkv.bias",
    "out_proj.weight": "proj.weight",
    "out_proj.bias": "proj.bias",
}


def list_names(config: FiLoConfig) -> dict[str, str]:
    """Name every trained tensor: here -> in a published file."""
    taps, kinds = len(config.features_list), ("weight", "bias")
    names = {f"linear_heads.{i}.{k}": f"decoder_linear.fc.{i}.{k}" for i in range(taps) for k in kinds}
    names |= {
        f"mmci_heads.{i}.branches.{branch}.{k}": f"decoder_cov.fc_{height}{width}.{i}.{k}"
        for i in range(taps - 1)
        for branch, (height, width) in enumerate(config.mmci_shapes)
        for k in kinds
    }
    for side in ("normal", "abnormal"):
        names[f"{side}_prompt.ctx"] = f"{side}_prompt_learner.ctx"
        for layer, theirs in ((0, "linear1"), (2, "linear2")):
            for k in kinds:
                names[f"{side}_prompt.meta_net.{layer}.{k}"] = f"{side}_prompt_learner.meta_net.{theirs}.{k}"
    return names | {"adapter.down.weight": "adapter.fc.0.weight", "adapter.up.weight": "adapter.fc.2.weight"}


# ---- a published file's tensors -> ours


def list_unused(names: Iterable[str]) -> list[str]:
    """Name what is no weight: the causal mask of the text tower, which some versions of open_clip save."""
    return [name for name in names if name.startswith((CLIP, TWIN)) and name.endswith(".attn_mask")]


def trained_part(
    weights: Mapping[str, Tensor], features_list: Sequence[int] | None = None
) -> tuple[FiLoConfig, dict[str, Tensor]]:
    """Give the config that the tensors tell and the trained part under our names.

    `features_list` is asked for where the file has another number of heads than the published four.

    Raises:
        InputError: a tensor is missing or unknown, or the taps contradict the file.
    """
    found = {name: t for name, t in weights.items() if not name.startswith((CLIP, TWIN))}
    ctx = found.get("normal_prompt_learner.ctx")
    if ctx is None or ctx.ndim != 2:
        raise InputError("normal_prompt_learner.ctx is missing or not a list of vectors")
    config = replace(
        PRESETS["official"],
        features_list=_taps(weights, features_list),
        n_ctx=len(ctx),
        mmci_shapes=_kernels(found),
    )
    names = list_names(config)
    if odd := sorted(set(names.values()) ^ found.keys()):
        what = "is missing from it" if odd[0] not in found else "is no tensor of the published program"
        raise InputError(f"{odd[0]} {what} ({len(odd)} such names)")
    return config, {ours: found[theirs].detach() for ours, theirs in names.items()}


def _taps(weights: Mapping[str, Tensor], given: Sequence[int] | None) -> tuple[int, ...]:
    heads = sum(bool(re.fullmatch(r"decoder_linear\.fc\.\d+\.weight", name)) for name in weights)
    default = PRESETS["official"].features_list
    if given is None and heads != len(default):
        raise InputError(
            f"it has {heads} linear heads and does not say which layers they tap: name them by "
            "--features_list"
        )
    taps = tuple(given or default)
    if len(taps) != heads:
        raise InputError(f"it has {heads} linear heads, so --features_list {taps} cannot be its layers")
    dual, ordinary = _blocks(weights, "qkv.weight"), _blocks(weights, "in_proj_weight")
    if dual and not max(ordinary, default=-1) < taps[0] == min(dual):
        raise InputError(
            f"its V-V path begins behind layer {min(dual)}, so the first of {taps} cannot be its first tap: "
            "give --features_list as it was trained with"
        )
    return taps


def _blocks(weights: Iterable[str], attention: str) -> list[int]:
    """The image blocks, from 0, that have their attention under this name."""
    found = (BLOCK.fullmatch(name.removeprefix(CLIP)) for name in weights)
    return [int(match[1]) for match in found if match and match[2] == attention]


def _kernels(names: Iterable[str]) -> tuple[tuple[int, int], ...]:
    found = [re.fullmatch(r"decoder_cov\.fc_(\d)(\d)\.0\.weight", name) for name in names]
    shapes = tuple((int(match[1]), int(match[2])) for match in found if match)
    if not shapes:
        raise InputError("its MMCI heads, decoder_cov.fc_*, are missing")
    return SHAPES if set(shapes) == set(SHAPES) else shapes


def clip_part(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the frozen CLIP under open_clip's names, its position table as it is.

    Raises:
        InputError: a tensor is missing, unknown or of another shape, or the text tower's second copy differs.
    """
    unused = set(list_unused(weights))
    found = {name: t.detach() for name, t in weights.items() if name not in unused}
    clip = {}
    for name in (name for name in found if name.startswith(CLIP)):
        plain = _ordinary(name.removeprefix(CLIP))
        if plain in clip:
            raise InputError(f"{name} is there twice, as attn.qkv / attn.proj and under its ordinary name")
        clip[plain] = found[name]
    check_complete(clip)
    for name in (name for name in found if name.startswith(TWIN)):
        plain = name.removeprefix(TWIN)
        if not TEXT_TOWER.fullmatch(plain) or plain not in clip:
            raise InputError(f"{name} is no tensor of the published program")
        if not _same(found[name], clip[plain]):
            raise InputError(f"{name} differs from {CLIP}{plain}, of which it should be a second copy")
    return clip


def _ordinary(name: str) -> str:
    back = {theirs: ours for ours, theirs in ATTENTION.items()}
    match = BLOCK.fullmatch(name)
    return name.replace(match[2], back.get(match[2], match[2])) if match else name


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal; those that share their memory, as these do in a file, are not read."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return (a.data_ptr() == b.data_ptr() and a.stride() == b.stride()) or equal(a, b)


# ---- ours -> a published file's tensors


def check_holdable(config: FiLoConfig) -> None:
    """Raise `InputError` for a config that a published file cannot hold: it has no place but for sizes."""
    sizes = {name: getattr(config, name) for name in ("features_list", "n_ctx", "mmci_shapes")}
    official = replace(PRESETS["official"], **sizes)
    odd = [f.name for f in fields(config) if getattr(config, f.name) != getattr(official, f.name)]
    if odd:
        raise InputError(
            f"the published form has no place for {', '.join(odd)}: it holds models of the preset official"
        )
    if not config.mmci_shapes or any(side > 9 for shape in config.mmci_shapes for side in shape):
        raise InputError(
            f"the published form has MMCI kernels of two digits, such as 15, not {config.mmci_shapes}"
        )


def join(config: FiLoConfig, trained: Mapping[str, Tensor], clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the state dict of a published file together; `clip` has the position table of the image size.

    The text tower's second copy is the same tensors, so that `torch.save` writes them once.

    Raises:
        InputError: the published form cannot hold this config, or this CLIP; a trained tensor is missing.
    """
    check_holdable(config)
    names = list_names(config)
    if odd := sorted(names.keys() ^ trained.keys()):
        raise InputError(
            f"{odd[0]} is missing from the trained part, or too much in it ({len(odd)} such names)"
        )
    check_complete(clip)
    state = {CLIP + _behind_tap(name, config.features_list[0]): t for name, t in clip.items()}
    state |= {TWIN + name: t for name, t in clip.items() if TEXT_TOWER.fullmatch(name)}
    return state | {names[ours]: t for ours, t in trained.items()}


def _behind_tap(name: str, first_tap: int) -> str:
    match = BLOCK.fullmatch(name)
    return name.replace(match[2], ATTENTION[match[2]]) if match and int(match[1]) >= first_tap else name
