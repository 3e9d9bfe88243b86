"""What a command leaves in its folder, and whether it may use a folder: what is of no run is never removed
nor written over.
"""

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from filo.errors import InputError
from filo.files import write_json
from filo.on_disk import Numbers

ARGUMENTS = "args.json"  # every run writes it first
PREDICTED = "predict.json"  # every finished prediction writes it last
LINES, TABLE = "predictions.jsonl", "predictions.csv"  # see `filo.records`, `filo.output`
FAILED, HIGHEST = "failed.txt", "highest.txt"  # lists of images, see `filo.image_list`
SMALL, HEATMAPS = "small", "heatmaps"  # folders of pictures
STATE = "state.safetensors"  # of an unfinished training, see `filo.state`
UNFINISHED = "unfinished"  # folder of an unfinished test, see `filo.outcomes`
KEPT = (f"{UNFINISHED}/class_[0-9]*", f"{UNFINISHED}/about.json")
ABOUT = "unfinished.json"  # of an unfinished prediction, see `filo.resume`
AT_ONCE = 10_000  # pictures that are listed before they are removed
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
    (
        "loss.png",
        "tensorboard/events.*",
        "stage?_epoch_*.safetensors",
        "filo.safetensors",
        "anomalyclip.safetensors",
        STATE,
        "log.jsonl",
    ),
    (),
    ("train.py",),
    "finished",
)
PREDICTION = Kind(
    "filo.predict",
    "--out",
    {PREDICTED: "arguments", ARGUMENTS: "images"},
    (TABLE, FAILED, "report.html", PREDICTED, ABOUT, LINES),
    (SMALL, HEATMAPS),
    ("filo.predict", "test.py"),
    "always",
)
MERGE = Kind(
    "filo.merge",
    "folder",
    {PREDICTED: "shards", ARGUMENTS: "shards"},
    (TABLE, FAILED, HIGHEST, "report.html", PREDICTED, LINES),
    (),
    ("filo.merge",),
    "never",
)
TEST = Kind(
    "test.py",
    "--save_path",
    {"results.json": "arguments", ARGUMENTS: "data_path", LINES: "class_name"},
    (*KEPT, "table.md", "curves.json", "report.html", "results.json", LINES),
    (SMALL,),
    ("test.py",),
    "never",
)
KINDS = (TRAINING, MERGE, PREDICTION, TEST)


def trained_name(method: str) -> str:
    """Name the file of a finished training's weights."""
    return f"{method}.safetensors"


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
    require_folder(folder, kind)
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


def require_folder(folder: Path, kind: Kind) -> None:
    """Raise `InputError` if what is there is a file."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder by {kind.flag}")


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
    if (folder / HEATMAPS).is_dir():
        _require_own_heatmaps(folder, kind, heatmaps)
    has_small = SMALL in found[0].folders and (folder / LINES).is_file()
    try:
        while has_small and (some := list(islice(_list_small(folder), AT_ONCE))):
            for path in some:
                path.unlink()
        for path in chain(_list_heatmaps(folder), _files(folder, found[0].files)):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot clear {folder}: {error.strerror or error}; choose another {kind.flag}"
        ) from error


def _require_own_heatmaps(folder: Path, kind: Kind, heatmaps: Iterable[str]) -> None:
    """Raise `InputError` if one of those that will be drawn is there and not listed by the run there."""
    own = Numbers()
    for path in _list_heatmaps(folder):
        own.put(path.name, 1)
    for name in heatmaps:
        path = folder / HEATMAPS / name
        if os.path.lexists(path) and own.get(name) is None:
            raise InputError(_is_of_no_run(path, kind))


def _list_small(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(folder / SMALL) as found:
        yield from (folder / SMALL / each.name for each in found if PICTURE.fullmatch(each.name))


def _list_heatmaps(folder: Path) -> Iterator[Path]:
    """Give the heatmaps that a run's records list."""
    if not (folder / LINES).is_file():
        return
    with (folder / LINES).open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            try:
                listed = Path(json.loads(line)["heatmap"])
            except (ValueError, KeyError, TypeError, RecursionError):  # damaged, or nothing was drawn
                continue
            if listed.parent == Path(HEATMAPS) and listed.suffix == ".jpg":
                yield folder / listed


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the test of one of several seeds is kept."""
    return folder / f"seed_{seed}"
