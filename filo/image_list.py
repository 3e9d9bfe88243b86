"""Lists of images, which can be far longer than a command line: one path a line, and where it is wanted a tab
and the class.

    parts/a/0001.png
    parts/b/0001.png<TAB>metal bracket

A path is meant as on the command line: from the current folder, byte for byte. `-` is the standard input.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from filo.errors import InputError
from filo.files import readable

LONGEST = 8192  # bytes of a line; a system's paths have 4096 at most


def read_list(name: str) -> Iterator[tuple[int, Path, str]]:
    """Give of each line its number, the path and the class, "" where none is named; empty lines are passed
    over. No more than a line is held at a time.

    Raises:
        InputError: there is no such list, it names nothing, or it is something else.
    """
    is_empty = True
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            for number, line in _lines(file, name):
                is_empty = False
                path, tab, of_class = line.rpartition(b"\t")
                named = readable(os.fsdecode(of_class)).strip() if tab else ""
                yield number, Path(os.fsdecode(path if tab else line)), named
    except OSError as error:
        raise InputError(
            f"the list {name} cannot be read: {error.strerror or error}; wanted a text file, one path a line"
        ) from error
    if is_empty:
        raise InputError(f"the list {name} names no image: wanted one path a line")


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if b"\0" in line or len(line) > LONGEST:
            wrong = "holds a zero byte" if b"\0" in line else f"is longer than {LONGEST} bytes"
            raise InputError(
                f"the list {name} is no list of paths: line {number} {wrong}; wanted text in UTF-8, one path "
                "a line"
            )
        if line := line.rstrip(b"\r\n"):
            yield number, line


def to_line(path: Path, class_name: str) -> bytes | None:
    """Give the line that names an image and its class in a list; None for a path that no list can hold."""
    line = os.fsencode(path) + b"\t" + os.fsencode(class_name)
    return None if b"\n" in line else line + b"\n"
