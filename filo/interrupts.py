"""How Ctrl-C and SIGTERM end work: where it stands, or at the next place where it can go on later.

A command runs while `stopping` is entered: there a signal raises `Stopped`, what was at work cleans up, and
`exit_clearly` says the message and leaves with the status. While `Interrupts` is entered, a signal is only
taken down, for that work to stop itself where nothing is lost.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

CTRL_C = b"stopping at the end of this step; Ctrl-C again stops at once\n"


class Stopped(KeyboardInterrupt):
    """Work was ended from outside by a signal; the message says by which, and how it goes on.

    Attributes:
        status: what the process leaves with, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM
    """

    def __init__(self, number: int, where: str = "") -> None:
        by = "the keyboard" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {by} {where}".rstrip())
        self.status = 128 + number


def stop(number: int, where: str = "") -> NoReturn:
    """Raise `Stopped`. What follows is cleaning up, which Ctrl-C alone may cut short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped(number, where)


@contextmanager
def stopping(patience: float = 0.0) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `Stopped`, SIGTERM after `patience` seconds."""

    def end(number: int) -> None:
        if number == signal.SIGTERM:
            time.sleep(patience)
        stop(number)

    with _handled(end):
        yield


class Interrupts:
    """While it is entered, Ctrl-C and SIGTERM are only taken down; a second Ctrl-C stops at once. With
    `speaks` the first one is answered.

    Attributes:
        asked: the number of the first signal, None as long as there was none
    """

    def __init__(self, speaks: bool = True) -> None:
        self.asked: int | None = None
        self.speaks = speaks
        self._handled = _handled(self._take)

    def __enter__(self) -> "Interrupts":
        self._handled.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._handled.__exit__(*error)

    def _take(self, number: int) -> None:
        if number == signal.SIGINT:
            if self.asked == signal.SIGINT:
                stop(number)
            if self.speaks:
                os.write(2, CTRL_C)  # `print` might be in the middle of another
        self.asked = self.asked or number


@contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with the number of each signal, in the main thread; in others, which may not, do nothing.

    If it is left by `Stopped`, SIGTERM stays ignored until the outermost one is left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def call(number: int, _: FrameType | None) -> None:
        handle(number)

    before = {number: signal.signal(number, call) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        del before[signal.SIGTERM]
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
