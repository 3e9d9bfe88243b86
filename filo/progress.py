"""How far a training is, kept in its folder so that it can be stopped at any moment and go on from there."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from filo.errors import InputError
from filo.interrupts import Interrupts, stop
from filo.method import Method
from filo.processes import ALONE, Processes
from filo.resume import require_same, say_where
from filo.run_folder import STATE
from filo.state import (
    Position,
    State,
    generator_states,
    going_on_from,
    optimizer_tensors,
    put_back,
    require_reachable,
    set_generators,
    write_state,
)


class Progress:
    """Counts what was learned from, and saves the state: at the end of every epoch, within one when the last
    state is `save_every` minutes old, and when the process is told to stop. 0 minutes keep none at all.

    Of several processes (`us`) the first one saves, and all stop at the same step; images are counted in the
    order that they share.

    Attributes:
        position: where the training stands
        log: lines of the finished epochs
        resumed: how often it went on from a state
    """

    def __init__(
        self,
        folder: Path,
        model: Method,
        identity: Mapping[str, object],
        environment: Mapping[str, object],
        save_every: float,
        us: Processes = ALONE,
    ) -> None:
        self.folder, self.model, self.us = folder, model, us
        self.interrupts = Interrupts(us.is_first)
        self.device = next(model.parameters()).device
        self.identity, self.environment = dict(identity), dict(environment)
        self.every = 60 * save_every if save_every else math.inf
        self.due = time.monotonic() + self.every
        self.position, self.log, self.resumed = Position(), [], 0
        self.optimizer: torch.optim.Optimizer | None = None
        self._state: State | None = None  # as long as not all of it is put back
        self._saved: Position | None = None

    def __enter__(self) -> "Progress":
        """From here on Ctrl-C and SIGTERM wait for the end of a step; all processes have the same weights."""
        self.us.spread(self.model.trained_state().values())
        self.interrupts.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.interrupts.__exit__(*error)

    def go_on_from(self, state: State | None, epochs: Sequence[int], images: int, step: int) -> None:
        """Take up a state, if there is one: weights and log at once, the optimiser when its stage is entered.
        Of the training are said the epochs of both stages, the images of one, and those of a step.

        Raises:
            InputError: it is of another training, or damaged.
        """
        if state is None:
            return
        require_same(self.folder, state, self.identity)
        with going_on_from(self.folder / STATE):
            require_reachable(state, epochs, images, step)
            self.model.load_trained_state(state.trained)
        self.position, self.log, self.resumed = replace(state.position), list(state.log), state.resumed + 1
        self._state, self._saved = state, state.position
        say_where("this training", state.environment, self.environment)
        print(f"going on from {self.position}")

    def enter(self, stage: int, optimizer: torch.optim.Optimizer, epochs: int) -> range:
        """Begin or go on with a stage; give the epochs of it that are not finished.

        Raises:
            InputError: what the state says of the optimiser or of generators is damaged.
        """
        self.optimizer = optimizer
        if self.position.stage < stage:
            self.position = Position(stage)
        if self._state is not None and self.position.stage == stage:
            with going_on_from(self.folder / STATE):
                put_back(optimizer, self._state.optimizer)
                set_generators(self._state.generators, self.device)
            self._state = None
        return range(self.position.epoch if self.position.stage == stage else epochs + 1, epochs + 1)

    def require_finite(self, loss: float, image: Path) -> None:
        """Raise `InputError` if the loss of the next step, of which `image` is the first, is not finite."""
        if not math.isfinite(loss):
            raise InputError(
                f"the loss after {self.position} is {loss} ({image}); checkpoints of finished epochs are in "
                f"{self.folder}: lower the learning rates, or look at that image"
            )

    def add(self, loss: float, images: int, seconds: float) -> None:
        """Count a step: this process's part of the mean loss of its images, all these, and the seconds of the
        whole epoch so far; save if that is due.

        Raises:
            Stopped: a process was told to stop; the state is saved.
        """
        parts, signals = zip(*self.us.gather((loss, self.interrupts.asked)), strict=True)
        self.position.images += images
        self.position.loss += sum(parts) * images
        self.position.seconds = seconds
        asked = next(filter(None, signals), None)
        if asked is not None or time.monotonic() >= self.due:
            self.save()
        if asked is not None:
            # all say the same, once the first one's state is there
            saved = self.us.gather(self._say_what_is_saved())[0]
            stop(asked, f"at {self.position}; {saved}")

    def end_epoch(self, line: dict) -> None:
        """Take down an epoch's line in the log, once the state before it is saved."""
        self.save()
        self.log.append(line)
        self.position = Position(self.position.stage, self.position.epoch + 1)

    def save(self) -> None:
        """Write the state, or say that there is no room; the one before stands then, and work goes on."""
        if self.every == math.inf or not self.us.is_first:
            return
        state = State(
            self.identity,
            self.environment,
            self.position,
            self.log,
            self.resumed,
            self.model.trained_state(),
            optimizer_tensors(self.optimizer),
            generator_states(self.device),
        )
        try:
            write_state(self.folder / STATE, state)
            self._saved = replace(self.position)
        except InputError as error:
            print(f"warning: {error}; {self._say_what_is_saved()}", file=sys.stderr)
        self.due = time.monotonic() + self.every

    def _say_what_is_saved(self) -> str:
        if self._saved is None:
            return "no state is saved, so there is nothing to go on from"
        where = "there" if self._saved == self.position else str(self._saved)
        return f"the same command goes on from {where}"

    def finish(self) -> None:
        """Remove the state: there is nothing left to go on with."""
        (self.folder / STATE).unlink(missing_ok=True)
