"""What happens when the input is wrong: one clear line instead of a traceback."""

import os
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something outside the program is wrong: a path, a file, a flag.

    The message is one line that names the file or value seen, what was wanted and what to do next.
    """


class ImageError(InputError):
    """One image is at fault; others can still be done."""


def exit_clearly(main: Callable[[], int | None]) -> None:
    """Run `main` and leave the process with its status; an `InputError` becomes one line and status 2.

    Ctrl-C ends with status 130 and a reader that went away (`| head`) with 141, both without a traceback.
    Every other exception is a fault of ours and keeps its traceback.
    """
    try:
        status = main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status or 0)
