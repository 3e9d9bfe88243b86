"""One way of one case in a process of its own, so that its time and its peak memory can be told."""

import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from filo.logs import forget_peak_memory, peak_memory


@dataclass
class Answer:
    """What one call took and gave."""

    seconds: float
    arrays: list[np.ndarray]
    memory: dict[str, float]


class Worker:
    """Prepares a case in a new process and runs one of its two ways there on demand; idle in between."""

    def __init__(self, case: str, way: int, size: str, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would begin with this process's memory
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(other, case, way, size, device, threads), daemon=True
        )
        self.process.start()

    def wait_until_ready(self) -> None:
        """Return when the case is prepared, so that no way is timed beside another one's preparation.

        Raises:
            RuntimeError: the process died, for want of memory for instance.
        """
        self._receive()

    def run(self) -> Answer:
        """Run the way once.

        Raises:
            RuntimeError: as above.
        """
        with suppress(BrokenPipeError):  # of a dead process; receiving says so
            self.pipe.send("run")
        return self._receive()

    def _receive(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self.process.join(10)
            raise RuntimeError(f"its process ended with status {self.process.exitcode}") from error

    def close(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(pipe, case: str, way: int, size: str, device: str, threads: int) -> None:
    from filo.bench.cases import CASES
    from filo.bench.setting import Place

    torch.set_num_threads(threads)
    place = torch.device(device)
    ways = CASES[case].make(Place(size, place))
    run, prepare = ((ways.ours, ways.prepare), (ways.plainly, ways.prepare_plainly))[way]
    prepare()
    forget_peak_memory(place)  # of loading
    try:
        pipe.send("ready")
        while pipe.recv() == "run":
            started = time.perf_counter()
            arrays = run()
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            pipe.send(Answer(time.perf_counter() - started, arrays, peak_memory(place)))
    except (EOFError, KeyboardInterrupt):
        return  # the benchmark was stopped, which it says itself
