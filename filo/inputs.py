"""Which images a command line means: files, folders, globs and lists -> paths, each with a class."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filo.errors import InputError
from filo.files import readable
from filo.image_list import read_list
from filo.run_folder import HEATMAPS, LINES, SMALL

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Input:
    """One image that was asked for.

    Attributes:
        path: as the user would write it
        root: the folder that was named and holds it; its own folder where it was named itself
        class_name: what it shows, "" where that cannot be known
        error: why nothing can be done with it, as far as that is known without opening it
    """

    path: Path
    root: Path
    class_name: str
    error: str = ""


def find_images(arguments: Sequence[str], class_name: str | None) -> Iterator[Input]:
    """Find all images that files, folders and globs (`*`, `?`, `[...]`, `**`) name, one that is named twice
    twice.

    In folders, and among what a glob matches, files are taken for images by their suffix, and hidden ones
    never; what a run drew below a folder is passed over. A file that is named is always meant. An argument
    that names nothing becomes an input with an error.

    Without `class_name` an image's class is its folder: of a folder that was named the first one below it, or
    itself for images that lie directly in it; otherwise the folder that the image lies in.
    """
    for argument in arguments:
        for path, root, error in _expand(argument):
            name = class_of(path, root) if class_name is None and not error else class_name or ""
            yield Input(path, root, name, error)


def listed_images(name: str, class_name: str | None, from_folder: bool) -> Iterator[Input]:
    """Give the images of a list (`filo.image_list`), one that is named twice twice; whether they are there
    is not looked at.

    A class in the list comes before `class_name`, and that before the folder that the image lies in.

    Raises:
        InputError: the list cannot be read, or nothing says what an image of it shows.
    """
    for number, path, own in read_list(name):
        if not (own or class_name or from_folder):
            raise InputError(
                f"the list {name}, line {number}: nothing says what the image shows: write a tab and its "
                "class behind it, name one class for all by --class, or add --class_from_folder"
            )
        yield Input(path, path.parent, own or class_name or class_of(path, path.parent))


def class_of(path: Path, root: Path) -> str:
    """Name the folder that stands for an image's class: the first below the root, or the root."""
    below = Path(os.path.relpath(path, root)).parts
    return readable(Path(below[0] if len(below) > 1 else Path(os.path.abspath(root)).name))


def _expand(argument: str) -> Iterator[tuple[Path, Path, str]]:
    """Give path, root and error of everything that one argument names."""
    path, is_empty = Path(argument), True
    if os.path.exists(path) and not os.path.isdir(path):
        yield path, path.parent, ""
        return
    if not os.path.exists(path) and not glob.has_magic(argument):
        yield path, path.parent, "no such file or folder"
        return
    try:
        for found in _walk(path) if os.path.isdir(path) else _expand_glob(argument):
            is_empty = False
            yield found
    except OSError as error:
        yield path, path.parent, f"{error.filename} cannot be looked through: {error.strerror or error}"
        return
    if is_empty:
        yield path, path.parent, f"no image there, nothing that ends in {', '.join(sorted(SUFFIXES))}"


def _expand_glob(pattern: str) -> Iterator[tuple[Path, Path, str]]:
    for name in sorted(glob.glob(pattern, recursive=True)):
        path = Path(name)
        is_deep = "**" in pattern
        if _is_image(path) and not (is_deep and any(map(_is_drawn, path.parents))):
            yield path, path.parent, ""
        elif path.is_dir() and not is_deep:  # that goes through folders by itself
            yield from _walk(path)


def _walk(root: Path) -> Iterator[tuple[Path, Path, str]]:
    """Give the images in a folder and below, links followed but no folder twice."""
    seen, waiting = set(), [root]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen or (folder != root and _is_drawn(folder)):
            continue
        seen.add(real)
        with os.scandir(folder) as found:  # names alone are held: there may be very many
            names = sorted((each.name, each.is_dir()) for each in found if not each.name.startswith("."))
        images = (name for name, is_dir in names if not is_dir and _is_called_image(name))
        yield from ((folder / name, root, "") for name in images)
        waiting += [folder / name for name, is_dir in reversed(names) if is_dir]


def _is_drawn(folder: Path) -> bool:
    """Tell whether a run keeps its small pictures or its heatmaps there."""
    return folder.name in (SMALL, HEATMAPS) and (folder.parent / LINES).exists()


def _is_image(path: Path) -> bool:
    return _is_called_image(path.name) and not path.name.startswith(".") and not path.is_dir()


def _is_called_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
