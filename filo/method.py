"""What every method on a frozen CLIP has: what it answers, and which of its tensors are trained."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from filo.clip.load import CLIP
from filo.clip.vision import ImageFeatures
from filo.errors import InputError
from filo.grounding.boxes import Boxes
from filo.prompts import ClassTexts
from filo.views import Images, View, Whole

# how files become pixels (`filo.transforms`); raised when that changes, so that nothing old is used
PIXELS = 2


class Prediction(NamedTuple):
    """What a method says about a batch.

    Shape:
        scores: (B,), higher is more anomalous
        maps: (B, S, S), higher is more anomalous
        similarities: one (1 + K,) for each image: the cosine of its global feature with what is normal, then
            with each of its class's K descriptions (FiLo, figure 4)
        positions: for each image the grid cell of the anomaly, an index into `ClassTexts.positions`
    """

    scores: Tensor
    maps: Tensor
    similarities: tuple[Tensor, ...]
    positions: tuple[int, ...]


class Method(nn.Module):
    """A method on a frozen CLIP, which is its part `clip`; everything else in it is trained.

    `texts` gives the filled texts of every class that may be asked for. Images are (B, 3, S, S), normalised
    with the CLIP's mean and standard deviation; every image has its own class. `memory` is what is kept of
    normal images, by class.
    """

    def __init__(self, clip: CLIP, config, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__()
        self.clip, self.config, self.texts = clip, config, dict(texts)
        self.memory: dict[str, Any] = {}

    @property
    def view(self) -> View:
        """How pictures are prepared for `predict`."""
        return Whole(self.clip.image_size)

    @property
    def map_side(self) -> int:
        """The side of the maps."""
        return self.clip.image_size

    def remember(self, class_name: str, references: Images) -> None:
        """Keep what normal images of a class look like, given as to `predict`, instead of earlier ones."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin a new memory; whoever holds the old one may put it back."""
        self.memory = {}

    def predict(
        self,
        images: Images,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score a batch of images, as `view` prepares them, each of its own class.

        `positions` are for each image indices into `ClassTexts.positions`, none at all for all of them;
        `boxes` are what a detector found in it.
        """
        return self.answer(self.look(images), class_names, positions, boxes)

    def look(self, images: Images) -> Any:
        """Do what neither classes nor references matter to: run the image tower."""
        return self.image_features(images)

    def answer(
        self,
        features: Any,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """As `predict`, from what `look` gave; without a backward pass."""
        raise NotImplementedError

    def image_features(self, images: Tensor, tapped: bool = True) -> ImageFeatures:
        """Run the frozen image tower, with or without its taps; nothing is kept for a backward pass."""
        raise NotImplementedError

    def frozen_settings(self) -> dict:
        """What the frozen image features depend on beside the images."""
        clip = self.clip
        about = {"clip": clip.sha256, "image_size": clip.image_size, "mean": clip.mean, "std": clip.std}
        about |= {"pixels": PIXELS, "precision": clip.precision}
        return about | {"activation": self.config.activation, "resize": self.config.resize}

    def frozen_numbers(self) -> int:
        """How many numbers the frozen features of one image are."""
        raise NotImplementedError

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training changes; CLIP is not among them."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith("clip.")}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trained_state` gave, strictly.

        Raises:
            InputError: names or sizes differ, so the state belongs to another architecture.
        """
        own = self.trained_state()
        wrong = sorted(
            n
            for n in own.keys() | state.keys()
            if n not in own or n not in state or own[n].shape != state[n].shape
        )
        if wrong:
            sizes = [tuple(s[wrong[0]].shape) if wrong[0] in s else "none" for s in (own, state)]
            raise InputError(
                f"{len(wrong)} tensors do not fit this model, the first is {wrong[0]} "
                f"(wanted {sizes[0]}, found {sizes[1]}): the weights belong to another architecture"
            )
        self.load_state_dict(dict(state), strict=False)
