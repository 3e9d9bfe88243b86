"""How a file is written, so that a half-written one never stands under its name."""

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filo.errors import InputError

LEFT = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.ASCII)  # a temporary file
OLD = 24 * 3600  # seconds; clocks of machines that share a drive differ by less


def write_atomically(path: Path, write: Callable[[Path], None], is_lasting: bool = False) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it; on failure the old file stands as it
    was.

    The content is on the disk before the name is; with `is_lasting` so is the name when this returns, for
    what makes another file superfluous that may go next.

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
        if is_lasting:
            _keep_names(path.parent)
    except OSError as error:
        raise InputError(_cannot_write(path, error)) from error
    finally:
        with suppress(OSError):  # where nothing could be written there may be nothing to reach either
            temporary.unlink()


def _keep_names(folder: Path) -> None:
    with suppress(OSError):  # Windows opens no folders, and some network drives keep them in their own way
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def find_temporary(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the temporary files of `write_atomically` in a folder, each with the name it was to get."""
    with suppress(OSError), os.scandir(folder) as found:  # one by one: there may be millions beside them
        for each in found:
            if left := LEFT.fullmatch(each.name):
                yield folder / each.name, left[1]


def sweep_old(cache: Path, suffix: str) -> None:
    """Remove temporary files of files that end in `suffix` in the folders 00 to ff of a cache that several
    processes share, once they are so old that who wrote them must have been killed: a write takes seconds.
    """
    oldest = time.time() - OLD
    for folder in cache.glob("[0-9a-f][0-9a-f]"):
        for path, name in find_temporary(folder):
            with suppress(OSError):
                if name.endswith(suffix) and path.stat().st_mtime < oldest:
                    path.unlink()


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(encode(text)))


def encode(text: str) -> bytes:
    """Names of files may hold bytes that are no text; `\\udcff` for such a one is what JSON reads back."""
    return text.encode("utf-8", "backslashreplace")


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines, however many; each brings its end.

    Raises:
        InputError: the folder cannot be written to or the disk is full; the old file stands as it was.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.writelines(lines)

    write_atomically(path, write)


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, record: dict) -> None:
    """Append one JSON line to a file.

    Raises:
        InputError: it cannot be written.
    """
    append_text(path, json_line(record))


def json_line(record: dict) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def append_text(path: Path, text: str) -> None:
    """Append to a file, line ends as they are: all of the text, or nothing.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            _append_all(file, encode(text))
    except OSError as error:
        raise InputError(
            f"cannot write to {path}: {error.strerror or error}; make room and start again"
        ) from error


def _append_all(file: io.FileIO, content: bytes) -> None:
    end = file.tell()
    try:
        while content:
            content = content[file.write(content) :]
    except OSError:
        with suppress(OSError):  # a device cannot be cut
            file.truncate(end)
        raise


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

    write_atomically(target, fill, is_lasting=True)


def readable(path: Path | str) -> str:
    """Write a path so that every file and terminal can hold it."""
    return re.sub("[\ud800-\udfff]", "\ufffd", os.fspath(path))


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
