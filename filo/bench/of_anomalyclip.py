"""What is measured of AnomalyCLIP."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from filo.bench import plain_anomalyclip
from filo.bench.setting import CLASS, Bench, Way, Ways, arrays
from filo.methods.anomalyclip import AnomalyCLIPConfig, AnomalyCLIPModel
from filo.stages import make_adam

EPOCH, STEP = 16, 8  # images of an epoch here, and of a step as published


def anomalyclip_image(bench: Bench) -> Ways:
    """AnomalyCLIP: one image from pixels to score and map."""
    model = _anomalyclip(bench).eval()

    def ours() -> list[np.ndarray]:
        found = model.predict(bench.image, [CLASS])
        return arrays(found.scores, found.maps)

    return Ways(ours, lambda: arrays(*plain_anomalyclip.predict(model, bench.image)))


def anomalyclip_epoch(bench: Bench) -> Ways:
    """AnomalyCLIP: an epoch of 16 images in steps of 8, from pixels. Agreed on are losses and prompts."""
    return _epochs(bench, is_cached=False)


def anomalyclip_epoch_cached(bench: Bench) -> Ways:
    """The same with features at hand."""
    return _epochs(bench, is_cached=True)


def _anomalyclip(bench: Bench) -> AnomalyCLIPModel:
    torch.manual_seed(0)
    clip = bench.model.clip
    return AnomalyCLIPModel(clip, AnomalyCLIPConfig(features_list=(clip.layers,)), {}).to(bench.device)


def _epochs(bench: Bench, is_cached: bool) -> Ways:
    """An epoch by either way, from the same first prompts every time."""
    model, side = _anomalyclip(bench).train(), bench.model.clip.image_size
    drawn = torch.randn(EPOCH, 3, side, side, generator=torch.Generator().manual_seed(1))
    images, labels = drawn.to(bench.device), torch.arange(EPOCH, device=bench.device) % 2
    masks = bench.mask & labels.bool()[:, None, None]
    first = {name: tensor.clone() for name, tensor in model.trained_state().items()}
    learned = [model.ctx_pos, model.ctx_neg, *model.compound_prompts_text]
    kept: list = []
    steps = [slice(start, start + STEP) for start in range(0, EPOCH, STEP)]

    def ours(number: int, step: slice) -> Tensor:
        features = kept[number] if is_cached else model.image_features(images[step])
        return sum(model.loss(features, masks[step], labels[step]))

    def plainly(number: int, step: slice) -> Tensor:
        return plain_anomalyclip.loss(model, images[step], masks[step], labels[step])

    def way(loss_of: Callable[[int, slice], Tensor], is_plain: bool) -> Way:
        def run() -> list[np.ndarray]:
            model.load_trained_state(first)
            model.clip.text.requires_grad_(is_plain)  # as the published program
            optimizer = make_adam([{"params": learned, "lr": 1e-3}], fused=bench.device.type != "mps")
            losses = []
            for number, step in enumerate(steps):
                losses.append(loss := loss_of(number, step))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                model.clip.zero_grad(set_to_none=True)
            return arrays(torch.stack(losses), model.ctx_pos, model.ctx_neg)

        return run

    def prepare() -> None:
        if is_cached:
            kept.extend(model.image_features(images[step]) for step in steps)

    return Ways(way(ours, False), way(plainly, True), prepare)
