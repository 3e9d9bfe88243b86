"""What the published AnomalyCLIP files hold: the learned prompts alone, under the names they have here.

`epoch_15.pth` is {"prompt_learner": state dict}. Beside what is learned there are tensors that the program
keeps and never uses. Nothing says which layers are tapped, nor which CLIP it is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from filo.errors import InputError
from filo.methods.anomalyclip import PRESETS, AnomalyCLIPConfig

TEXT_WIDTH = 768  # of the CLIP that all published files belong to
DEEP = re.compile(r"compound_prompts_text\.(\d{1,3})")
UNUSED = re.compile(
    r"compound_prompt_projections\.\d+\.(weight|bias)|token_(prefix|suffix)_(pos|neg)|tokenized_prompts_(pos|neg)"
)
# the folders of the program's repository; the one of them is named after what it is tested on
FOLDERS = {"9_12_4_multiscale": "visa", "9_12_4_multiscale_visa": "mvtec"}


def list_unused(names: Iterable[str]) -> list[str]:
    """Name what plays no part in the method."""
    return [name for name in names if UNUSED.fullmatch(name)]


def trained_part(
    weights: Mapping[str, Tensor], features_list: Sequence[int] | None = None
) -> tuple[AnomalyCLIPConfig, dict[str, Tensor]]:
    """Give the config that the tensors tell, and the learned tensors; `features_list` if it is not layer 24.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    state = {name: t.clone() for name, t in weights.items() if not UNUSED.fullmatch(name)}
    depth = 1 + sum(bool(DEEP.fullmatch(name)) for name in state)
    own = {"ctx_pos", "ctx_neg", *(f"compound_prompts_text.{k}" for k in range(depth - 1))}
    if odd := sorted(own ^ state.keys()):
        what = "is missing from it" if odd[0] in own else "is no tensor of the published program"
        raise InputError(f"{odd[0]} {what} ({len(odd)} such names)")
    shape = tuple(state["ctx_pos"].shape)
    if len(shape) != 4 or shape[:2] != (1, 1):
        raise InputError(f"ctx_pos has the shape {shape}, wanted (1, 1, n_ctx, text width)")
    sizes = {"n_ctx": shape[2], "depth": depth}
    if depth > 1:
        sizes["t_n_ctx"] = len(state["compound_prompts_text.0"])
    else:
        sizes["t_n_ctx"] = min(PRESETS["official"].t_n_ctx, shape[2])
    taps = PRESETS["official"].features_list if features_list is None else tuple(features_list)
    return replace(PRESETS["official"], features_list=taps, **sizes), state


def find_dataset(path: Path) -> str:
    """Name the dataset a published file was trained on, as far as its own or its folder's name tells."""
    named = re.search(r"anomalyclip_train_on_(mvtec|visa)", path.name)
    return named[1] if named else FOLDERS.get(path.resolve().parent.name, "unknown")
