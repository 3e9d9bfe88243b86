"""How the processes that `torchrun` started meet, and how all of them end if one does.

They may be on several machines. What lies on GPUs is exchanged over NCCL, everything else over gloo.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from filo.errors import InputError
from filo.interrupts import Stopped, stopping
from filo.processes import ALONE, PATIENCE, Processes

MEETING = timedelta(minutes=10)  # not all machines start Python at one speed
FOREVER = timedelta(days=3650)  # one may rightly wait for hours for another; `_Bond` notices who is gone
CLEANING = 30  # seconds


@contextmanager
def join() -> Iterator[Processes]:
    """Work together with the other processes that torchrun started, until all are done.

    If one ends before, by an error, a signal or a kill, all end within seconds, and one line says why: its
    own, or that it is gone. Of what is printed otherwise only the first one's is shown.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    us, bond = _meet()
    try:
        # torchrun sends SIGTERM to those who are left when one is gone: who noticed that speaks first
        with stopping(PATIENCE), _silent(not us.is_first):
            yield us
            us.wait()
    except BaseException as error:
        bond.is_ending = True
        signal.alarm(CLEANING)  # no library may hang over its clean-up: the others wait for this one to end
        if bond.may_speak() or isinstance(error, SystemExit):
            raise
        status = error.status if isinstance(error, Stopped) else 1
        raise SystemExit(status) from None  # another one has said why
    bond.part()
    dist.destroy_process_group()


def _meet() -> tuple[Processes, "_Bond"]:
    has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    try:
        store, rank, count = next(rendezvous("env://"))
        store.set(f"{rank} is here", "")
        store.wait([f"{each} is here" for each in range(count)], MEETING)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=FOREVER)
        us = Processes(rank, count, dist.get_node_local_rank())
        return us, _Bond(us, store, dist.new_group(backend="gloo", timeout=FOREVER))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes of this job do not reach one another ({str(error).splitlines()[0]}): read what "
            "the others say, and check the address that torchrun was given"
        ) from error


class _Bond:
    """Notices that another process is gone, whatever this one is doing, and ends this one then.

    The first one and each of the others wait for a word from one another, which comes when all is done; the
    system breaks their connection when a process ends, in whatever way.

    Attributes:
        is_ending: this process ends by itself, and says why
    """

    def __init__(self, us: Processes, store: dist.Store, group: dist.ProcessGroup) -> None:
        self.us, self.store, self.group = us, store, group
        self.is_ending = False
        self.peers = range(1, us.count) if us.is_first else [0]
        self.threads = [threading.Thread(target=self._watch, args=(n,), daemon=True) for n in self.peers]
        for thread in self.threads:
            thread.start()

    def may_speak(self) -> bool:
        """Whether this is the first time that one of the job's processes has to say why it ends."""
        try:
            return self.store.add("who have something to say", 1) == 1
        except RuntimeError:  # the store is gone too: better said twice than never
            return True

    def part(self) -> None:
        """Tell the others that all is done."""
        for peer in self.peers:
            dist.send(torch.zeros(1), peer, self.group)
        for thread in self.threads:
            thread.join()

    def _watch(self, peer: int) -> None:
        try:
            dist.recv(torch.zeros(1), peer, self.group)
        except RuntimeError:
            if not self.is_ending:
                self._end_after(peer)

    def _end_after(self, peer: int) -> None:
        if self.may_speak():
            line = f"error: process {peer} (of 0 to {self.us.count - 1}) is gone without a word, so all end; "
            line += "was it killed, or out of memory? The same command goes on from what is saved\n"
            os.write(2, line.encode())
        time.sleep(PATIENCE)  # torchrun reports which one ended first
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(1)  # the main thread may wait for the one that is gone


@contextmanager
def _silent(is_wanted: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if is_wanted:
            nowhere = stack.enter_context(open(os.devnull, "w", errors="replace"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield
