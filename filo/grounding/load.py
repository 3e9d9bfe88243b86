"""How a Grounding DINO is put together: its config, BERT's vocabulary and the weights -> `GroundingDino`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn

from filo.errors import InputError
from filo.grounding.bert import make_bert
from filo.grounding.config import PACKAGE_CONFIG, default_config, read_config
from filo.grounding.detector import GroundingDino, quiet
from filo.grounding.mmdetection import to_original
from filo.grounding.weights import find_form
from filo.weights import drawn_seed, find_kind, read_weights

# in some published files, and in no model: the table of a training task, and a count from 0 to 511
UNUSED = ("label_enc.weight", "bert.embeddings.position_ids")
OTHERS = {
    "published": "a FiLo, which belongs to --ckpt_path",
    "trained": "a FiLo, which belongs to --ckpt_path",
    "anomalyclip": "an AnomalyCLIP, which belongs to --ckpt_path",
    "clip": "a CLIP, which belongs to --clip_pretrained",
    None: "some other model",
}
OPTIONAL = "bert.pooler."  # nothing reads it
SWIN_B_WIDTH = 128  # channels of its first layer; Swin-T has 96


def load_detector(
    weights: str, config: Path | None, bert: Path | None, side: int, device: torch.device | str = "cpu"
) -> GroundingDino:
    """Load a Grounding DINO whose images have their shorter side at `side` pixels.

    `weights` is a file in the original key names or in MMDetection's, or `drawn:SEED` for weights drawn from
    a seed, which know nothing and are for tests and timing. `config` is a file of plain assignments as
    groundingdino-py has them (default: SwinT-OGC). `bert` is a vocab.txt or the folder of one, where a
    config.json may say that BERT has other sizes than bert-base; without it the vocabulary of
    bert-base-uncased is taken from the hub or its cache.

    Raises:
        InputError: something is missing or unreadable, or the weights are of another model.
    """
    config = config or default_config()
    settings = read_config(config)
    seed = drawn_seed(weights)
    state = _read_state(Path(weights)) if seed is None else None
    if state is not None and find_form(state) == "mmdetection":
        try:
            state = to_original(state)
        except InputError as error:
            raise InputError(f"{weights}: {error}") from error
        settings["dec_pred_bbox_embed_share"] = False  # MMDetection trains a box head for every layer
    model = _build(settings, config, bert, seed or 0)
    if state is not None:
        _fill(model, state, weights, config)
    return GroundingDino(model, side, device)


def _read_state(path: Path) -> dict[str, Tensor]:
    state = read_weights(path)
    if find_form(state) is None:
        raise InputError(
            f"{path} holds no Grounding DINO but {OTHERS[find_kind(state)]}, its first tensor is "
            f"{next(iter(state), 'none')}; give Grounding DINO's weights by --grounded_checkpoint, "
            "or go without by --detector none"
        )
    return state


def _build(settings: dict, config: Path, bert: Path | None, seed: int) -> nn.Module:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, language_model = make_bert(bert)
        from groundingdino.models import build_model
        from groundingdino.util import get_tokenlizer

        # recomputing layers saves memory in training; here it would cost a warning for each
        settings = {**settings, "use_checkpoint": False, "use_transformer_ckpt": False}
        ours = {
            "get_tokenlizer": lambda name: tokenizer,
            "get_pretrained_language_model": lambda name: language_model,
        }
        try:
            with mock.patch.multiple(get_tokenlizer, **ours):  # theirs download
                return build_model(SimpleNamespace(**settings))
        except Exception as error:  # the package checks no config: whatever trips over it is raised
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"{config} is no config that groundingdino-py can build ({type(error).__name__}: {reason}); "
                f"compare it with the package's {PACKAGE_CONFIG}"
            ) from error


def _fill(model: nn.Module, state: dict[str, Tensor], path: str, config: Path) -> None:
    """Load the weights, every name accounted for; of names that share a tensor one is enough."""
    wanted = model.state_dict()
    names = _names_by_tensor(wanted)
    missing = [
        name
        for name, tensor in wanted.items()
        if not name.startswith(OPTIONAL) and not any(twin in state for twin in names[tensor.data_ptr()])
    ]
    unknown = [name for name in state if name not in wanted and name not in UNUSED]
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if wrong := [*other, *missing, *unknown]:
        if other and all(name.startswith("bert.") for name in wrong):
            raise InputError(
                f"{path} holds another BERT than the one that was made, first {wrong[0]}: --bert names the "
                "folder of its vocab.txt and, if it is not bert-base, its config.json"
            )
        want, found = (tuple(s[wrong[0]].shape) if wrong[0] in s else "none" for s in (wanted, state))
        raise InputError(
            f"{path} does not fit {config.name}: {len(wrong)} of {len(wanted)} tensors differ, the first is "
            f"{wrong[0]} (wanted {want}, found {found}); --groundingdino_config names the config of these "
            f"weights{_hint(state)}"
        )
    differing = [
        given
        for twins in names.values()
        if len(given := [twin for twin in twins if twin in state]) > 1
        and any(not torch.equal(state[given[0]], state[twin]) for twin in given[1:])
    ]
    if differing:
        print(
            f"note: {path} holds different values for {differing[0][0]} and {differing[0][-1]}, which are "
            f"one tensor in {config.name}; the last one's are used, as in the published program (a config "
            "with dec_pred_bbox_embed_share = False keeps them apart)",
            file=sys.stderr,
        )
    # as official: shared names are filled in the model's order, so that the last one's values stay
    model.load_state_dict({name: t for name, t in state.items() if name in wanted}, strict=False)


def _names_by_tensor(state: Mapping[str, Tensor]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, tensor in state.items():
        names.setdefault(tensor.data_ptr(), []).append(name)
    return names


def _hint(state: Mapping[str, Tensor]) -> str:
    patch = state.get("backbone.0.patch_embed.proj.weight")
    if patch is None or len(patch) != SWIN_B_WIDTH:
        return ""
    return f" (they look like Swin-B's: {default_config().with_name('GroundingDINO_SwinB_cfg.py')})"
