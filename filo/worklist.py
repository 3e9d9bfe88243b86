"""What a prediction is to look at, in which order, and what each heatmap is called: kept on disk, so that a
million images take no more memory than ten.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from filo.errors import InputError
from filo.files import readable
from filo.inputs import Input
from filo.on_disk import Numbers, open_tables, room_wanted
from filo.shards import Shard, spell

MOST_PIXELS = 100_000_000  # of the images of one batch together: 400 MB
BLOCK = 64  # batches; every so many a new one begins, however many images have failed or are large
LONGEST = 150  # bytes of a heatmap's name; file systems take 255


@dataclass(frozen=True)
class Item:
    """One image to be looked at.

    Attributes:
        number: its place in the order, from 0
        path: as the user would write it
        class_name: what it shows, "" where that cannot be known
        error: why nothing can be done with it, as far as that is known without opening it
        heatmap: what its file is called; no other image's of the run is
    """

    number: int
    path: Path
    class_name: str
    error: str
    heatmap: str


class Worklist:
    """The images that were asked for, each path once, of a shard those that are in it.

    Attributes:
        classes: names of the classes that were asked for, those of other shards too
        listed: how many images were asked for, those of other shards too
        repeated: how many of this shard's were named again
    """

    def __init__(self, shard: Shard | None = None) -> None:
        self.shard, self.listed, self.repeated = shard, 0, 0
        self.classes: dict[str, None] = {}
        self._sum = 0  # over all images, so that their order does not matter
        self._seen, self._numbers = Numbers(), {}
        self._tables = open_tables()
        self._tables.execute(
            "CREATE TABLE asked (id INTEGER PRIMARY KEY, path BLOB, image TEXT, class INTEGER, error BLOB, "
            "stem TEXT)"
        )

    def add(self, inputs: Iterable[Input]) -> None:
        """Take up images.

        Raises:
            InputError: the temporary folder is full.
        """
        with room_wanted():
            rows = (self._to_row(each) for each in inputs if self._is_new(each))
            insert = "INSERT INTO asked (path, image, class, error, stem) VALUES (?, ?, ?, ?, ?)"
            self._tables.executemany(insert, rows)

    def _is_new(self, each: Input) -> bool:
        if each.class_name or not each.error:
            self.classes[each.class_name] = None
        if self.shard is not None:
            self.listed += 1
            said = "\0".join((spell(each.path), each.class_name, each.error))
            self._sum += int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest(), "big")
            if not self.shard.has(each.path):
                return False
        is_new = self._seen.add(os.path.abspath(each.path))  # a link and what it leads to are two images
        self.repeated += not is_new
        return is_new

    def _to_row(self, each: Input) -> tuple[bytes, str, int, bytes, str]:
        number = self._numbers.setdefault(each.class_name, len(self._numbers))
        path = os.fsencode(each.path)
        return path, readable(each.path), number, os.fsencode(each.error), stem_of(each.path, each.root)

    def require_any(self) -> None:
        """Raise `InputError` if nothing can be done with any of them; of a shard others may have some."""
        with room_wanted():
            total, bad = self._tables.execute("SELECT count(*), sum(error <> x'') FROM asked").fetchone()
            if self.shard is not None or bad != total:
                return
            path, error = self._tables.execute("SELECT path, error FROM asked ORDER BY id LIMIT 1").fetchone()
        more = f" (and {total - 1} more cannot be done)" if total > 1 else ""
        raise InputError(f"{readable(Path(os.fsdecode(path)))}: {os.fsdecode(error)}{more}")

    def settle(self, found: Mapping[str, tuple[str, str]], with_heatmaps: bool = True) -> None:
        """Put the images in order: by class, and as they were named; those of a shard by their path, since
        others may name them in another order.

        `found` gives for classes how each is called as it was understood, and why it is none, or "".
        """
        named = {number: found.get(name, (name, "")) for name, number in self._numbers.items()}
        self._names = sorted({name for name, _ in named.values()})
        rows = [(number, self._names.index(name), os.fsencode(why)) for number, (name, why) in named.items()]
        with room_wanted():
            self._tables.execute("CREATE TABLE known (class INTEGER PRIMARY KEY, name INTEGER, error BLOB)")
            self._tables.executemany("INSERT INTO known VALUES (?, ?, ?)", rows)
            self._tables.execute(
                "UPDATE asked SET error = (SELECT error FROM known WHERE known.class = asked.class) "
                "WHERE error = x'' AND class IN (SELECT class FROM known WHERE error <> x'')"
            )
            self._tables.execute(
                "CREATE TABLE work (number INTEGER PRIMARY KEY, path BLOB, name INTEGER, error BLOB, "
                "heatmap TEXT)"
            )
            order = "id" if self.shard is None else "image, id"
            rows = self._tables.execute(
                "SELECT path, name, asked.error, stem FROM asked JOIN known ON known.class = asked.class "
                f"ORDER BY name, {order}"
            )
            names = Heatmaps() if with_heatmaps else None
            self._tables.executemany(
                "INSERT INTO work VALUES (?, ?, ?, ?, ?)",
                (
                    (number, path, name, error, names.name(stem) if names else "")
                    for number, (path, name, error, stem) in enumerate(rows)
                ),
            )

    def paths(self) -> Iterator[Path]:
        """Give the images, in any order, but for those that are known to be none."""
        with room_wanted():
            for (path,) in self._tables.execute("SELECT path FROM asked WHERE error = x''"):
                yield Path(os.fsdecode(path))

    def __len__(self) -> int:
        with room_wanted():
            return self._tables.execute("SELECT count(*) FROM asked").fetchone()[0]

    def items(self, start: int = 0) -> Iterator[Item]:
        """Give the images in order, once they are in order, from a number on."""
        with room_wanted():
            for number, path, name, error, heatmap in self._tables.execute(
                "SELECT * FROM work WHERE number >= ? ORDER BY number", (start,)
            ):
                where = Path(os.fsdecode(path))
                yield Item(number, where, self._names[name], os.fsdecode(error), heatmap)

    def batches(self, size: int, count_pixels: Callable[[Path], int], start: int = 0) -> Iterator[list[Item]]:
        """Give the batches from the one that has the image of number `start` on, see `batches`; which they
        are does not depend on it.
        """
        block = size * BLOCK
        found = batches(self.items(start - start % block), size, count_pixels)
        return dropwhile(lambda batch: batch[-1].number < start, found)

    def describe(self) -> dict:
        """Say which images these are: by name, class, size and time."""
        digest = hashlib.sha256()
        for each in self.items():
            said = [readable(each.path), each.class_name, each.error, _stamp(each.path)]
            digest.update(json.dumps(said).encode())
        return {"images": len(self), "names and times of images": digest.hexdigest()}

    def describe_all(self) -> dict:
        """Say of which images this is a shard: by name and class, whatever their order."""
        return {"images of all shards": self.listed, "names of these": f"{self._sum % 2**256:064x}"}


def batches(
    items: Iterable[Item], size: int, count_pixels: Callable[[Path], int], most_pixels: int = MOST_PIXELS
) -> Iterator[list[Item]]:
    """Give up to `size` images of one class at a time, in order; of several images, all together have at most
    `most_pixels`.

    One begins with every number that `size` times `BLOCK` divides, so that those that come later are told
    without opening all images before them.
    """
    batch: list[Item] = []
    held = 0
    for each in items:
        pixels = 0 if size == 1 or each.error else count_pixels(each.path)
        is_full = len(batch) == size or held + pixels > most_pixels or each.number % (size * BLOCK) == 0
        if batch and (is_full or each.class_name != batch[0].class_name):
            yield batch
            batch, held = [], 0
        batch.append(each)
        held += pixels
    if batch:
        yield batch


class Heatmaps:
    """Gives every image's heatmap a name of its own.

    Names differ in more than capitals, which some file systems do not tell apart.
    """

    def __init__(self) -> None:
        self._last = Numbers()

    def name(self, stem: str) -> str:
        name, count = stem, self._last.get(stem.casefold())
        while count is not None:  # it is taken
            count += 1
            name = f"{stem}_{count}"
            if self._last.get(name.casefold()) is None:
                self._last.put(stem.casefold(), count)
                break
        self._last.put(name.casefold(), 1)
        return f"{name}.jpg"


def stem_of(path: Path, root: Path) -> str:
    """Name an image for its heatmap: by its path below the folder that was named."""
    below = Path(os.path.relpath(path, root)).with_suffix("")
    plain = re.sub(r"[^\w.-]+", "_", "_".join(below.parts)).encode()[-LONGEST:].decode(errors="ignore")
    return plain.strip("._") or "image"


def _stamp(path: Path) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
