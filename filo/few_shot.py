"""Which images a few-shot method is shown of each class, and how they reach its memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from filo.errors import InputError
from filo.files import readable
from filo.inputs import SUFFIXES
from filo.method import Method
from filo.references import draw
from filo.transforms import open_image
from filo.views import Images, move_images, stack_images


def choose_references(
    root: Path, train: Mapping[str, Sequence[Path]], classes: Iterable[str], shots: int, seed: int
) -> dict[str, list[Path]]:
    """Choose `shots` of the normal training images of each class, the same for the same seed.

    `train` gives them by class, in the order of meta.json in `root`.

    Raises:
        InputError: a class has fewer, or none.
    """
    chosen = {}
    for name in classes:
        images = train.get(name, ())
        if len(images) < shots:
            raise InputError(
                f"{root / 'meta.json'} lists {len(images)} normal training images of the class {name!r}, "
                f"wanted {shots} references: ask for fewer --shots, or add images and run the dataset's "
                "script again"
            )
        chosen[name] = [images[i] for i in draw(len(images), shots, seed)]
    return chosen


@dataclass(frozen=True)
class References:
    """A user's folder of normal images; of each class the first `shots` by name, or all.

    `is_single`: all images are of one class, which may lie in the folder itself.
    """

    folder: Path
    shots: int | None = None
    is_single: bool = True

    def find(self, class_name: str) -> list[Path]:
        """Give the references of a class.

        Raises:
            InputError: there are none.
        """
        return find_references(self.folder, [class_name], self.shots, self.is_single)[class_name]


def find_references(
    folder: Path, classes: Sequence[str], shots: int | None = None, is_single: bool = True
) -> dict[str, list[Path]]:
    """Find the references of each class in a user's folder: `folder/CLASS/IMAGE`, or for a single class
    `folder/IMAGE`; of more than `shots` the first by name.

    Raises:
        InputError: there are none for a class, or the folder holds those of other classes.
    """
    if not folder.is_dir():
        raise InputError(f"{readable(folder)}: no such folder of references")
    folders = {each.name: each for each in sorted(folder.iterdir()) if each.is_dir()}
    own = {name: folders.get(name) or folders.get(name.replace(" ", "_")) for name in classes}
    if is_single and len(classes) == 1 and not folders:
        own = {classes[0]: folder}
    if missing := [name for name, place in own.items() if place is None]:
        there = f"there are folders of {', '.join(folders)}" if folders else "it has no folders"
        raise InputError(
            f"{readable(folder)} has no references of the class {missing[0]!r} ({there}): put them into "
            f"{readable(folder / missing[0].replace(' ', '_'))}"
        )
    found = {name: _images(place)[:shots] for name, place in own.items()}
    if empty := [name for name, images in found.items() if len(images) < (shots or 1)]:
        raise InputError(
            f"{readable(own[empty[0]])} holds {len(found[empty[0]])} images, wanted {shots or 1} references "
            f"of {empty[0]!r}: add some, or ask for fewer --shots"
        )
    return found


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]


def remember(
    method: Method,
    references: Mapping[str, Sequence[Path]],
    prepare: Callable[[Image.Image], Images],
    device: torch.device,
) -> None:
    """Show a method its references; `prepare` makes of a picture what the method's `predict` takes.

    Raises:
        InputError: one cannot be read.
    """
    for name, paths in references.items():
        images = stack_images([prepare(open_image(path)) for path in paths])
        method.remember(name, move_images(images, device))
