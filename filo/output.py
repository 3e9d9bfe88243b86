"""What a run of filo.predict leaves beside its records: a table row and a heatmap for every image."""

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from filo.errors import InputError
from filo.files import append_text, readable, write_atomically
from filo.inputs import Input
from filo.records import Record, write_small
from filo.result import Result
from filo.run_folder import HEATMAPS, SMALL, TABLE

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
LONGEST = 150  # bytes of a heatmap's name; file systems take 255
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that starts so for a program


def require_elsewhere(run: Path, inputs: Sequence[Input]) -> None:
    """Raise `InputError` if an image that is asked for lies where the run will put its pictures."""
    drawn = [os.path.realpath(run / name) for name in (SMALL, HEATMAPS)]
    for each in inputs:
        real = Path(os.path.realpath(each.path))
        if not each.error and any(real.is_relative_to(path) for path in drawn):
            raise InputError(
                f"{readable(each.path)} lies where the run puts its pictures: choose another --out"
            )


def name_heatmaps(inputs: Sequence[Input]) -> list[str]:
    """Give every image's heatmap a name of its own: the image's below the folder that was named.

    Names differ in more than capitals, which some file systems do not tell apart.
    """
    names, last = [], {}
    for each in inputs:
        below = Path(os.path.relpath(each.path, each.root)).with_suffix("")
        plain = re.sub(r"[^\w.-]+", "_", "_".join(below.parts)).encode()[-LONGEST:].decode(errors="ignore")
        name = plain = plain.strip("._") or "image"
        while name.casefold() in last:
            last[plain.casefold()] += 1
            name = f"{plain}_{last[plain.casefold()]}"
        last[name.casefold()] = 1
        names.append(f"{name}.jpg")
    return names


def to_record(index: int, asked: Input, answer: Result | str, heatmap: str = "") -> Record:
    """Give what is written down about an image, of which `heatmap` will be drawn in the run's folder of
    heatmaps, if any; an answer in words says why there is none.
    """
    image = readable(asked.path)
    if isinstance(answer, str):
        return Record(index, image, asked.class_name, error=answer)
    return Record(
        index=index,
        image=image,
        class_name=answer.class_name,
        size=answer.size,
        score=answer.score,
        position=answer.position,
        normal_similarity=answer.normal_similarity,
        kinds=answer.kinds,
        boxes=answer.boxes,
        threshold=answer.threshold,
        heatmap=f"{HEATMAPS}/{heatmap}" if heatmap else "",
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


def append_rows(run: Path, records: Sequence[Record]) -> None:
    """Append a row for each image to the table, which begins with its head.

    Raises:
        InputError: the disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not (run / TABLE).exists():
        writer.writerow(COLUMNS)
    for record in records:
        writer.writerow(map(_cell, _row(record)))
    append_text(run / TABLE, text.getvalue())


def _row(record: Record) -> tuple:
    if record.error:
        return record.image, record.class_name, *[None] * 7, record.error, None
    decision = {None: None, True: "anomalous", False: "normal"}[record.is_anomalous]
    kind = record.kinds[0] if record.kinds else (None, None)
    said = (record.score, record.threshold, decision, record.position, *kind, len(record.boxes))
    return record.image, record.class_name, *said, None, record.heatmap


def _cell(value: object) -> object:
    """Keep a spreadsheet from running a text: a quote is put before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
