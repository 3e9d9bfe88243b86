"""FADE: GEM and CLIP features of several image sizes against ensembles of texts and against normal images
(arXiv 2409.00556). Nothing is trained. CLIP-LMFA is the same method as far as anything public says.

As the published program does it, its uint8 maps included.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.clip.gem import gem_features
from filo.clip.load import CLIP
from filo.errors import InputError
from filo.fusion import (
    Weights,
    combine,
    enlarge,
    level,
    share,
    stretch,
    to_eight_bits,
    to_square,
    weigh_scales,
)
from filo.grounding.boxes import Boxes, cell_of
from filo.method import Method, Prediction
from filo.methods.fade_config import FADEConfig
from filo.methods.memory import coreset, leave_one_out, nearest
from filo.prompts import ClassTexts
from filo.text_models import TextModel, fit_text_model
from filo.views import Images, Scales

BEFORE = "a photo of a "  # before every prompt, also a whole sentence; and a full stop behind it
AT_ONCE = 64  # texts that are encoded together


class Seen(NamedTuple):
    """All tokens of a batch at one size, L2-normalised, class token first: (B, 1 + N, D) each."""

    gem: Tensor
    clip: Tensor


class Known(NamedTuple):
    """What is kept of a class's references.

    Attributes:
        banks: by image size, patch tokens (M, D)
        weights: of adaptive fusion, None of the fixed one
    """

    banks: dict[int, Tensor]
    weights: Weights | None


class FADEModel(Method):
    """FADE on a frozen CLIP at its own image size; `texts` have their `image_prompts` and `patch_prompts`."""

    def __init__(self, clip: CLIP, config: FADEConfig, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__(clip, config, texts)
        smallest = min(self.sides)
        if smallest < clip.patch_size:
            raise InputError(f"an image size of {smallest} is below the {clip.patch_size} pixels of a patch")
        self._models: dict[tuple[tuple[str, int], ...], TextModel] = {}
        self._means: dict[str, Tensor] = {}

    @property
    def sides(self) -> tuple[int, ...]:
        """The image sizes that are looked at."""
        config = self.config
        return tuple(dict.fromkeys((config.classification_img_size, *config.segmentation_img_sizes)))

    @property
    def view(self) -> Scales:
        """All sizes are looked at."""
        return Scales(self.sides)

    @property
    def map_side(self) -> int:
        """The side of the maps."""
        return self.config.eval_img_size

    @property
    def grid(self) -> int:
        """The side of the largest grid of patches, to which all are enlarged."""
        return max(self.config.segmentation_img_sizes) // self.clip.patch_size

    # features

    @torch.no_grad()
    def look(self, images: Images) -> dict[int, Seen]:
        """Run the image tower over every size.

        Raises:
            InputError: one is missing.
        """
        if missing := [side for side in self.sides if side not in images]:
            raise InputError(f"no images of {missing[0]} pixels were given: wanted a batch of each size")
        found = {side: gem_features(self.clip.vision, images[side]) for side in self.sides}
        return {side: Seen(*(F.normalize(tokens, dim=-1) for tokens in each)) for side, each in found.items()}

    def _patches(self, seen: Mapping[int, Seen], feature: str) -> list[Tensor]:
        """The patch tokens (B, N, D) of one kind, size by size."""
        return [getattr(seen[side], feature)[:, 1:] for side in self.config.segmentation_img_sizes]

    @torch.no_grad()
    def text_model(self, prompts: tuple[tuple[str, int], ...]) -> TextModel:
        """Fit the text model to prompts and their labels; it is kept."""
        if prompts not in self._models:
            labels = torch.tensor([label for _, label in prompts])
            embeddings = self.embed_texts([text for text, _ in prompts])
            self._models[prompts] = fit_text_model(self.config.text_model_type, embeddings, labels)
        return self._models[prompts]

    @torch.no_grad()
    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts within their words around them: (n, D), L2-normalised, float64."""
        tower, texts = self.clip.text, [f"{BEFORE}{prompt}." for prompt in prompts]
        parts = (texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE))
        return torch.cat([F.normalize(tower(tower.grow(part))[0], dim=-1).double() for part in parts])

    # language

    def language_scores(self, seen: Mapping[int, Seen], class_names: Sequence[str]) -> Tensor:
        """The probability of an anomaly by the class token, (B,), float64."""
        config = self.config
        tokens = getattr(seen[config.classification_img_size], config.language_classification_feature)
        models = [self.text_model(self.texts_of(name).image_prompts) for name in class_names]
        return torch.stack([model(token) for model, token in zip(models, tokens[:, 0], strict=True)])

    def language_grids(self, seen: Mapping[int, Seen], class_names: Sequence[str]) -> list[Tensor]:
        """The same by the patches of every size: (B, h, h) each, float64."""
        models = [self.text_model(self.texts_of(name).patch_prompts) for name in class_names]
        return [
            to_square(torch.stack([model(each) for model, each in zip(models, tokens, strict=True)]))
            for tokens in self._patches(seen, self.config.language_segmentation_feature)
        ]

    def texts_of(self, class_name: str) -> ClassTexts:
        """Give a class's texts.

        Raises:
            InputError: there are none.
        """
        if class_name not in self.texts:
            raise InputError(f"no texts for the class {class_name!r}; known: {', '.join(self.texts)}")
        return self.texts[class_name]

    # vision

    @torch.no_grad()
    def remember(self, class_name: str, references: Images) -> None:
        """Keep the patches of normal images of a class, by side (K, 3, side, side), not earlier ones.

        Raises:
            InputError: there are none, or a size is missing.
        """
        count = min(map(len, references.values()), default=0)
        if not count:
            raise InputError(f"no references of the class {class_name!r}: wanted one or more")
        seen = [self.look({side: each[i : i + 1] for side, each in references.items()}) for i in range(count)]
        sizes = self.config.segmentation_img_sizes
        patches = [self._patches(each, self.config.vision_feature) for each in seen]
        is_adaptive = self.config.fusion == "adaptive"
        weights = self._weigh(class_name, seen, patches) if is_adaptive else None
        kept = self.config.coreset_share
        banks = {
            side: coreset(torch.cat([each[n][0] for each in patches]), kept) for n, side in enumerate(sizes)
        }
        self.memory[class_name] = Known(banks, weights)

    def vision_grids(self, seen: Mapping[int, Seen], class_names: Sequence[str]) -> list[Tensor]:
        """How far every patch is from its nearest normal one, before the multiplier: (B, h, h) for each size.

        With the query image in the memory it is the second nearest, as the nearest is the patch itself.

        Raises:
            InputError: a class has no references, and the query image is not in the memory.
        """
        with_own = self.config.use_query_img_in_vision_memory_bank
        k, grids = 2 if with_own else 1, []
        for name in class_names if not with_own else ():
            if name not in self.memory:
                raise InputError(
                    f"vision needs references of the class {name!r}: give --shots, or put the query image "
                    "into the memory by --use_query_img_in_vision_memory_bank, or choose the mode language"
                )
        sizes = self.config.segmentation_img_sizes
        for side, tokens in zip(sizes, self._patches(seen, self.config.vision_feature), strict=True):
            banks = [self.memory[name].banks[side] if name in self.memory else None for name in class_names]
            rows = [nearest(each[None], bank, k, with_own) for each, bank in zip(tokens, banks, strict=True)]
            grids.append(to_square(torch.cat(rows)))
        return grids

    # fusion

    def enlarge(self, grids: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """Bring the grids of all sizes (B, h, h) to the largest and take their mean: (B, G, G)."""
        return enlarge(grids, self.grid, weights)

    def _weigh(
        self, class_name: str, seen: Sequence[Mapping[int, Seen]], patches: Sequence[Sequence[Tensor]]
    ) -> Weights:
        """This project's own rule of adaptive fusion: all weights from the references alone.

        What is normal should come out as nothing. So the sizes in the vision map, and language and vision in
        the final one, are taken in units of what they say of normal images: their weights go as the inverse
        of the level below which 99 % of the references' own values lie. In image scores they go as the
        inverse of the references' mean score. Each reference is compared with the others, a single one with
        itself. Without references the fixed weights stay.
        """
        with_own = self.config.use_query_img_in_vision_memory_bank
        left_out = [[to_square(each) for each in of_image] for of_image in leave_one_out(patches, with_own)]
        scales = weigh_scales(left_out)
        factor = self.config.vision_segmentation_multiplier
        maps = [factor * self.enlarge(each, scales) for each in left_out]
        names = [class_name]
        spoken = [self.enlarge(self.language_grids(each, names)) for each in seen]
        scores = torch.cat([self.language_scores(each, names) for each in seen])
        shares = (
            share(level(maps), level(spoken)),
            share(float(torch.stack([each.max() for each in maps]).mean()), float(scores.mean())),
        )
        return Weights(scales, *shares)

    @torch.no_grad()
    def answer_floats(
        self, seen: Mapping[int, Seen], class_names: Sequence[str]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Give image scores (B,) and maps on the grid (B, G, G), from 0 to 1; None where a mode is none."""
        if len(set(class_names)) > 1:  # each class has a memory and weights of its own
            rows = [self.answer_floats(_row(seen, i), [name]) for i, name in enumerate(class_names)]
            return tuple(None if part[0] is None else torch.cat(part) for part in zip(*rows, strict=True))
        config, name = self.config, class_names[0]
        weights = self.memory[name].weights if name in self.memory else None
        vision = language = None
        if config.needs_vision:
            grids = self.vision_grids(seen, class_names)
            vision = config.vision_segmentation_multiplier * self.enlarge(grids, weights and weights.scales)
        if config.segmentation_mode in ("language", "both"):
            language = self.enlarge(self.language_grids(seen, class_names))
        by_vision = None if vision is None else vision.flatten(1).amax(1)
        by_language = None
        if config.classification_mode in ("language", "both"):
            by_language = self.language_scores(seen, class_names)
        mode = config.classification_mode
        if mode == "both" and name not in self.memory:
            mode = "language"  # as official: without references the vision score does not count
        scores = combine(by_language, by_vision, mode, weights.vision_score if weights else 0.5)
        weight = weights.vision if weights else config.vision_segmentation_weight
        maps = combine(language, vision, config.segmentation_mode, weight)
        if maps is not None and config.normalize_segmentations:
            maps = stretch(maps)
        return scores if scores is None else scores.clamp(0, 1), maps if maps is None else maps.clamp(0, 1)

    @torch.no_grad()
    def answer(
        self,
        features: Mapping[int, Seen],
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score a batch, each image of its own class: all from 0 to 1."""
        scores, grids = self.answer_floats(features, class_names)
        if grids is None:
            grids = torch.zeros(len(class_names), self.grid, self.grid)
        if scores is None:
            scores = grids.flatten(1).amax(1)
        maps = torch.from_numpy(to_eight_bits(grids, self.map_side)).float() / 255
        tokens = features[self.config.classification_img_size].clip[:, 0]
        alike = torch.stack(
            [token @ self._normal_mean(n) for token, n in zip(tokens, class_names, strict=True)]
        )
        cells = tuple(cell_of(pixel, self.map_side) for pixel in maps.flatten(1).argmax(1).tolist())
        return Prediction(scores.float(), maps, tuple(alike[:, None].float()), cells)

    def _normal_mean(self, class_name: str) -> Tensor:
        """The direction of a class's normal prompts, (D,)."""
        if class_name not in self._means:
            prompts = [text for text, label in self.texts_of(class_name).image_prompts if not label]
            self._means[class_name] = F.normalize(self.embed_texts(prompts).mean(0), dim=-1).float()
        return self._means[class_name]


def _row(seen: Mapping[int, Seen], row: int) -> dict[int, Seen]:
    return {side: Seen(*(tokens[row : row + 1] for tokens in each)) for side, each in seen.items()}
