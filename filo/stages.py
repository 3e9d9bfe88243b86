"""What is trained when: prompts and heads in stage 1, the adapter in stage 2."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from filo.clip.vision import ImageFeatures
from filo.datasets import Batch
from filo.methods.filo import FiLoModel


@dataclass
class Stage:
    """One of the two stages: how long, what is trained at which rate, against which loss."""

    number: int
    epochs: int
    parameters: list[dict]
    loss: Callable[[ImageFeatures, Batch], Tensor]
    tapped: bool  # whether the loss looks at patch tokens


def plan(model: FiLoModel, epochs: tuple[int, int], rates: Mapping[str, float]) -> list[Stage]:
    """Give both stages; `rates` are the learning rates of `decoder`, `prompts` and `adapter`."""
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
        ),
        Stage(
            2,
            epochs[1],
            second,
            lambda features, batch: model.global_loss(features, batch.class_names, batch.labels),
            model.needs_taps(2),
        ),
    ]
