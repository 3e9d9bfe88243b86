"""What is measured of FiLo."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from filo.bench import plain
from filo.bench.setting import CLASS, Bench, Way, Ways, arrays


def text(bench: Bench) -> Ways:
    """All texts of one class at nine positions."""
    model = bench.model
    image = torch.randn(1, model.clip.embed_dim, generator=torch.Generator().manual_seed(2)).to(bench.device)

    def ours() -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(model.text_features(image, [CLASS]))

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(plain.text_pair(model, image, CLASS))

    return Ways(ours, plainly)


def mmci(bench: Bench) -> Ways:
    """Three MMCI heads on the same tokens."""
    clip = bench.model.clip
    N = (clip.image_size // clip.patch_size) ** 2
    tokens = torch.randn(1, N, clip.vision_width, generator=torch.Generator().manual_seed(2)).to(bench.device)
    heads = bench.model.mmci_heads

    def ours() -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(*heads([tokens] * len(heads)))

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(*plain.mmci(heads, tokens))

    return Ways(ours, plainly)


def tower(bench: Bench) -> Ways:
    """The image tower alone, both streams."""
    clip, taps = bench.model.clip, bench.model.config.features_list

    def ours() -> list[np.ndarray]:
        return arrays(bench.model.image_features(bench.image).image)

    def plainly() -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(plain.image_features(clip, bench.image, taps).image)

    return Ways(ours, plainly)


def tower_bf16(bench: Bench) -> Ways:
    """The same in bf16, against the plain way in fp32."""
    return tower(bench)._replace(prepare=bench.use_bf16)


def image(bench: Bench) -> Ways:
    """One image from pixels to score and map, without detector."""

    def ours() -> list[np.ndarray]:
        found = bench.model.predict(bench.image, [CLASS])
        return arrays(found.scores, found.maps)

    return Ways(ours, lambda: arrays(*plain.predict(bench.model, bench.image, CLASS)))


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
            first[:] = first or arrays(loss, *(p.grad.flatten()[:500] for p in watched))
            optimizer.zero_grad(set_to_none=True)  # the other way needs the memory now
            return first

        return run

    return Ways(way(ours, False), way(plainly, True))
