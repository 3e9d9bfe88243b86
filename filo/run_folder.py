"""What a command leaves in its folder, and whether it may use a folder: what is of no run is never removed
nor written over.
"""

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from filo.errors import InputError
from filo.files import write_json

ARGUMENTS = "args.json"  # every run writes it first
LINES, TABLE = "predictions.jsonl", "predictions.csv"  # see `filo.records`, `filo.output`
SMALL, HEATMAPS = "small", "heatmaps"  # folders of pictures
PICTURE = re.compile(r"\d{6,}(\.jpg|_map\.png|_mask\.png)", re.ASCII)  # in SMALL, see `records.small_path`


@dataclass(frozen=True)
class Kind:
    """The runs of one command.

    Attributes:
        command, flag: what makes them, and how it is told the folder
        marks: files by which such a run is known, the surest first, and what stands in each; "" for anything
        files: what else it writes, as names or globs; the last is removed last
        folders: where it puts pictures
        replaces: commands whose runs it may throw away
        asks: whether it does so only with --overwrite: "always", "never", or where more than args.json is
            "finished"
    """

    command: str
    flag: str
    marks: dict[str, str]
    files: tuple[str, ...]
    folders: tuple[str, ...]
    replaces: tuple[str, ...]
    asks: str


TRAINING = Kind(
    "train.py",
    "--save_path",
    {"log.jsonl": "", ARGUMENTS: "train_data_path"},
    ("loss.png", "tensorboard/events.*", "stage?_epoch_*.safetensors", "filo.safetensors", "log.jsonl"),
    (),
    ("train.py",),
    "finished",
)
PREDICTION = Kind(
    "filo.predict",
    "--out",
    {"predict.json": "arguments", ARGUMENTS: "images"},
    (TABLE, "report.html", "predict.json", LINES),
    (SMALL, HEATMAPS),
    ("filo.predict", "test.py"),
    "always",
)
TEST = Kind(
    "test.py",
    "--save_path",
    {"results.json": "arguments", ARGUMENTS: "data_path", LINES: "class_name"},
    ("table.md", "curves.json", "report.html", "results.json", LINES),
    (SMALL,),
    ("test.py",),
    "never",
)
KINDS = (TRAINING, PREDICTION, TEST)


def find_run(folder: Path) -> tuple[Kind, str] | None:
    """Give the kind of the run that a folder holds and the file by which it is known; None without a run."""
    marks = ((kind, name, key) for kind in KINDS for name, key in kind.marks.items())
    return next(((kind, name) for kind, name, key in marks if _is_mark(folder / name, key)), None)


def _is_mark(path: Path, key: str) -> bool:
    if not key:
        return path.exists()
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.readline() if path.suffix == ".jsonl" else file.read())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and key in content


def require_free(folder: Path, kind: Kind, overwrite: bool = False) -> None:
    """Check that a run may be written to a folder, whether or not that is there yet.

    Raises:
        InputError: it holds a run that may not be thrown away, or not unless `overwrite`; or no run, but
            something that would be written over or be taken for a part of this one.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder by {kind.flag}")
    found = find_run(folder)
    if found is None:
        if taken := _find_taken(folder, kind):
            raise InputError(_is_of_no_run(taken, kind))
        return
    old, mark = found
    if old.command not in kind.replaces:
        raise InputError(f"{folder} holds a run of {old.command} ({mark}): choose another {kind.flag}")
    is_asked = kind.asks == "always" or (kind.asks == "finished" and any(_files(folder, old.files)))
    if is_asked and not overwrite:
        raise InputError(
            f"{folder} holds another run ({mark}): choose another {kind.flag}, or add --overwrite to throw "
            "that run away"
        )


def _find_taken(folder: Path, kind: Kind) -> Path | None:
    files = _files(folder, [*kind.files, *(name for each in KINDS for name in each.marks)])
    full = (path for name in kind.folders if (path := folder / name).is_dir() and any(path.iterdir()))
    return next(chain(files, full), None)


def _files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        if glob.has_magic(pattern):
            yield from sorted(folder.glob(pattern))
        elif os.path.lexists(folder / pattern):
            yield folder / pattern


def _is_of_no_run(path: Path, kind: Kind) -> str:
    return (
        f"{path} is there and of no run, so it is not overwritten: choose another "
        f"{kind.flag}, or move it away"
    )


def start_run(folder: Path, kind: Kind, arguments: dict, heatmaps: Iterable[str] = ()) -> None:
    """Make a run's folder, `clear` it, and write `args.json`.

    Raises:
        InputError: it cannot be cleared or written to.
    """
    clear(folder, kind, heatmaps)
    write_json(folder / ARGUMENTS, arguments)


def clear(folder: Path, kind: Kind, heatmaps: Iterable[str] = ()) -> None:
    """Remove the run that a folder holds, but for args.json, before one of `kind` is written there; where
    there is none, nothing. `heatmaps` are the names of those that will be drawn.

    Raises:
        InputError: one of the heatmaps is there and of no run, and nothing is removed; or that is impossible.
    """
    found = find_run(folder)
    if found is None:
        return
    old = _list_pictures(folder)
    coming = (folder / HEATMAPS / name for name in heatmaps)
    if other := next((path for path in coming if path not in old and os.path.lexists(path)), None):
        raise InputError(_is_of_no_run(other, kind))
    try:
        for path in [*old, *_files(folder, found[0].files)]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot clear {folder}: {error.strerror or error}; choose another {kind.flag}"
        ) from error


def _list_pictures(folder: Path) -> list[Path]:
    """Give a run's small pictures, and the heatmaps that its records list; without records there are none."""
    lines = folder / LINES
    if not lines.is_file():
        return []
    small = [path for path in (folder / SMALL).glob("*") if PICTURE.fullmatch(path.name)]
    heatmaps = []
    for line in lines.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            listed = Path(json.loads(line)["heatmap"])
        except (ValueError, KeyError, TypeError, RecursionError):  # damaged, or nothing was drawn
            continue
        if listed.parent == Path(HEATMAPS) and listed.suffix == ".jpg":
            heatmaps.append(folder / listed)
    return [*small, *heatmaps]
