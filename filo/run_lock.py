"""How a process has a run's folder to itself, and what it finds there of one that was killed."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from filo.errors import InputError
from filo.files import find_temporary
from filo.run_folder import ARGUMENTS, HEATMAPS, PICTURE, SMALL, UNFINISHED, Kind, find_run, require_folder

PATIENCE = 3.0  # seconds; a process that is just being ended holds its folder a moment longer


@contextmanager
def hold(folder: Path, kind: Kind) -> Iterator[None]:
    """Keep other processes out of a run's folder, and remove what a killed one left half-written there.

    The folder is made if it is not there, and goes again if nothing came into it. Where the system has no
    such locks, as on some network drives, nobody is kept out.

    Raises:
        InputError: another process is at work there, or the folder cannot be made.
    """
    require_folder(folder, kind)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; choose another {kind.flag}"
        ) from error
    lock = _Lock(folder)
    try:
        if not lock.take():
            raise InputError(
                f"another process is at work in {folder}: let it end, or choose another {kind.flag}"
            )
        found = find_run(folder)
        if found is not None and found[0] is kind:
            sweep(folder, kind)
        yield
    finally:
        lock.release()
        with suppress(OSError):  # there is something in it now
            for path in made:
                path.rmdir()


class _Lock:
    """A lock on the folder itself: it leaves no file and ends with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self.fd: int | None = None
        with suppress(OSError):  # Windows opens no folders
            self.fd = os.open(folder, os.O_RDONLY)
            os.register_at_fork(after_in_child=self.release)  # processes that read images outlive a kill

    def take(self) -> bool:
        """Wait a little for it; False if another process has it."""
        end = time.monotonic() + PATIENCE
        while not self._try():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def _try(self) -> bool:
        if self.fd is None:
            return True
        import fcntl  # there wherever a folder can be opened

        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a drive without locks
            pass
        return True

    def release(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def sweep(folder: Path, kind: Kind) -> None:
    """Remove temporary files of a run of this kind, of which the process was killed."""
    names = (ARGUMENTS, *kind.files)
    for within in ("", *kind.folders, UNFINISHED):
        for path, name in find_temporary(folder / within):
            if _is_of_run(within, name, names):
                with suppress(OSError):
                    path.unlink()


def _is_of_run(within: str, name: str, names: tuple[str, ...]) -> bool:
    if within in (SMALL, HEATMAPS):
        return bool(PICTURE.fullmatch(name)) if within == SMALL else name.endswith(".jpg")
    return any(fnmatchcase(f"{within}/{name}" if within else name, pattern) for pattern in names)
