"""What a run of filo.predict leaves beside its records: a table row and a heatmap for every image."""

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from filo.errors import InputError
from filo.files import append_text, readable, write_atomically
from filo.inputs import HEATMAPS, Input
from filo.plots import overlay, with_bar
from filo.records import FOLDER, LINES, Record, clear, fit, write_small
from filo.result import Result

TABLE = "predictions.csv"
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
# files by which a run is known, and what stands in each
MARKS = {
    LINES: "class_name",
    "results.json": "arguments",
    "predict.json": "arguments",
    "args.json": "ckpt_path",
}
WRITTEN = (*MARKS, TABLE, "report.html", FOLDER, HEATMAPS)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that starts so for a program


def require_free(folder: Path, overwrite: bool, inputs: Sequence[Input]) -> None:
    """Raise `InputError` if another run's files are in the folder, unless they may be overwritten, which
    those of training, what is no run's, and the images that are asked for never may.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder by --out")
    if (folder / "log.jsonl").exists():
        raise InputError(f"{folder} holds a training run: choose another --out")
    _require_elsewhere(folder, inputs)
    run = _find_run(folder)
    if run and not overwrite:
        raise InputError(
            f"{folder} holds another run ({run}): choose another --out, or add --overwrite to throw that run "
            "away"
        )
    other = None if run else next((folder / name for name in WRITTEN if _is_taken(folder / name)), None)
    if other:
        raise InputError(
            f"{other} is there and of no run, so it is not overwritten: choose another --out, or move it away"
        )


def _require_elsewhere(folder: Path, inputs: Sequence[Input]) -> None:
    drawn = [os.path.realpath(folder / name) for name in (FOLDER, HEATMAPS)]
    for each in inputs:
        real = Path(os.path.realpath(each.path))
        if not each.error and any(real.is_relative_to(path) for path in drawn):
            raise InputError(
                f"{readable(each.path)} lies where the run puts its pictures: choose another --out"
            )


def _find_run(folder: Path) -> str | None:
    """Name the file by which a run of test.py or filo.predict is known; None if there is none."""
    return next((name for name, key in MARKS.items() if _has_key(folder / name, key)), None)


def _has_key(path: Path, key: str) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.readline() if path.suffix == ".jsonl" else file.read())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and key in content


def _is_taken(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else os.path.lexists(path)


def empty(folder: Path, heatmaps: Sequence[str]) -> None:
    """Remove what an earlier run left, and nothing where there was none; `heatmaps` will be written.

    Raises:
        InputError: that is not possible, or one of the heatmaps is there and of no run. Nothing is removed
            in the second case.
    """
    if not _find_run(folder):
        return
    old = _list_heatmaps(folder)
    other = next((n for n in heatmaps if n not in old and os.path.lexists(folder / HEATMAPS / n)), None)
    if other:
        raise InputError(
            f"{folder / HEATMAPS / other} is of no run, so it is not overwritten: choose another --out, or "
            "move it away"
        )
    try:
        for path in [*(folder / HEATMAPS / name for name in old), folder / TABLE, folder / "predict.json"]:
            path.unlink(missing_ok=True)
        clear(folder)
    except OSError as error:
        raise InputError(f"cannot clear {folder}: {error.strerror or error}; choose another --out") from error


def _list_heatmaps(folder: Path) -> set[str]:
    """Give the names of the heatmaps that a run's records list; a line that is damaged lists none."""
    names = set()
    path = folder / LINES
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            path = Path(json.loads(line)["heatmap"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if path.parent == Path(HEATMAPS) and path.suffix == ".jpg":
            names.add(path.name)
    return names


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


def to_record(index: int, asked: Input, answer: Result | str) -> Record:
    """Give what is written down about an image; an answer in words says why there is none."""
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
    )


def write_pictures(run: Path, index: int, result: Result, name: str, longest_side: int) -> None:
    """Keep an image and its map in small, and draw its heatmap in its own size or smaller; none for 0.

    Raises:
        InputError: the disk is full.
    """
    image = result.picture.open()
    write_small(run, index, image, result.square_map)
    if longest_side:
        size = fit(image.size, longest_side)
        image = image if size == image.size else image.resize(size, reducing_gap=2.0)
        content = io.BytesIO()
        _draw(image, result).save(content, "JPEG", quality=90)
        write_atomically(run / HEATMAPS / name, lambda temporary: temporary.write_bytes(content.getvalue()))


def _draw(image: Image.Image, result: Result) -> Image.Image:
    factor = image.width / result.size[0]
    boxes = [box | {"corners": [corner * factor for corner in box["corners"]]} for box in result.boxes]
    drawn = overlay(image, result.square_map, result.scale, boxes=boxes, caption=result.verdict)
    return with_bar(drawn, result.scale)


def append_rows(run: Path, records: Sequence[Record], heatmaps: Sequence[str]) -> None:
    """Append a row for each image to the table, which begins with its head.

    Raises:
        InputError: the disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not (run / TABLE).exists():
        writer.writerow(COLUMNS)
    for record, name in zip(records, heatmaps, strict=True):
        is_drawn = (run / HEATMAPS / name).exists() and not record.error
        writer.writerow(map(_cell, _row(record, f"{HEATMAPS}/{name}" if is_drawn else "")))
    append_text(run / TABLE, text.getvalue())


def _row(record: Record, heatmap: str) -> tuple:
    if record.error:
        return record.image, record.class_name, *[None] * 7, record.error, None
    decision = {None: None, True: "anomalous", False: "normal"}[record.is_anomalous]
    kind = record.kinds[0] if record.kinds else (None, None)
    said = (record.score, record.threshold, decision, record.position, *kind, len(record.boxes))
    return record.image, record.class_name, *said, None, heatmap


def _cell(value: object) -> object:
    """Keep a spreadsheet from running a text: a quote is put before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
