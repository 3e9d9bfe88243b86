"""What FADE is made of, as data: the published program's options by their names, and its two recipes."""

from dataclasses import dataclass, replace
from operator import index
from typing import ClassVar, Literal

from filo.errors import InputError
from filo.fields import check_values, require_fields
from filo.grounding.boxes import BoxRules
from filo.text_models import Kind

Mode = Literal["none", "language", "vision", "both"]
Feature = Literal["clip", "gem"]
VISION = ("vision", "both")


@dataclass(frozen=True)
class FADEConfig:
    """What FADE looks at and how it puts it together; the defaults are those of the published program.

    Raises:
        InputError: a value is of another type, none of a field's choices, or they contradict each other.
    """

    classification_mode: Mode = "both"  # what image scores are made of; none: of the map's maximum
    segmentation_mode: Mode = "both"  # what maps are made of; none: maps are 0
    language_classification_feature: Feature = "clip"
    language_segmentation_feature: Feature = "gem"
    vision_feature: Feature = "gem"
    vision_segmentation_multiplier: float = 3.5  # of the distances, which are small numbers
    vision_segmentation_weight: float = 0.85  # of vision against language in maps of `both`
    use_query_img_in_vision_memory_bank: bool = False  # patches are compared with others of their own image
    classification_img_size: int = 240  # side of the squares in pixels
    segmentation_img_sizes: tuple[int, ...] = (240, 448, 896)
    eval_img_size: int = 448  # side of the maps
    text_model_type: Kind = "average"  # what tells by texts; see `filo.text_models`
    normalize_segmentations: bool = False  # stretch every image's own map to [0, 1]
    # how sizes, and language and vision, are weighted: as published, or by this project's own rule
    fusion: Literal["fixed", "adaptive"] = "fixed"
    coreset_share: float = 1.0  # of the references' patches, kept in memory; below 1 of large sets

    sizes: ClassVar[tuple[str, ...]] = ("classification_img_size", "segmentation_img_sizes", "eval_img_size")
    activation: ClassVar[str] = "gelu"
    resize: ClassVar[str] = "antialiased"  # of the position embeddings
    boxes: ClassVar[BoxRules] = BoxRules(outside_weight=1.0, name_position=False)
    mosaic_label: ClassVar[str] = "any"
    is_agnostic: ClassVar[bool] = False
    learned_template: ClassVar[bool] = False
    of_testing: ClassVar[tuple[str, ...]] = ()
    features_list: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        check_values(self)
        sides = (self.classification_img_size, self.eval_img_size, *self.segmentation_img_sizes)
        wrong = {
            "segmentation_mode": self.segmentation_mode == self.classification_mode == "none",
            "segmentation_img_sizes": len(sides) < 3 or not all(0 < side <= 4096 for side in sides),
            "vision_segmentation_weight": not 0 <= self.vision_segmentation_weight <= 1,
            "vision_segmentation_multiplier": not 0 < self.vision_segmentation_multiplier < float("inf"),
            "coreset_share": not 0 < self.coreset_share <= 1,
        }
        if bad := next((name for name, is_wrong in wrong.items() if is_wrong), None):
            raise InputError(
                f"{bad} {getattr(self, bad)!r}: wanted a mode other than none, sizes from 1 to 4096, "
                "a weight from 0 to 1, a multiplier above 0, a share above 0 and at most 1"
            )

    @property
    def needs_vision(self) -> bool:
        """A memory is asked for."""
        return self.classification_mode in VISION or self.segmentation_mode in VISION


ZERO_SHOT = replace(
    FADEConfig(),
    use_query_img_in_vision_memory_bank=True,
    vision_segmentation_multiplier=80.0,
    vision_segmentation_weight=0.5,
)
PRESETS = {
    "official": FADEConfig(),
    "zero-shot": ZERO_SHOT,  # the published recipe without references
    "few-shot": replace(FADEConfig(), vision_feature="clip"),  # the published recipe with some
}


def config_from_dict(values: dict) -> FADEConfig:
    """Rebuild a config from its `dataclasses.asdict`.

    Raises:
        InputError: a field is missing, unknown or wrong.
    """
    values = require_fields(values, FADEConfig)
    try:
        sides = tuple(index(side) for side in values["segmentation_img_sizes"])
    except TypeError as error:
        raise InputError(f"segmentation_img_sizes is wrong: wanted sides in pixels ({error})") from error
    return FADEConfig(**{**values, "segmentation_img_sizes": sides})
