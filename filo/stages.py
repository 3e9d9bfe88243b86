"""What is trained when: FiLo's prompts and heads, then its adapter; AnomalyCLIP's prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from filo.clip.vision import ImageFeatures
from filo.datasets import Batch
from filo.method import Method
from filo.methods.anomalyclip import AnomalyCLIPModel
from filo.methods.filo import FiLoModel

BETAS = (0.5, 0.999)  # of all methods here


@dataclass
class Stage:
    """A part of a training: how long, what is trained at which rate and how, against which loss."""

    number: int
    epochs: int
    parameters: list[dict]
    loss: Callable[[ImageFeatures, Batch], Tensor]
    tapped: bool  # whether the loss looks at patch tokens
    optimizer: Callable[[list[dict], bool], torch.optim.Optimizer]


def plan(model: Method, epochs: Sequence[int], rates: Mapping[str, float]) -> list[Stage]:
    """Give the stages of a method's training; `epochs` are those of each, `rates` the learning rates.

    FiLo has two stages and the rates `decoder`, `prompts` and `adapter`, AnomalyCLIP one, of `prompts`.
    """
    return PLANS[type(model)](model, epochs, rates)


def make_adamw(parameters: list[dict], fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, betas=BETAS, fused=fused)


def make_adam(parameters: list[dict], fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, betas=BETAS, fused=fused)


def _plan_filo(model: FiLoModel, epochs: Sequence[int], rates: Mapping[str, float]) -> list[Stage]:
    groups = model.trained_parameters()
    parts = (("decoder", "prompts"), ("adapter",))
    first, second = (
        [{"params": groups[name], "lr": rates[name]} for name in names if groups[name]] for names in parts
    )
    return [
        Stage(
            1,
            epochs[0],
            first,
            lambda features, batch: model.local_loss(features, batch.class_names, batch.masks),
            model.needs_taps(1),
            make_adamw,
        ),
        Stage(
            2,
            epochs[1],
            second,
            lambda features, batch: model.global_loss(features, batch.class_names, batch.labels),
            model.needs_taps(2),
            make_adamw,
        ),
    ]


def _plan_anomalyclip(
    model: AnomalyCLIPModel, epochs: Sequence[int], rates: Mapping[str, float]
) -> list[Stage]:
    learned = [model.ctx_pos, model.ctx_neg, *model.compound_prompts_text]
    return [
        Stage(
            1,
            epochs[0],
            [{"params": learned, "lr": rates["prompts"]}],
            lambda features, batch: sum(model.loss(features, batch.masks, batch.labels)),
            True,
            make_adam,
        )
    ]


PLANS = {FiLoModel: _plan_filo, AnomalyCLIPModel: _plan_anomalyclip}
