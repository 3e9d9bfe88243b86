"""How a file is written, so that a half-written one never stands under its name."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filo.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it; on failure the old file stands as it
    was.

    Raises:
        InputError: the folder cannot be written to or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")  # of this call alone, on any node
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # with the rights that new files get here, which not every writer gives
        rights = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(rights)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_cannot_write(path, error)) from error
    finally:
        with suppress(OSError):  # where nothing could be written there may be nothing to reach either
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, record: dict) -> None:
    """Append one JSON line to a file.

    Raises:
        InputError: it cannot be written.
    """
    append_text(path, json.dumps(record, ensure_ascii=False) + "\n")


def append_text(path: Path, text: str) -> None:
    """Append to a file, line ends as they are.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise InputError(
            f"cannot write to {path}: {error.strerror or error}; make room and start again"
        ) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target` stand for `source`, without a second copy where the file system has links.

    Raises:
        InputError: it cannot be written; an earlier target stands as it was.
    """

    def fill(temporary: Path) -> None:
        try:
            temporary.unlink()
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

    write_atomically(target, fill)


def readable(path: Path) -> str:
    """Write a path so that every file and terminal can hold it."""
    return os.fsencode(path).decode("utf-8", "replace")


def sha256_of(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _cannot_write(path: Path, error: OSError) -> str:
    folder = next((p for p in path.parents if p.exists()), Path("/"))
    free = shutil.disk_usage(folder).free / 2**20
    return (
        f"cannot write {path}: {error.strerror or error} ({free:.0f} MiB free there); "
        "what was written before is intact: make room or choose another folder"
    )
