"""AnomalyCLIP: object-agnostic prompts learned on a frozen CLIP (arXiv 2310.18961).

Two texts stand for everything, "object." and "damaged object.", behind learned vectors; further learned
tokens are put into the first blocks of the text tower. Patch tokens come from the V-V stream. All as the
published program does it since April 2025.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filo.clip.load import CLIP
from filo.clip.vision import ImageFeatures, check_taps
from filo.errors import InputError
from filo.fields import check_values, require_fields
from filo.grounding.boxes import Boxes, BoxRules, cell_of
from filo.losses import dice_loss, focal_loss
from filo.method import Method, Prediction
from filo.mmci import to_grid
from filo.prompts import ClassTexts
from filo.smoothing import smooth

TEMPERATURE = 0.07  # the program's constant, instead of CLIP's own
MAP_WEIGHT = 4.0  # of the maps' losses against the global one
DUAL_BLOCKS = 19  # last blocks of the image tower that have the V-V stream beside the ordinary one
LARGEST = 9999  # beyond, a checkpoint's few bytes would become many gigabytes


@dataclass(frozen=True)
class AnomalyCLIPConfig:
    """What an AnomalyCLIP is made of; the defaults are those of the published scripts.

    Raises:
        InputError: a value is of another type or out of bounds.
    """

    features_list: tuple[int, ...] = (24,)  # 1-based layers of the image tower that are tapped
    feature_map_layer: int = 0  # how many of them, from the first, are not used
    n_ctx: int = 12  # learned vectors before each text
    t_n_ctx: int = 4  # learned tokens within each of the first blocks of the text tower
    depth: int = 9  # blocks of the text tower that see learned vectors; the first sees those before the text
    normal: str = "object."
    abnormal: str = "damaged object."  # table 8 tries other words
    sigma: float = 4.0  # pixels, of the Gaussian over the final map; 0 for none

    sizes: ClassVar[tuple[str, ...]] = ("features_list", "feature_map_layer", "n_ctx", "t_n_ctx", "depth")
    activation: ClassVar[str] = "quick_gelu"  # that of OpenAI's weights
    resize: ClassVar[str] = "bilinear"  # of the position embeddings
    boxes: ClassVar[BoxRules] = BoxRules(outside_weight=1.0, name_position=False)  # there is no detector
    mosaic_label: ClassVar[str] = "any"
    is_agnostic: ClassVar[bool] = True  # the same texts whatever the class
    learned_template: ClassVar[bool] = True
    of_testing: ClassVar[tuple[str, ...]] = ("feature_map_layer", "sigma")  # may differ from training

    def __post_init__(self) -> None:
        check_values(self)
        wrong = {
            "n_ctx": not 1 <= self.n_ctx <= LARGEST,
            "t_n_ctx": not 1 <= self.t_n_ctx <= self.n_ctx,
            "depth": not 1 <= self.depth <= LARGEST,
            "feature_map_layer": not 0 <= self.feature_map_layer < len(self.features_list),
            "sigma": not 0 <= self.sigma <= LARGEST,
        }
        if bad := next((name for name, is_wrong in wrong.items() if is_wrong), None):
            raise InputError(
                f"{bad} {getattr(self, bad)!r}: wanted counts above zero, t_n_ctx up to n_ctx {self.n_ctx}, "
                f"feature_map_layer below the {len(self.features_list)} of features_list, no more than "
                f"{LARGEST} of anything"
            )


PRESETS = {"official": AnomalyCLIPConfig()}


def config_from_dict(values: dict) -> AnomalyCLIPConfig:
    """Rebuild a config from its `dataclasses.asdict`, as a checkpoint holds it.

    Raises:
        InputError: a field is missing, unknown or wrong, which means another version of this project.
    """
    values = require_fields(values, AnomalyCLIPConfig)
    try:
        taps = tuple(index(layer) for layer in values["features_list"])
    except TypeError as error:
        raise InputError(f"the config's features_list is wrong: wanted layer numbers ({error})") from error
    return AnomalyCLIPConfig(**{**values, "features_list": taps})


class LossParts(NamedTuple):
    """What the loss of a batch is made of; the two add up to it.

    `maps` is 4 times the sum over taps of focal and both Dice losses, `image` the cross-entropy.
    """

    maps: Tensor
    image: Tensor


class AnomalyCLIPModel(Method):
    """Two learnable prompts and the deep tokens that both share, on a frozen CLIP.

    Names and shapes of the trained tensors are the published program's.
    """

    def __init__(self, clip: CLIP, config: AnomalyCLIPConfig, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__(clip, config, texts)
        check_taps(config.features_list, clip.layers)
        T = clip.text_width
        self.ctx_pos, self.ctx_neg = (
            nn.Parameter(torch.empty(1, 1, config.n_ctx, T).normal_(std=0.02)) for _ in range(2)
        )
        self.compound_prompts_text = nn.ParameterList(
            torch.empty(config.t_n_ctx, T).normal_(std=0.02) for _ in range(config.depth - 1)
        )
        self._kept: Tensor | None = None  # text features, as long as nothing is learned

    def train(self, mode: bool = True) -> "AnomalyCLIPModel":
        self._kept = None
        return super().train(mode)

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        self._kept = None
        super().load_trained_state(state)

    # features

    @property
    def taps(self) -> tuple[int, ...]:
        """The layers that are used."""
        return self.config.features_list[self.config.feature_map_layer :]

    @torch.no_grad()
    def image_features(self, images: Tensor, tapped: bool = True) -> ImageFeatures:
        """Run the frozen image tower.

        Shape:
            image: (B, D), the class token projected without `ln_post`
            vv: one (B, 1 + N, D) for each of `taps`, projected; from the ordinary stream where that is alone
        """
        taps, start = self.taps if tapped else (), max(self.clip.layers - DUAL_BLOCKS, 0)
        found = self.clip.vision(images, taps, vv_after=start, norm_image=False)
        dual = dict(zip([tap for tap in taps if tap > start], found.vv, strict=True))
        tokens = (dual.get(tap, x) for tap, x in zip(taps, found.ordinary, strict=True))
        return ImageFeatures(found.image, (), tuple(self.clip.vision.project(each) for each in tokens))

    def frozen_settings(self) -> dict:
        return super().frozen_settings() | {"features_list": self.taps, "projected": True}

    def frozen_numbers(self) -> int:
        patches = (self.clip.image_size // self.clip.patch_size) ** 2
        return (len(self.taps) * (patches + 1) + 1) * self.clip.embed_dim

    def text_features(self) -> Tensor:
        """Encode the normal and the abnormal text: (2, D), not normalised (section 3.2)."""
        texts = (self.config.normal, self.config.abnormal)
        tree = self.clip.text.grow(texts, self.config.n_ctx, sides=(0, 1))
        ctx = torch.cat([self.ctx_pos, self.ctx_neg], dim=1)  # (1, 2, n, T)
        return self.clip.text(tree, ctx, tuple(self.compound_prompts_text))[0]

    def _unit_texts(self) -> Tensor:
        """The L2-normalised text features; computed once where nothing is learned."""
        if self.training or torch.is_grad_enabled():
            return F.normalize(self.text_features(), dim=-1)
        if self._kept is None or self._kept.device != self.ctx_pos.device:
            self._kept = F.normalize(self.text_features(), dim=-1)
        return self._kept

    # maps and scores

    def compare(self, features: Tensor, text: Tensor) -> Tensor:
        """Give the probabilities [normal, abnormal] of features (.., D) by unit texts (2, D): (.., 2)."""
        return (F.normalize(features, dim=-1) @ text.T / TEMPERATURE).softmax(-1)

    def probability_maps(self, features: ImageFeatures, text: Tensor) -> list[Tensor]:
        """Give [normal, abnormal] maps (B, 2, S, S), one for each tap; the softmax comes before enlarging."""
        grids = (to_grid(self.compare(tap[:, 1:], text)) for tap in features.vv)  # (B, 2, G, G)
        side = self.clip.image_size
        return [F.interpolate(grid, size=side, mode="bilinear", align_corners=False) for grid in grids]

    def anomaly_map(self, maps: Sequence[Tensor]) -> Tensor:
        """Add the taps' maps (B, 2, S, S) up, which gives 0 to their number, and smooth: (B, S, S)."""
        total = torch.stack([(each[:, 1] + 1 - each[:, 0]) / 2 for each in maps]).sum(0)
        return smooth(total, self.config.sigma)

    def image_scores(self, image: Tensor, text: Tensor) -> Tensor:
        """Score images (B,) from their global features (B, D); the maps play no part."""
        return self.compare(image, text)[:, 1]

    @torch.no_grad()
    def answer(
        self,
        features: ImageFeatures,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score images by their features; neither classes nor boxes matter, scores are 0 to 1."""
        text = self._unit_texts()
        maps = self.anomaly_map(self.probability_maps(features, text))
        normal = F.normalize(features.image, dim=-1) @ text[:1].T  # (B, 1)
        cells = (cell_of(pixel, self.clip.image_size) for pixel in maps.flatten(1).argmax(1).tolist())
        return Prediction(self.image_scores(features.image, text), maps, tuple(normal), tuple(cells))

    # training

    def loss(self, features: ImageFeatures, masks: Tensor, labels: Tensor) -> LossParts:
        """The loss of a batch against masks (B, S, S) and labels (B,) (section 3.4)."""
        text = self._unit_texts()
        logits = F.normalize(features.image, dim=-1) @ text.T / TEMPERATURE
        maps = self.probability_maps(features, text)
        local = torch.stack([sum(self.map_losses(each, masks)) for each in maps]).sum()
        return LossParts(MAP_WEIGHT * local, F.cross_entropy(logits, labels))

    def map_losses(self, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Focal loss, Dice loss of the abnormal map and of the normal one (B, 2, S, S)."""
        masks = masks.to(maps.dtype)
        return focal_loss(maps, masks), dice_loss(maps[:, 1], masks), dice_loss(maps[:, 0], 1 - masks)
