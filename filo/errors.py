"""What happens when the input is wrong: one clear line instead of a traceback."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from filo.interrupts import Stopped, stopping


class InputError(ValueError):
    """Something outside the program is wrong: a path, a file, a flag.

    The message is one line that names the file or value seen, what was wanted and what to do next.
    """


class ImageError(InputError):
    """One image is at fault; others can still be done."""


def printable(text: str) -> str:
    """Put `?` for what is no letter: names in files are others' words, and no commands to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def exit_clearly(main: Callable[[], int | None]) -> None:
    """Run `main` and leave the process with its status; an `InputError` becomes one line and status 2, and
    so does what the system refuses, such as a name that is too long or a disk that is full.

    Ctrl-C ends with status 130, SIGTERM with 143 and a reader that went away (`| head`) with 141, all without
    a traceback. Every other exception is a fault of ours and keeps its traceback.
    """
    with suppress(AttributeError):  # somebody else's stream
        sys.stdout.reconfigure(errors="backslashreplace")  # not every name is text
    with stopping():
        status = _run(main)
    sys.exit(status or 0)


def _run(main: Callable[[], int | None]) -> int | None:
    try:
        status = main()
        sys.stdout.flush()  # now, while a full disk can still be said
        return status
    except InputError as error:
        return _say(str(error))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.status
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        if error.filename is None:
            _drop_output()  # what is left to be printed is what was refused
        return _say(_explain(error))


def _say(message: str) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _explain(error: OSError) -> str:
    what = "the output" if error.filename is None else str(error.filename)
    return f"{what}: {error.strerror}; the system refused it: make room there, or name another path"


def _drop_output() -> None:
    with suppress(OSError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
