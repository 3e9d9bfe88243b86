"""How several processes share one piece of work: which one this is, what its part is, what others tell it.

Each of them runs the whole command (`filo.job` says how they meet) and computes for its share of the images;
the first one alone writes into the run's folder and speaks. A process that was started by itself is the first
of one, and nothing here costs it anything. What is exchanged goes over the CPU, but for what lies on GPUs.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from filo.errors import InputError

T = TypeVar("T")
PATIENCE = 2.0  # seconds that a process has to say why it ends


class Step(NamedTuple):
    """A step that all processes take together: this one's images, their weight in the mean over all of its
    images, and how many these are.
    """

    mine: Sequence[int]
    weight: float
    size: int


@dataclass(frozen=True)
class Processes:
    """The processes of a job, as one of them sees them.

    Attributes:
        rank: which one this is, from 0, of `count`
        local: which one of its machine, from 0
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Give this process's piece of `items`; all pieces are of one length, give or take one."""
        first, end = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        return items[first:end]

    def steps(self, order: Sequence[int], batch_size: int) -> list[Step]:
        """Cut an order into steps of `batch_size` images for each process; the last may have fewer.

        They are those of one process with a batch as large as all of theirs. Who gets no image of the last
        step computes its first one, with the weight 0, so that all take part in it.
        """
        size = batch_size * self.count
        steps = (order[start : start + size] for start in range(0, len(order), size))
        return [Step(self.share(s) or s[:1], len(self.share(s)) / len(s), len(s)) for s in steps]

    def collect(self, piece: Sequence[T]) -> list[T]:
        """Put the pieces of all processes together again, in each of them."""
        return [item for each in self.gather(piece) for item in each]

    def gather(self, value: T) -> list[T]:
        """Give what every process has come with, by rank, when all have come."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with _reaching_others():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all have come here."""
        self.gather(None)

    def in_turn(self, mine: Iterator[T], total: int) -> Iterator[T]:
        """Give the first process `total` items in order, of which each process makes every `count`-th, from
        that of its rank on; the others make theirs and get none.
        """
        for number in range(0, total, self.count):
            item = next(mine) if number + self.rank < total else None
            yield from self._bring(item)[: total - number]

    def _bring(self, item: T) -> list[T]:
        if self.count == 1:
            return [item]
        items = [None] * self.count if self.is_first else None
        with _reaching_others():
            dist.gather_object(item, items)
        return items or []

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, the same bits in each of them; those that share
        their memory once.
        """
        if self.count > 1:
            distinct = {
                tensor.data_ptr(): tensor for tensor in tensors
            }  # summands of one sum have one gradient
            with _reaching_others():
                for work in [dist.all_reduce(tensor, async_op=True) for tensor in distinct.values()]:
                    work.wait()

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by the first process's."""
        if self.count > 1:
            with _reaching_others():
                for work in [dist.broadcast(tensor, 0, async_op=True) for tensor in tensors]:
                    work.wait()

    @contextmanager
    def first_only(self, context: AbstractContextManager) -> Iterator[None]:
        """Let the first process enter a context; the others go on when it has."""
        with context if self.is_first else nullcontext():
            self.wait()
            yield

    def own_device(self, name: str | None) -> str | None:
        """Name this process's device, given --device: of several processes each has a GPU of its own.

        Raises:
            InputError: there are too few, or one is named for all.
        """
        if self.count == 1 or name == "cpu" or (name is None and not torch.cuda.is_available()):
            return name
        if name not in (None, "cuda"):
            raise InputError(
                f"--device {name} is one device for {self.count} processes: leave it out for a GPU each, or "
                "give cpu"
            )
        if self.local >= (there := torch.cuda.device_count()):
            raise InputError(
                f"process {self.local + 1} of this machine has no GPU of its own, there are {there}: start "
                "as many processes as GPUs (--nproc_per_node, GPUS), or add --device cpu"
            )
        torch.cuda.set_device(self.local)
        return f"cuda:{self.local}"


ALONE = Processes()


@contextmanager
def _reaching_others() -> Iterator[None]:
    """Leave it to `filo.job` to end this process when another one is gone in the middle of an exchange."""
    try:
        yield
    except RuntimeError:
        time.sleep(2 * PATIENCE)
        raise
