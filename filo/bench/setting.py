"""What every case of the benchmark has: a model of drawn weights, its input, and two ways to one result."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from filo.clip.load import load_clip
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS
from filo.prompts import FOLDER, PromptBook, fill_texts, find_prompt_file
from filo.stages import BETAS

Way = Callable[[], list[np.ndarray]]


class Ways(NamedTuple):
    """Our way and the plain one; `prepare` sees to what ours has at hand when its time begins."""

    ours: Way
    plainly: Way
    prepare: Callable[[], None] = lambda: None


# CLIP, image side, taps, and how many maps of which side the metrics are of
SIZES = {
    "full": ("ViT-L-14-336", 518, (6, 12, 18, 24), (83, 518)),
    "tiny": (str(FOLDER.parent / "checkpoints" / "demo" / "clip.json"), 144, (2, 4, 6, 8), (20, 144)),
}
CLASS = "hazelnut"
DESCRIPTIONS = 10  # as many as the published program has for several classes, 15 abnormal texts then


class Bench:
    """A FiLo of drawn weights, an image, its mask and label, all the same in every process."""

    def __init__(self, size: str, device: torch.device, with_model: bool = True) -> None:
        name, side, taps, self.metrics_size = SIZES[size]
        if not with_model:
            return
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


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Give what both ways must agree on in the form in which it is compared."""
    # copied, as a view of a few numbers would keep a whole gradient in memory
    return [tensor.detach().float().cpu().numpy().copy() for tensor in tensors]
