"""Which share of very many images a process looks at, so that several share the work without a word between
them: an image's path alone says in which shard it is, in whatever order images are named.
"""

import os
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from filo.errors import InputError

MOST = 1000
FOLDER = re.compile(r"shard_([1-9]\d*)_of_([1-9]\d*)", re.ASCII)


@dataclass(frozen=True, order=True)
class Shard:
    """One of `of` shards, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """What its folder is called, within that of the whole prediction."""
        return f"shard_{self.number}_of_{self.of}"

    def has(self, path: Path) -> bool:
        """Tell whether an image is in this shard: by its path as it is written, on every machine the same."""
        place = blake2b(os.fsencode(spell(path)), digest_size=8).digest()
        return int.from_bytes(place, "big") % self.of == self.number - 1


def spell(path: Path) -> str:
    """Write a path in one way, whatever the system: ./a.png is a.png."""
    return os.path.normpath(path).replace(os.sep, "/")


def parse_shard(text: str) -> Shard:
    """Read `2/4`.

    Raises:
        InputError: it is no such pair.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or not 1 <= shard.number <= shard.of <= MOST:
        raise InputError(
            f"--shard {text!r}: wanted I/N, the I-th of N, counted from 1: 1/4, 2/4, 3/4, 4/4; {MOST} at most"
        )
    return shard


def find_shards(run: Path) -> list[Shard]:
    """Give the shards of which a folder holds the folders, in order."""
    found = (FOLDER.fullmatch(path.name) for path in run.iterdir() if path.is_dir()) if run.is_dir() else ()
    return sorted(Shard(int(name[1]), int(name[2])) for name in found if name)


def require_one_set(run: Path, of: int) -> None:
    """Raise `InputError` if a folder holds shards of another number than `of`."""
    if others := sorted({shard.of for shard in find_shards(run)} - {of}):
        raise InputError(
            f"{run} holds shards of {others[0]}, not of {of}: go on with {others[0]} processes or --shard "
            f"I/{others[0]}, choose another --out, or move them away"
        )
