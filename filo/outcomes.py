"""What an evaluation has found so far is kept on disk until it is finished, so that it can go on from there.

    FOLDER/about.json        what the outcomes depend on, and where they were made
    FOLDER/class_000.maps    of each class in work: a line of JSON and a map, float32, for every image
    FOLDER/class_000.json    the result of each finished class, whose maps are not needed any more

A kill costs the images in work: what is cut off or damaged is noticed by its checksum and made again, and so
is what has a right one and could not be made here.
"""

import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from filo.class_result import ClassResult, read_class_result
from filo.errors import InputError
from filo.files import sha256_of, write_json
from filo.kinds import DAMAGES, require_kinds, require_list
from filo.meta import Entry
from filo.records import cut_records, leading_records
from filo.resume import difference, say_where
from filo.run_folder import TEST, UNFINISHED, clear

ABOUT = "about.json"
LONGEST = 1 << 20  # bytes of a line before a map: some 50,000 descriptions
BLOCK = {"content": str, "score": float, "similarities": list, "position": int, "side": int}


class Outcome(NamedTuple):
    """What a method says about one image, as in `Prediction`; the map (S, S) is on the CPU."""

    score: float
    anomaly_map: Tensor
    similarities: list[float]
    position: int


class Kept:
    """The outcomes of one evaluation of `entries`, taken down in their order, which is class by class.

    Maps are squares of `side` pixels. `about` is what they depend on beside the images, `environment` where
    they are made.

    Attributes:
        taken: how many images, counted from the first, need not be computed again
        results: those of finished classes, as `finish` was given them
        is_off: nothing is kept: nobody wants it, or the disk is full
    """

    def __init__(
        self,
        folder: Path,
        entries: Sequence[Entry],
        side: int,
        about: Mapping[str, object],
        environment: Mapping[str, object],
    ) -> None:
        self.folder, self.entries, self.side = folder, entries, side
        self.about = {"about": dict(about), "environment": dict(environment)}
        self.taken, self.is_off = 0, False
        self.results: dict[str, ClassResult] = {}
        self.contents: dict[str, list[str]] = {}  # of a class's images so far
        self.spans: dict[str, range] = {}
        for i, entry in enumerate(entries):
            first = self.spans.get(entry.class_name, range(i, i)).start
            self.spans[entry.class_name] = range(first, i + 1)

    def take_up(self, most: int) -> int:
        """Find what is there of the first `most` images, and give `taken`; all else that is there goes."""
        there = _read(self.folder / ABOUT)
        if any(not isinstance(there.get(name), dict) for name in self.about):
            there = {}
        if there and (differing := difference(there["about"], self.about["about"])):
            where = f"note: the unfinished test in {self.folder.parent} is of something else"
            print(f"{where} ({differing}), so this one begins anew", file=sys.stderr)
        elif there:
            self._find(most)
        if self.taken:
            say_where("this test", there["environment"], self.about["environment"])
            print(f"going on: {self.taken} of {len(self.entries)} images are done already")
        else:
            self.remove()
        return self.taken

    def _find(self, most: int) -> None:
        for name, span in self.spans.items():
            contents = [content_of(self.entries[i]) for i in span[: max(0, most - span.start)]]
            if len(contents) == len(span) and (result := self._read_result(name, contents)):
                self.results[name], self.taken = result, span.stop
                continue
            pairs = zip(self._blocks(name), contents, strict=False)
            same = takewhile(lambda pair: pair[0][0] == pair[1], pairs)
            self.contents[name] = [content for _, content in same]
            self.taken = span.start + len(self.contents[name])
            if self.taken < span.stop:
                break
        for name, span in self.spans.items():
            if span.stop > self.taken:
                self._path(name, "json").unlink(missing_ok=True)
                self._cut(name, self.taken - span.start)

    def _read_result(self, name: str, contents: list[str]) -> ClassResult | None:
        """Give the result of a class, None unless it is whole and of images with these contents."""
        found, labels = _read(self._path(name, "json")), [self.entries[i].label for i in self.spans[name]]
        try:
            result = read_class_result(found["result"])
        except DAMAGES:
            return None
        is_whole = found.get("images") == contents and found.get("checksum") == _checksum(found["result"])
        counts = (result.normal, result.anomalous)
        is_own = result.class_name == name and counts == (labels.count(0), labels.count(1))
        return result if is_whole and is_own else None

    def outcomes(self) -> Iterator[tuple[Entry, Outcome]]:
        """Give what was taken of classes that are not finished, in order."""
        for name, span in self.spans.items():
            if name not in self.results and span.start < self.taken:
                for i, (_, outcome, _) in zip(span, self._blocks(name), strict=False):
                    yield self.entries[i], outcome

    def add(self, entry: Entry, outcome: Outcome) -> None:
        """Take down the next image; where the disk is full that is said once, and no more is kept."""
        if self.is_off:
            return
        content = content_of(entry)
        said = {"content": content, "score": outcome.score, "similarities": outcome.similarities}
        said |= {"position": outcome.position, "side": len(outcome.anomaly_map)}
        block = json.dumps(said).encode() + b"\n" + outcome.anomaly_map.numpy().tobytes()
        path = self._path(entry.class_name, "maps")
        size = path.stat().st_size if path.exists() else 0
        try:
            if not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, self.about)
            with path.open("ab") as file:
                file.write(b"%08x " % zlib.crc32(block) + block)
        except (OSError, InputError) as error:
            with suppress(OSError):
                os.truncate(path, size)
            self._give_up(f"cannot write {path}: {getattr(error, 'strerror', None) or error}")
        self.contents.setdefault(entry.class_name, []).append(content)

    def finish(self, result: ClassResult) -> None:
        """Keep a class's result instead of its maps."""
        if self.is_off:
            return
        name, said = result.class_name, asdict(result)
        whole = {"images": self.contents.pop(name), "result": said, "checksum": _checksum(said)}
        try:
            write_json(self._path(name, "json"), whole)
            self._path(name, "maps").unlink(missing_ok=True)
        except InputError as error:
            self._give_up(error)

    def _give_up(self, why: object) -> None:
        self.is_off = True
        more = "the test goes on, but if it is stopped, images from here on are computed again"
        print(f"warning: {why}; {more}", file=sys.stderr)

    def remove(self) -> None:
        """Remove all of it: the evaluation is finished."""
        for path in (self.folder / ABOUT, *self.folder.glob("class_[0-9]*")):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"class_{list(self.spans).index(name):03d}.{suffix}"

    def _blocks(self, name: str) -> Iterator[tuple[str, Outcome, int]]:
        """Give of each whole block in a class's file what it belongs to, the outcome, and where it ends."""
        with suppress(*DAMAGES), self._path(name, "maps").open("rb") as file:
            while line := file.readline(LONGEST):
                pixels = file.read(4 * self.side**2)
                if int(line[:9], 16) != zlib.crc32(pixels, zlib.crc32(line[9:])):
                    return
                said = json.loads(line[9:])
                require_kinds(said, BLOCK)
                require_list(said["similarities"], float)
                values = np.frombuffer(pixels, np.float32).reshape(self.side, self.side).copy()
                if said["side"] != self.side or not np.isfinite(values).all():
                    return
                outcome = Outcome(
                    said["score"], torch.from_numpy(values), said["similarities"], said["position"]
                )
                yield said["content"], outcome, file.tell()

    def _cut(self, name: str, count: int) -> None:
        """Leave the first `count` blocks of a class's file."""
        path = self._path(name, "maps")
        if count <= 0:
            path.unlink(missing_ok=True)
            return
        os.truncate(path, [end for _, _, end in islice(self._blocks(name), count)][-1])


def open_kept(
    run: Path,
    entries: Sequence[Entry],
    side: int,
    about: Mapping[str, object],
    environment: Mapping[str, object],
    is_wanted: bool = True,
) -> Kept:
    """Let a run of test.py go on where it was stopped, or clear its folder; one that is not wanted keeps
    nothing.

    Raises:
        InputError: the folder cannot be cleared.
    """
    kept = Kept(run / UNFINISHED, entries, side, about, environment)
    kept.is_off = not is_wanted
    if is_wanted and kept.take_up(sum(1 for _ in leading_records(run))):
        cut_records(run, kept.taken)
    else:
        clear(run, TEST)
    return kept


def content_of(entry: Entry) -> str:
    """Name what an image's outcome and metrics are made from: its bytes and those of its mask."""
    return " ".join(sha256_of(path) for path in (entry.image, entry.mask) if path is not None)


def _read(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except DAMAGES:
        return {}


def _checksum(result: dict) -> str:
    return f"{zlib.crc32(json.dumps(result).encode()):08x}"
