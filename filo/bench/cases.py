"""What is measured: one thing each, done our way and the plain way, with what both must agree on.

A case is a function that gives two ways to do something with a model; each way is called several times and
gives a list of arrays. Only one of them is used in a process, so that its memory can be told.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from filo.bench import plain
from filo.clip.load import load_clip
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS
from filo.metrics import class_metrics
from filo.prompts import FOLDER, PromptBook, fill_texts, find_prompt_file

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
BETAS = (0.5, 0.999)


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


def text(bench: Bench) -> Ways:
    """All texts of one class at nine positions."""
    model = bench.model
    image = torch.randn(1, model.clip.embed_dim, generator=torch.Generator().manual_seed(2)).to(bench.device)

    def ours() -> list[np.ndarray]:
        with torch.no_grad():
            return _arrays(model.text_features(image, [CLASS]))

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return _arrays(plain.text_pair(model, image, CLASS))

    return Ways(ours, plainly)


def mmci(bench: Bench) -> Ways:
    """Three MMCI heads on the same tokens."""
    clip = bench.model.clip
    N = (clip.image_size // clip.patch_size) ** 2
    tokens = torch.randn(1, N, clip.vision_width, generator=torch.Generator().manual_seed(2)).to(bench.device)
    heads = bench.model.mmci_heads

    def ours() -> list[np.ndarray]:
        with torch.no_grad():
            return _arrays(*heads([tokens] * len(heads)))

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return _arrays(*plain.mmci(heads, tokens))

    return Ways(ours, plainly)


def tower(bench: Bench) -> Ways:
    """The image tower alone, both streams."""
    clip, taps = bench.model.clip, bench.model.config.features_list

    def ours() -> list[np.ndarray]:
        return _arrays(bench.model.image_features(bench.image).image)

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return _arrays(plain.image_features(clip, bench.image, taps).image)

    return Ways(ours, plainly)


def tower_bf16(bench: Bench) -> Ways:
    """The same in bf16, against the plain way in fp32."""
    return tower(bench)._replace(prepare=bench.use_bf16)


def image(bench: Bench) -> Ways:
    """One image from pixels to score and map, without detector."""

    def ours() -> list[np.ndarray]:
        found = bench.model.predict(bench.image, [CLASS])
        return _arrays(found.scores, found.maps)

    return Ways(ours, lambda: _arrays(*plain.predict(bench.model, bench.image, CLASS)))


def image_bf16(bench: Bench) -> Ways:
    """The same in bf16, against the plain way in fp32."""
    return image(bench)._replace(prepare=bench.use_bf16)


def train_step(bench: Bench) -> Ways:
    """One step of stage 1 from pixels: loss, gradients, AdamW. Agreed on are loss and gradients at first."""
    return _steps(
        bench,
        ("decoder", "prompts"),
        lambda: bench.model.local_loss(bench.model.image_features(bench.image), [CLASS], bench.mask),
        lambda: plain.local_loss(bench.model, bench.image, CLASS, bench.mask),
    )


def train_step_cached(bench: Bench) -> Ways:
    """The same with features at hand."""
    ways = _steps(
        bench,
        ("decoder", "prompts"),
        lambda: bench.model.local_loss(bench.features, [CLASS], bench.mask),
        lambda: plain.local_loss(bench.model, bench.image, CLASS, bench.mask),
    )
    return ways._replace(prepare=lambda: bench.keep_features(tapped=True))


def adapter_step_cached(bench: Bench) -> Ways:
    """One step of stage 2 with the global feature at hand."""
    ways = _steps(
        bench,
        ("adapter",),
        lambda: bench.model.global_loss(bench.features, [CLASS], bench.label),
        lambda: plain.global_loss(bench.model, bench.image, CLASS, bench.label),
    )
    return ways._replace(prepare=lambda: bench.keep_features(tapped=False))


def metrics(bench: Bench) -> Ways:
    """All metrics of one class; exact AUPRO is not compared, as the plain way has the estimate alone."""
    count, side = bench.metrics_size
    rng = np.random.default_rng(3)
    maps = rng.random((count, side, side), np.float32)
    masks = np.zeros((count, side, side), bool)
    for mask in masks[count // 4 :]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, side * 3 // 4, 2)
            mask[y : y + side // 8, x : x + side // 6] = True
    maps += 0.4 * masks
    labels = masks.any((1, 2))
    scores = maps.max((1, 2))
    names = [f"{name}_{kind}" for kind in ("px", "sp") for name in ("auroc", "f1", "ap")] + ["aupro_legacy"]

    def way(compute: Callable[..., dict]) -> Way:
        def run() -> list[np.ndarray]:
            found = compute(scores, labels, maps, masks)
            return [np.array([found[name] for name in names])]

        return run

    return Ways(way(class_metrics), way(plain.class_metrics))


CASES = {
    case.__name__: case
    for case in (
        *(text, mmci, tower, tower_bf16, image, image_bf16),
        *(train_step, train_step_cached, adapter_step_cached, metrics),
    )
}
WITHOUT_MODEL = ("metrics",)


def _steps(
    bench: Bench, groups: tuple[str, ...], ours: Callable[[], Tensor], plainly: Callable[[], Tensor]
) -> Ways:
    optimizer = bench.optimizer(*groups)
    watched = [p for group in optimizer.param_groups for p in group["params"]]
    first: list[np.ndarray] = []

    def way(loss_of: Callable[[], Tensor], is_plain: bool) -> Way:
        def run() -> list[np.ndarray]:
            # as the published program: gradients of the frozen text tower are computed and never used
            bench.model.clip.text.requires_grad_(is_plain)
            loss = loss_of()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bench.model.clip.zero_grad(set_to_none=True)
            first[:] = first or _arrays(loss, *(p.grad.flatten()[:500] for p in watched))
            optimizer.zero_grad(set_to_none=True)  # the other way needs the memory now
            return first

        return run

    return Ways(way(ours, False), way(plainly, True))


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    # copied, as a view of a few numbers would keep a whole gradient in memory
    return [tensor.detach().float().cpu().numpy().copy() for tensor in tensors]
