"""What a run of filo.predict leaves beside its records: a table row and a heatmap for every image, and a list
of those that failed.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from filo.errors import InputError
from filo.files import append_text, encode, readable, write_atomically, write_lines
from filo.image_list import to_line
from filo.records import Record, write_small
from filo.result import Result
from filo.run_folder import FAILED, HEATMAPS, SMALL, TABLE
from filo.worklist import Item

COLUMNS = (
    "image",
    "class",
    "score",
    "threshold",
    "decision",
    "position",
    "kind",
    "kind_similarity",
    "boxes",
    "error",
    "heatmap",
)
FORMULA = ("=", "+", "-", "@")  # a spreadsheet takes a cell that starts so for a program


def require_elsewhere(run: Path, images: Iterable[Path]) -> None:
    """Raise `InputError` if an image that is asked for lies where the run will put its pictures."""
    drawn = [os.path.realpath(run / name) for name in (SMALL, HEATMAPS) if (run / name).is_dir()]
    for image in images if drawn else ():
        real = Path(os.path.realpath(image))
        if any(real.is_relative_to(path) for path in drawn):
            raise InputError(f"{readable(image)} lies where the run puts its pictures: choose another --out")


def to_record(item: Item, answer: Result | str) -> Record:
    """Give what is written down about an image; an answer in words says why there is none."""
    image = readable(item.path)
    if isinstance(answer, str):
        return Record(item.number, image, item.class_name, error=answer)
    return Record(
        index=item.number,
        image=image,
        class_name=answer.class_name,
        size=answer.size,
        score=answer.score,
        position=answer.position,
        normal_similarity=answer.normal_similarity,
        kinds=answer.kinds,
        boxes=answer.boxes,
        threshold=answer.threshold,
        heatmap=f"{HEATMAPS}/{item.heatmap}" if item.heatmap else "",
    )


def write_pictures(run: Path, record: Record, result: Result, longest_side: int) -> None:
    """Keep an image and its map in small, and draw the heatmap that its record names.

    Raises:
        InputError: the disk is full.
    """
    write_small(run, record.index, result.picture.open(), result.square_map)
    if record.heatmap:
        content = io.BytesIO()
        result.heatmap(longest_side).save(content, "JPEG", quality=90)
        write_atomically(run / record.heatmap, lambda temporary: temporary.write_bytes(content.getvalue()))


def write_table(run: Path, records: Iterable[Record]) -> None:
    """Write the table: its head, and a row for each image.

    Raises:
        InputError: the disk is full; the old table stands then.
    """
    write_lines(run / TABLE, map(encode, chain([_to_line(COLUMNS)], map(_row, records))))


def append_rows(run: Path, records: Iterable[Record]) -> None:
    """Append a row for each image to the table.

    Raises:
        InputError: the disk is full.
    """
    append_text(run / TABLE, "".join(map(_row, records)))


def write_failed(run: Path, records: Iterable[Record], items: Iterable[Item]) -> None:
    """Write the list of the images that failed, to be looked at again by --list; `items` are those of the
    records. A path with a line end is left out, as no list can hold it.

    Raises:
        InputError: the disk is full.
    """
    lines = (to_line(i.path, i.class_name) for r, i in zip(records, items, strict=True) if r.error)
    write_lines(run / FAILED, filter(None, lines))


def _row(record: Record) -> str:
    if record.error:
        return _to_line((record.image, record.class_name, *[None] * 7, record.error, None))
    decision = {None: None, True: "anomalous", False: "normal"}[record.is_anomalous]
    kind = record.kinds[0] if record.kinds else (None, None)
    said = (record.score, record.threshold, decision, record.position, *kind, len(record.boxes))
    return _to_line((record.image, record.class_name, *said, None, record.heatmap))


def _to_line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, cells))
    return text.getvalue()


def _cell(value: object) -> object:
    """Keep a spreadsheet from running a text: a quote is put before it, and within it no row ends."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # of the two, the writer puts quotes around this one alone
    start = unicodedata.normalize("NFKC", text).lstrip()  # in East Asian width too, and after blanks
    return f"'{text}" if start.startswith(FORMULA) or text.startswith(("\t", "\n")) else text
