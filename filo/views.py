"""How a method wants to see a picture: as one square, as squares of several sizes, or, where it is long, cut
into squares along its longer side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from filo.transforms import image_tensor

STEP = (4, 5)  # of a square's length: the largest step to the next one (WinCLIP, supplement)
MOST = 100  # so many lengths of a square a picture may be long; of a longer one the pieces are no squares


class Tiles(NamedTuple):
    """A batch of pictures cut into pieces along their longer sides.

    Attributes:
        pixels: all pieces, picture by picture, from the top or from the left, (T, 3, S, S)
        sizes: width and height of every picture
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]


Images = Tensor | dict[int, Tensor] | Tiles  # a batch as one of the views below gives it


@dataclass(frozen=True)
class Whole:
    """The whole picture as a square, aspect not kept: (3, side, side)."""

    side: int

    def __call__(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        return image_tensor(image, self.side, mean, std)


@dataclass(frozen=True)
class Scales:
    """The whole picture as a square of each size, straight from the original: by side."""

    sides: tuple[int, ...]

    def __call__(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> dict[int, Tensor]:
        return {side: image_tensor(image, side, mean, std) for side in self.sides}


@dataclass(frozen=True)
class Long:
    """The pieces of a picture, each as a square of this side; one that is a square already is one piece."""

    side: int

    def __call__(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tiles:
        length, starts = cut(max(image.size), min(image.size))
        across = image.width >= image.height
        boxes = [
            (at, 0, at + length, image.height) if across else (0, at, image.width, at + length)
            for at in starts
        ]
        pieces = [image_tensor(image.crop(box), self.side, mean, std) for box in boxes]
        return Tiles(torch.stack(pieces), (image.size,))


View = Whole | Scales | Long


def cut(long: int, short: int) -> tuple[int, list[int]]:
    """Cut a picture along its longer side: the length of a piece, and where each begins, all in pixels.

    Pieces are as long as the shorter side. They are evenly spread, the first at one end and the last at the
    other, each at most 0.8 of its length after the one before.
    """
    length = max(short, -(-long // MOST))
    step, rest = max(1, length * STEP[0] // STEP[1]), long - length
    count = -(-rest // step)
    return length, [rest * i // count for i in range(count + 1)] if count else [0]


def stack_images(images: Sequence[Images]) -> Images:
    """Put single images, each as a view gives it, into a batch."""
    first = images[0]
    if isinstance(first, Tiles):
        return Tiles(torch.cat([each.pixels for each in images]), sum((each.sizes for each in images), ()))
    if isinstance(first, dict):
        return {side: torch.stack([each[side] for each in images]) for side in first}
    return torch.stack(list(images))


def move_images(images: Images, device: torch.device) -> Images:
    """Bring a batch to a device."""
    if isinstance(images, Tiles):
        return images._replace(pixels=images.pixels.to(device, non_blocking=True))
    if isinstance(images, dict):
        return {side: each.to(device, non_blocking=True) for side, each in images.items()}
    return images.to(device, non_blocking=True)


def count_tiles(size: tuple[int, int]) -> int:
    """Say into how many pieces a picture of a width and height is cut."""
    return len(cut(max(size), min(size))[1])


def join_tiles(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Make one map of a picture from those of its pieces, their mean where they overlap.

    Shape:
        maps: (T, S, S)
        output: (S, S), of the whole picture as a square
    """
    if len(maps) == 1:
        return maps[0]
    (width, height), side = size, maps.shape[-1]
    length, starts = cut(max(size), min(size))
    along = maps if width >= height else maps.transpose(1, 2)
    at = [round(start * side / length) for start in starts]
    total = maps.new_zeros(side, at[-1] + side)
    count = torch.zeros_like(total[:1])
    for piece, start in zip(along, at, strict=True):
        total[:, start : start + side] += piece
        count[:, start : start + side] += 1
    whole = torch.nn.functional.interpolate(
        (total / count)[None, None], (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]
    return whole if width >= height else whole.T
