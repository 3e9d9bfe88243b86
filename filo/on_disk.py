"""Where a million names are kept, out of memory: in a temporary file, which goes with the process."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from filo.errors import InputError


def open_tables() -> sqlite3.Connection:
    """Open an empty database of this process alone; of more than 2 MB the rest is in a file without a name.

    Nothing in it outlives the process, so nothing is ever committed.
    """
    tables = sqlite3.connect("", isolation_level=None)
    tables.execute("PRAGMA journal_mode = OFF")
    tables.execute("BEGIN")
    return tables


@contextmanager
def room_wanted() -> Iterator[None]:
    """Turn what the database refuses into one line.

    Raises:
        InputError: most likely the temporary folder is full.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise InputError(
            f"cannot keep the names of images in the temporary folder {tempfile.gettempdir()} ({error}): "
            "make room there, about 300 bytes for each, or name another by TMPDIR"
        ) from error


class Numbers:
    """A number for each of very many names."""

    def __init__(self) -> None:
        self._tables = open_tables()
        self._tables.execute("CREATE TABLE numbers (name BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def get(self, name: str) -> int | None:
        """Give a name's number, None if it has none."""
        with room_wanted():
            row = self._tables.execute("SELECT number FROM numbers WHERE name = ?", (_key(name),)).fetchone()
        return None if row is None else row[0]

    def put(self, name: str, number: int) -> None:
        """Give a name a number instead of any it had.

        Raises:
            InputError: the temporary folder is full.
        """
        with room_wanted():
            self._tables.execute("REPLACE INTO numbers VALUES (?, ?)", (_key(name), number))

    def add(self, name: str) -> bool:
        """Give a name the number 1; False, and nothing changes, if it has one.

        Raises:
            InputError: the temporary folder is full.
        """
        with room_wanted():
            added = self._tables.execute("INSERT OR IGNORE INTO numbers VALUES (?, 1)", (_key(name),))
        return added.rowcount == 1


def _key(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
