"""Where a training stands, in one file that lies in its folder until it is finished.

    RUN/state.safetensors    trained tensors, the optimiser's, generators; the rest as JSON in the header

It is read without executing anything in it. Floats in JSON come back bit for bit.
"""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from filo.errors import InputError
from filo.kinds import DAMAGES, kinds_of, require_kinds
from filo.weights import write_tensors

FORMAT = "filo-state-1"
LINE = {"stage": int, "epoch": int, "loss": float, "seconds": float}  # what a line of the log has at least
OPTIMIZER = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW remembers of a parameter
WORDS = 624  # of the state of Python's and NumPy's generators, 32 bits each


@dataclass
class Position:
    """How far a training is: `images` of the order of one epoch of one stage, both counted from 1.

    Attributes:
        images: how many of the epoch were learned from; all of them at its end
        loss: sum of their losses
        seconds: that the epoch took so far
    """

    stage: int = 1
    epoch: int = 1
    images: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"stage {self.stage}, epoch {self.epoch}, image {self.images}"


@dataclass(frozen=True)
class State:
    """All that a training needs to go on as if it had never stopped.

    Attributes:
        identity: what it is a training of, see `filo.resume`
        environment: versions and hardware of the process that wrote it
        log: lines of the epochs before
        resumed: how often it went on
        trained: tensors as `trained_state` gives them
        optimizer: the state of every parameter of the stage's optimiser, by number
        generators: states of all that draw at random
    """

    identity: dict
    environment: dict
    position: Position
    log: list[dict]
    resumed: int
    trained: dict[str, Tensor] = field(repr=False)
    optimizer: dict[int, dict[str, Tensor]] = field(repr=False)
    generators: dict[str, Tensor] = field(repr=False)


def write_state(path: Path, state: State) -> None:
    """Write it; the one before stands until this one is complete.

    Raises:
        InputError: the disk is full.
    """
    about = {name: getattr(state, name) for name in ("identity", "environment", "log", "resumed")}
    about["position"] = asdict(state.position)
    tensors = {f"trained.{name}": tensor for name, tensor in state.trained.items()}
    tensors |= {f"generators.{name}": tensor for name, tensor in state.generators.items()}
    for number, of_one in state.optimizer.items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in of_one.items()}
    write_tensors(path, tensors, {"format": FORMAT, "about": json.dumps(about)}, is_lasting=True)


def read_state(path: Path) -> State:
    """Read what `write_state` wrote, on the CPU.

    Raises:
        InputError: it is damaged, or of another version.
    """
    with going_on_from(path):
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"its format is {header.get('format')!r}, wanted {FORMAT!r}")
            about = json.loads(header["about"])
            # copied, as the file will be replaced
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, no dict
        parts: dict[str, dict] = {"trained": {}, "generators": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, name = name.split(".", 1)
            if part == "optimizer":
                number, name = name.split(".", 1)
                parts[part].setdefault(int(number), {})[name] = tensor
            else:
                parts[part][name] = tensor
        about["position"] = Position(**about["position"])
        state = State(**about, **parts)
        _check(state)
    return state


@contextmanager
def going_on_from(path: Path) -> Iterator[None]:
    """Let what a damaged state leads to become an `InputError` that names its file."""
    try:
        yield
    except (SafetensorError, *DAMAGES) as error:
        raise InputError(
            f"{path} is no state to go on from ({type(error).__name__}: {error}): add --overwrite to begin "
            "anew"
        ) from error


def _check(state: State) -> None:
    """Raise one of `DAMAGES` if a state holds what `write_state` never writes."""
    require_kinds(vars(state), kinds_of(State))
    require_kinds(vars(state.position), kinds_of(Position))
    for line in state.log:
        require_kinds(line, LINE)
    for name, own in generator_states(torch.device("cpu")).items():
        _require_like(f"generators.{name}", state.generators[name], own)
    words = torch.cat([state.generators["python"], state.generators["numpy"]])
    if words.min() < 0 or words.max() >= 2**32 or not 0 <= state.generators["numpy_rest"][0] <= WORDS:
        raise ValueError("the numbers of a generator are none that it could have")
    _fill(state.generators, torch.Generator(), random.Random(), np.random.RandomState())


def _require_like(name: str, found: Tensor, own: Tensor) -> None:
    if (found.dtype, found.shape) != (own.dtype, own.shape):
        raise TypeError(
            f"{name} is {found.dtype} {tuple(found.shape)}, wanted {own.dtype} {tuple(own.shape)}"
        )


def require_reachable(state: State, epochs: Sequence[int], images: int, step: int) -> None:
    """Raise `ValueError` unless a training of so many `epochs` in each stage over `images`, taken `step` by
    `step`, comes to where a state says that it stands.
    """
    where, log = state.position, [(line["stage"], line["epoch"]) for line in state.log]
    order = ((stage, epoch) for stage, of_stage in enumerate(epochs, 1) for epoch in range(1, of_stage + 1))
    if list(islice(order, len(log) + 1)) != [*log, (where.stage, where.epoch)]:
        raise ValueError(f"this training does not come to {where} after {len(log)} epochs")
    if not 0 < where.images <= images or (where.images % step and where.images < images):
        raise ValueError(f"this training of {images} images, {step} a step, does not come to {where}")


# optimisers


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Give what an optimiser remembers of each of its parameters, by number."""
    return optimizer.state_dict()["state"]


def put_back(optimizer: torch.optim.Optimizer, kept: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Let an optimiser remember what `optimizer_tensors` gave; its rates stay as they are.

    Raises:
        ValueError, TypeError: it has other parameters, or remembers other things of them.
    """
    own = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for number, of_one in kept.items():
        if number not in own or of_one.keys() != OPTIMIZER:
            raise ValueError(f"optimizer.{number} holds {sorted(of_one)} of one of {len(own)} parameters")
        for name, tensor in of_one.items():
            like = torch.zeros(()) if name == "step" else own[number]
            _require_like(f"optimizer.{number}.{name}", tensor, like)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": {n: dict(each) for n, each in kept.items()}})


# generators


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Give the states of all generators that a training might draw from, bytes or whole numbers."""
    _, words, at, has_gauss, gauss = np.random.get_state()
    _, numbers, next_gauss = random.getstate()
    states = {"torch": torch.get_rng_state(), "python": torch.tensor(numbers)}
    next_gauss = math.nan if next_gauss is None else next_gauss
    states["python_rest"] = torch.tensor([next_gauss], dtype=torch.float64)
    states["numpy"] = torch.from_numpy(words.astype(np.int64))
    states["numpy_rest"] = torch.tensor([at, has_gauss, gauss], dtype=torch.float64)
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `generator_states` gave; a device's only on a device.

    Raises:
        ValueError, TypeError: it never gave that.
    """
    _fill(states, torch.default_generator, random, np.random)
    if device.type != "cpu" and "device" in states:
        of_device = torch.get_device_module(device)
        _require_like("generators.device", states["device"], of_device.get_rng_state())
        of_device.set_rng_state(states["device"])


def _fill(
    states: Mapping[str, Tensor],
    of_torch: torch.Generator,
    of_python: random.Random | ModuleType,
    of_numpy: np.random.RandomState | ModuleType,
) -> None:
    """Put generators into their states; the modules stand for those that they draw from."""
    try:
        of_torch.set_state(states["torch"])
    except RuntimeError as error:
        raise ValueError(f"generators.torch: {error}") from error
    next_gauss = states["python_rest"].item()
    next_gauss = None if math.isnan(next_gauss) else next_gauss
    of_python.setstate((3, tuple(states["python"].tolist()), next_gauss))
    at, has_gauss, gauss = states["numpy_rest"].tolist()
    words = states["numpy"].numpy().astype(np.uint32)
    of_numpy.set_state(("MT19937", words, int(at), int(has_gauss), gauss))
