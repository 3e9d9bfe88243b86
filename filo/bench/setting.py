"""What the cases of the benchmark are: two ways to one result, and what both need, of drawn weights."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from filo.clip.build import read_config
from filo.clip.load import load_clip
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS
from filo.prompts import FOLDER, PromptBook, fill_texts, find_prompt_file
from filo.stages import BETAS

Way = Callable[[], list[np.ndarray]]


def _nothing() -> None:
    pass


class Ways(NamedTuple):
    """Our way and the plain one; the other two see to what each has at hand when its time begins."""

    ours: Way
    plainly: Way
    prepare: Callable[[], None] = _nothing
    prepare_plainly: Callable[[], None] = _nothing


class Place(NamedTuple):
    """Where something is measured, and at which size, `tiny` or `full`."""

    size: str
    device: torch.device


class Case(NamedTuple):
    """One thing that is measured: `needs` makes all it is measured with, `ways` the two ways of doing it.

    What needs no model is given the place alone.
    """

    needs: Callable[[Place], Any]
    ways: Callable[[Any], Ways]

    def make(self, place: Place) -> Ways:
        """Make both ways, with what they need."""
        return self.ways(self.needs(place))


DEMO = str(FOLDER.parent / "checkpoints" / "demo" / "clip.json")
SIZES = {  # CLIP, image side, taps
    "full": ("ViT-L-14-336", 518, (6, 12, 18, 24)),
    "tiny": (DEMO, 144, (2, 4, 6, 8)),
}
CLASS = "hazelnut"
DESCRIPTIONS = 10  # as many as the published program has for several classes, 15 abnormal texts then


class Bench:
    """A FiLo of drawn weights, an image, its mask and label, all the same in every process."""

    def __init__(self, place: Place) -> None:
        (name, side, taps), device = SIZES[place.size], place.device
        book = PromptBook([find_prompt_file("mvtec")])
        descriptions = [text for c in book.classes.values() for text in c.descriptions][:DESCRIPTIONS]
        texts = {CLASS: fill_texts(book.templates, "official", CLASS, descriptions)}
        self.device = device
        torch.manual_seed(0)
        config = replace(PRESETS["official"], features_list=taps)
        self.model = FiLoModel(load_clip(name, "drawn:0", side), config, texts).to(device)
        self.model.clip.set_precision("fp32")
        g = torch.Generator().manual_seed(1)
        self.image = torch.randn(1, 3, side, side, generator=g).to(device)
        self.mask = torch.zeros(1, side, side, dtype=torch.bool, device=device)
        self.mask[:, side // 4 : side // 2, side // 3 : side // 2] = True
        self.label = torch.ones(1, dtype=torch.long, device=device)

    def keep_features(self, tapped: bool) -> None:
        self.features = self.model.image_features(self.image, tapped)

    def use_bf16(self) -> None:
        self.model.clip.set_precision("bf16")

    def optimizer(self, *groups: str) -> torch.optim.Optimizer:
        parameters = self.model.trained_parameters()
        rates = {"decoder": 1e-4, "prompts": 1e-3, "adapter": 1e-5}
        given = [{"params": parameters[name], "lr": rates[name]} for name in groups]
        return torch.optim.AdamW(given, betas=BETAS, fused=self.device.type != "mps")


class DrawnCLIP:
    """A CLIP of drawn weights at its own image size, as the few-shot methods take it, and images for it."""

    def __init__(self, place: Place) -> None:
        self.size, self.device = place
        name = {"full": "ViT-B-16-plus-240", "tiny": DEMO}[self.size]
        side = read_config(name)["vision_cfg"]["image_size"]
        self.clip = load_clip(name, "drawn:0", side, device=self.device)
        self.clip.set_precision("fp32")

    def images(self, count: int, side: int, seed: int) -> Tensor:
        """Draw images (count, 3, side, side), the same in every process."""
        drawn = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.device)


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Give what both ways must agree on in the form in which it is compared."""
    # copied, as a view of a few numbers would keep a whole gradient in memory
    return [tensor.detach().float().cpu().numpy().copy() for tensor in tensors]
