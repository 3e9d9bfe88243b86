"""Which images a command line means: files, folders and globs -> paths, each once, each with a class."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filo.files import readable
from filo.run_folder import HEATMAPS, LINES, SMALL

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
MOST_PIXELS = 100_000_000  # of the images of one batch together: 400 MB


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


def find_images(arguments: Sequence[str], class_name: str | None) -> list[Input]:
    """Find all images that files, folders and globs (`*`, `?`, `[...]`, `**`) name, each path once.

    In folders, and among what a glob matches, files are taken for images by their suffix, and hidden ones
    never; what a run drew below a folder is passed over. A file that is named is always meant. An argument
    that names nothing becomes an input with an error.

    Without `class_name` an image's class is its folder: of a folder that was named the first one below it, or
    itself for images that lie directly in it; otherwise the folder that the image lies in.
    """
    inputs: dict[str, Input] = {}
    for argument in arguments:
        for path, root, error in _expand(argument):
            key = os.path.abspath(path)  # a link and what it leads to are two images
            name = class_of(path, root) if class_name is None and not error else class_name or ""
            inputs.setdefault(key, Input(path, root, name, error))
    return list(inputs.values())


def batches(
    inputs: Sequence[Input], size: int, count_pixels: Callable[[Path], int], most_pixels: int = MOST_PIXELS
) -> Iterator[list[int]]:
    """Give the numbers of up to `size` images of one class at a time, in order; of several images, all
    together have at most `most_pixels`.
    """
    batch: list[int] = []
    held = 0
    for i, each in enumerate(inputs):
        pixels = 0 if size == 1 or each.error else count_pixels(each.path)
        is_full = len(batch) == size or held + pixels > most_pixels
        if batch and (is_full or each.class_name != inputs[batch[0]].class_name):
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += pixels
    yield batch


def class_of(path: Path, root: Path) -> str:
    """Name the folder that stands for an image's class: the first below the root, or the root."""
    below = Path(os.path.relpath(path, root)).parts
    return readable(Path(below[0] if len(below) > 1 else Path(os.path.abspath(root)).name))


def _expand(argument: str) -> list[tuple[Path, Path, str]]:
    """Give path, root and error of everything that one argument names."""
    path = Path(argument)
    if os.path.exists(path) and not os.path.isdir(path):
        return [(path, path.parent, "")]
    if not os.path.exists(path) and not glob.has_magic(argument):
        return [(path, path.parent, "no such file or folder")]
    try:
        found = list(_walk(path) if os.path.isdir(path) else _expand_glob(argument))
    except OSError as error:
        return [(path, path.parent, f"{error.filename} cannot be looked through: {error.strerror or error}")]
    kinds = ", ".join(sorted(SUFFIXES))
    return found or [(path, path.parent, f"no image there, nothing that ends in {kinds}")]


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
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
        yield from ((child, root, "") for child in children if _is_image(child))
        waiting += [child for child in reversed(children) if child.is_dir()]


def _is_drawn(folder: Path) -> bool:
    """Tell whether a run keeps its small pictures or its heatmaps there."""
    return folder.name in (SMALL, HEATMAPS) and (folder.parent / LINES).exists()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
