"""How tests kill a command: in a child process, at a chosen moment, without the warning a `finally` gets."""

import os
import random
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch.distributed import TCPStore

from tests.commands import ROOT

MOMENTS = ("fsync", "replace", "unlink", "rmdir")  # of `os`; also each read image and each step


class Counter:
    """Calls `act` when the moments that it sees reach a number; before and after each is one."""

    def __init__(self, number: int | None, act: Callable[[], None]) -> None:
        self.left, self.act, self.seen = number, act, 0

    def __call__(self) -> None:
        self.seen += 1
        if self.seen == self.left:
            self.act()

    def around(self, call):
        def counted(*args, **kwargs):
            self()
            result = call(*args, **kwargs)
            self()
            return result

        return counted

    def install(self) -> None:
        for name in MOMENTS:
            setattr(os, name, self.around(getattr(os, name)))
        torch.Tensor.backward = self.around(torch.Tensor.backward)
        torch.optim.AdamW.step = self.around(torch.optim.AdamW.step)
        import filo.datasets
        import filo.methods.filo

        filo.datasets.open_image = self.around(filo.datasets.open_image)
        model = filo.methods.filo.FiLoModel
        model.look = self.around(model.look)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def start(
    script: str,
    arguments: list[str],
    out: Path,
    at: int | None = None,
    act: Callable[[], None] = kill,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Run a command in a forked child that acts on itself at a moment; give its process id.

    What it prints goes to `out`; the number of moments it saw to `out` with `.moments` if it ended.
    `environment` is added to this one's; `prepare` is called there first.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:  # nothing of this test run may go on in the child
        os.setpgid(0, 0)
        with out.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
        sys.argv = [script, *map(str, arguments)]
        os.environ |= environment or {}
        os.chdir(ROOT)
        counter = Counter(at, act)
        counter.install()
        if prepare:
            prepare()
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as ended:
            status = ended.code or 0
        out.with_suffix(".moments").write_text(str(counter.seen))
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    """Wait for a child; give its status, below zero the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_job(
    count: int,
    script: str,
    arguments: list[str],
    folder: Path,
    acts: Mapping[int, tuple[int, Callable[[], None]]] | None = None,
    prepare: Callable[[], None] | None = None,
) -> tuple[list[int], list[str]]:
    """Run a command as several processes of one job, as torchrun starts them, but with nobody to end them
    when one is gone; give each one's status and what it printed.

    `acts` says at which moment which rank does what to itself.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": str(count)}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    outs = [folder / f"said_{rank}" for rank in range(count)]
    pids = [
        start(
            script,
            arguments,
            out,
            *(acts or {}).get(rank, ()),
            environment=job | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            prepare=prepare,
        )
        for rank, out in enumerate(outs)
    ]
    return _wait_for_all(pids), [out.read_text() for out in outs]


def _wait_for_all(pids: list[int]) -> list[int]:
    """Wait for processes that must not wait for one another for ever."""
    end, statuses = time.monotonic() + 300, {}
    while len(statuses) < len(pids):
        for pid in set(pids) - statuses.keys():
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                statuses[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert time.monotonic() < end, "the job hung"
    return [statuses[pid] for pid in pids]


def run_killed(
    script: str, arguments: list[str], folder: Path, kills: int, moments: int, seed: int, ends: int = 0
) -> int:
    """Run a command again and again, killing it at random moments, and at last let it end, with the status
    `ends`; give how often it was killed.
    """
    draw, killed = random.Random(seed), 0
    for _ in range(kills):
        status = wait(start(script, arguments, folder / "said", draw.randint(1, moments)))
        said = (folder / "said").read_text()
        assert status in (ends, -signal.SIGKILL), said
        if status == ends:
            return killed
        killed += 1
    status = wait(start(script, arguments, folder / "said"))
    assert status == ends, (folder / "said").read_text()
    return killed
