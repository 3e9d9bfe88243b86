"""A trained method that is also shown a few normal images: beside its own map stands one of how far every
patch is from theirs. A memory of patches for FiLo is the idea of FiLo++ (arXiv 2501.10067); the rule is this
project's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from filo.clip.vision import ImageFeatures
from filo.errors import InputError
from filo.fusion import enlarge, level, to_square
from filo.grounding.boxes import Boxes
from filo.method import Method, Prediction
from filo.methods.memory import coreset, leave_one_out, nearest


class Known(NamedTuple):
    """What is kept of a class's references.

    Attributes:
        banks: by tap, patch tokens (M, C)
        factor: what brings distances to the level of the method's own map
    """

    banks: list[Tensor]
    factor: float


@dataclass
class Seen:
    """A batch's features, and what the method by itself says of them, which no memory changes: found once."""

    features: ImageFeatures
    found: Prediction | None = None


class FewShot(Method):
    """FiLo or AnomalyCLIP with a memory of the tokens that its heads, or texts, are compared with.

    A patch's distance is the mean over the taps of that to the nearest patch of the references. It is brought
    to the level of the method's own map: both have one value below which 99 % of the references' own patches
    lie, each reference compared with the others, a single one with itself. The map is the mean of both, the
    image score the mean of the method's own and the largest distance.
    """

    def __init__(self, method: Method, share: float = 1.0) -> None:
        super().__init__(method.clip, method.config, method.texts)
        self.method, self.share = method, share
        self.texts = method.texts

    @torch.no_grad()
    def image_features(self, images: Tensor, tapped: bool = True) -> ImageFeatures:
        return self.method.image_features(images, tapped)

    def look(self, images: Tensor) -> Seen:
        """Run the image tower over images (B, 3, S, S)."""
        return Seen(self.image_features(images))

    @torch.no_grad()
    def remember(self, class_name: str, references: Tensor) -> None:
        """Keep the patches of normal images (K, 3, S, S) of a class, instead of earlier ones."""
        seen = [self.image_features(image[None]) for image in references]
        patches = [_patches(features) for features in seen]
        left_out = [self._spread(each) for each in leave_one_out(patches)]
        maps = [self.method.answer(features, [class_name]).maps for features in seen]
        banks = [
            coreset(torch.cat([each[n][0] for each in patches]), self.share) for n in range(len(patches[0]))
        ]
        self.memory[class_name] = Known(banks, level(maps) / level(left_out))

    def _distance(self, patches: Sequence[Tensor], known: Known) -> Tensor:
        """The mean distance over the taps in the method's own measure, (B, S, S)."""
        pairs = zip(patches, known.banks, strict=True)
        return known.factor * self._spread([nearest(each, bank) for each, bank in pairs])

    def _spread(self, distances: Sequence[Tensor]) -> Tensor:
        return enlarge([to_square(torch.stack(list(distances)).mean(0))], self.clip.image_size)

    @torch.no_grad()
    def answer(
        self,
        features: Seen,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score a batch; the same one, of the same classes, positions and boxes, by another memory as well.

        Raises:
            InputError: nothing was shown of a class.
        """
        if features.found is None:
            features.found = self.method.answer(features.features, class_names, positions, boxes)
        found, maps, scores = features.found, [], []
        for row, name in enumerate(class_names):
            if name not in self.memory:
                raise InputError(f"no references of the class {name!r} were shown: give some by --references")
            far = self._distance(_patches(features.features.row(row)), self.memory[name])[0]
            maps.append((found.maps[row] + far) / 2)
            scores.append((found.scores[row] + far.max()) / 2)
        return found._replace(scores=torch.stack(scores), maps=torch.stack(maps))


def _patches(features: ImageFeatures) -> list[Tensor]:
    """The patch tokens (B, N, C) of every distinct tap."""
    return [tap[:, 1:] for tap in features.distinct()[0]]
