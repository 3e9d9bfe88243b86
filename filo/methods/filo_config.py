"""In what FiLo's paper and its published program differ, as data.

A preset is nothing but a set of values. `official` follows the published program, to which the published
weights and tables belong; `paper` follows arXiv 2404.13671. Where the paper leaves something open, the
reading taken here stands beside the field. All differences that are known, and where each is settled:

     1 norm of maps            map_norm, `mean` in both   13 maps in the local loss  local_loss
     2 how kernels combine     mmci_combine, softmax_at   14 Dice                    dice_over, dice_form
     3 kernels                 mmci_shapes, same in both  15 the word "normal"       templates
     4 tapped levels           aliased_taps               16 abnormal texts          templates
     5 first V-V layer         after the first tap, both  17 position in training    all nine in both
     6 image score             image_score                18 scale of text features  joint_norm
     7 max M before the boxes  boxes                      19 learning rates          same; flags of train.py
     8 Gaussian                blur_kernel, blur_sigma    20 mosaics                 --aug_rate, mosaic_label
     9 order in eq. 4          linear: the same           21 detector                --grounded_checkpoint
    10 factor outside boxes    boxes                      22 results                 README
    11 adapter                 adapter_bias, _residual    23 text threshold          --text_threshold
    12 global loss             global_loss                24 activation              activation

Beside these, `share_descriptions_by_name` is a quirk of the program. Number 21 is a matter of weights: the
program's were fine-tuned on the auxiliary dataset. Number 23: the program takes the box threshold for both;
the defaults are the same. Numbers 5, 17 and 19 have one value in both, so there is nothing to switch. The
paper does not speak of mosaics; both presets make them.

`ablate` switches off the parts that tables 2 to 4 of the paper vary.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from operator import index
from typing import ClassVar, Literal

from torch import Tensor

from filo.errors import InputError
from filo.fields import check_values, require_fields
from filo.grounding.boxes import PRESETS as BOX_PRESETS
from filo.grounding.boxes import BoxRules
from filo.mmci import SHAPES

LARGEST, LARGEST_SIDES = 9999, 99  # beyond, a checkpoint's few bytes would become many gigabytes


@dataclass(frozen=True)
class FiLoConfig:
    """What a FiLo model is made of; the defaults are the preset `official`.

    Raises:
        InputError: a value is of another type, or none of a field's choices.
    """

    # sizes, the same in both
    features_list: tuple[int, ...] = (6, 12, 18, 24)  # 1-based layers of the image tower that are tapped
    n_ctx: int = 12  # learned vectors before each text; figure 5 finds 12 best

    # the image tower
    # OpenAI's weights were trained with QuickGELU, FiLo's on top of them without
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    aliased_taps: bool = True  # stored tensors are altered by later blocks (`filo.clip.vision`)

    # heads and maps
    mmci_shapes: tuple[tuple[int, int], ...] = SHAPES  # none: no MMCI heads
    # `features`: one softmax over the sum | `probabilities`: eq. 2, one each
    mmci_combine: Literal["features", "probabilities"] = "features"
    softmax_at: Literal["image", "grid"] = "image"  # after enlarging | eq. 2, before it
    # Norm of eq. 2 and 3 has no formula in the paper. `mean`: divide by the number of maps added, which
    # brings them to [0, 1] and keeps images comparable | `minmax`: stretch every image's final map to [0, 1]
    map_norm: Literal["mean", "minmax"] = "mean"
    blur_kernel: int = 3  # pixels; as official: far too small for its sigma, so nearly a plain 3x3 mean
    blur_sigma: float = 4.0

    # texts
    templates: str = "official"  # set of prompts/templates.json
    share_descriptions_by_name: bool = True  # as official: macaroni1 is described as macaroni2
    described: bool = True  # False: the general states alone, without the class's own descriptions
    learned_template: bool = True  # False: the same words before every text, whatever the image
    joint_norm: bool = True  # divide [F_n, F_a] by the pair's norm: the temperature becomes 100 / sqrt(2)

    # global feature and image score
    adapter_bias: bool = False
    adapter_residual: bool = True
    # `cosine`: (g.F_a + max M) / 2 | `softmax`: eq. 1, softmax(g.F / 0.07) + max M
    image_score: Literal["cosine", "softmax"] = "cosine"

    # boxes of a detector, if there is one: which count, what they say of position and map
    boxes: BoxRules = BOX_PRESETS["official"]

    # training
    dice_over: Literal["rows", "image"] = "rows"  # every pixel row by itself | all pixels of an image
    # `smooth`: 1 - (2I + 1) / (P + T + 1) | `squared`: eq. 8
    dice_form: Literal["smooth", "squared"] = "smooth"
    # `each`: every map by itself, summed | `mean`: eq. 9, on the aggregated map
    local_loss: Literal["each", "mean"] = "each"
    # `cosine`: cross-entropy of the two similarities / 0.07 | `score`: eq. 5 and 6 on S_global with max(M);
    # as it lies in [0, 2], half of it is taken as the probability of an anomaly
    global_loss: Literal["cosine", "score"] = "cosine"
    # `own`: a mosaic keeps the label of the image it replaces | `any`: anomalous if any part is
    mosaic_label: Literal["own", "any"] = "own"

    sizes: ClassVar[tuple[str, ...]] = ("features_list", "n_ctx")  # what no preset fixes
    resize: ClassVar[str] = "bicubic"  # of the position embeddings
    is_agnostic: ClassVar[bool] = False  # texts speak of the class
    of_testing: ClassVar[tuple[str, ...]] = ()  # may differ from training

    def __post_init__(self) -> None:
        check_values(self)
        self._check_sizes()

    def _check_sizes(self) -> None:
        sides = [side for shape in self.mmci_shapes for side in shape]
        wrong = {
            "n_ctx": not 1 <= self.n_ctx <= LARGEST,
            "mmci_shapes": any(side % 2 == 0 for side in sides) or sum(map(abs, sides)) > LARGEST_SIDES,
            "blur_kernel": not 1 <= self.blur_kernel <= LARGEST or self.blur_kernel % 2 == 0,
            "blur_sigma": not 0 < self.blur_sigma < float("inf"),
            "boxes": not 0 <= self.boxes.outside_weight <= 1,
        }
        if bad := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise InputError(
                f"{bad[0]} {getattr(self, bad[0])!r}: wanted above zero, kernel sides odd, weights up to 1, "
                f"no more than {LARGEST} of anything"
            )


PRESETS = {
    "official": FiLoConfig(),
    "paper": FiLoConfig(
        activation="quick_gelu",
        aliased_taps=False,
        mmci_combine="probabilities",
        softmax_at="grid",
        blur_kernel=33,  # four sigmas on each side
        templates="paper",
        share_descriptions_by_name=False,
        joint_norm=False,
        adapter_bias=True,
        adapter_residual=False,
        image_score="softmax",
        boxes=BOX_PRESETS["paper"],
        dice_over="image",
        dice_form="squared",
        local_loss="mean",
        global_loss="score",
        mosaic_label="any",
    ),
}


def config_from_dict(values: dict) -> FiLoConfig:
    """Rebuild a config from its `dataclasses.asdict`, as a checkpoint holds it.

    Raises:
        InputError: a field is missing, unknown or wrong, which means another version of this project.
    """
    values = require_fields(values, FiLoConfig)
    if isinstance(values["boxes"], dict):
        values = {**values, "boxes": _boxes_from_dict(values["boxes"])}
    try:
        taps = tuple(index(layer) for layer in values["features_list"])
        shapes = tuple((index(height), index(width)) for height, width in values["mmci_shapes"])
    except (TypeError, ValueError) as error:
        raise InputError(
            "the config's features_list or mmci_shapes is wrong: "
            f"wanted layer numbers and pairs of sides ({error})"
        ) from error
    return FiLoConfig(**{**values, "features_list": taps, "mmci_shapes": shapes})


def _boxes_from_dict(values: dict) -> BoxRules:
    require_fields(values, BoxRules)
    for field in fields(BoxRules):
        if type(values[field.name]) is not type(field.default):
            raise InputError(
                f"{field.name} of boxes is {values[field.name]!r}, wanted {type(field.default).__name__}"
            )
    return BoxRules(**values)


def ablate(config: FiLoConfig, parts: Iterable[str]) -> FiLoConfig:
    """Switch off some of `ABLATIONS`.

    Shapes are the kernels 1x5 and 5x1, scales the square ones; without both there is no MMCI head.
    """
    for part in parts:
        config = replace(config, **ABLATIONS[part](config))
    return config


ABLATIONS: dict[str, Callable[[FiLoConfig], dict]] = {
    "grounding": lambda c: {"boxes": replace(c.boxes, outside_weight=1.0)},
    "position": lambda c: {"boxes": replace(c.boxes, name_position=False)},
    "shapes": lambda c: {"mmci_shapes": tuple((h, w) for h, w in c.mmci_shapes if h == w)},
    "scales": lambda c: {"mmci_shapes": tuple((h, w) for h, w in c.mmci_shapes if h != w)},
    "descriptions": lambda c: {"described": False},
    "template": lambda c: {"learned_template": False},
}
AT_TEST_ONLY = ("grounding", "position")  # training has no boxes


def part_of_state(state: Mapping[str, Tensor], trained: FiLoConfig, config: FiLoConfig) -> dict[str, Tensor]:
    """Pick what a model of `config`, an ablation of `trained`, has of its tensors, under the names it has."""
    part = {}
    for name, tensor in state.items():
        if name.startswith(("normal_prompt.", "abnormal_prompt.")) and not config.learned_template:
            continue
        if match := re.fullmatch(r"(mmci_heads\.\d+\.branches)\.(\d+)\.(\w+)", name):
            branches, number, kind = match.groups()
            shape = trained.mmci_shapes[int(number)]
            if shape not in config.mmci_shapes:
                continue
            name = f"{branches}.{config.mmci_shapes.index(shape)}.{kind}"
        part[name] = tensor
    return part
