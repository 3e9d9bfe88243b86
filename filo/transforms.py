"""How image and mask files become tensors, one by one or four in a mosaic."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from filo.errors import InputError

T = TypeVar("T")


def open_image(path: Path) -> Image.Image:
    """Read an image as RGB.

    Raises:
        InputError: it is missing, broken or no image.
    """
    return _read(path, lambda file: _to_eight_bits(file).convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Give an image's width and height from its header, pixels unread.

    Raises:
        InputError: it is missing or no image.
    """
    return _read(path, lambda file: file.size)


def open_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """Read a mask as 0 / 255 grey, every value above 0 meaning defect; `size` is (width, height) of its
    image.

    Raises:
        InputError: it is missing, broken, or of another size.
    """
    mask = _read(path, lambda file: file.convert("L"))
    if mask.size != size:
        raise InputError(
            f"the mask {path} is {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}: "
            "they must be of one size"
        )
    return mask.point(lambda value: 255 if value > 0 else 0)


def _read(path: Path, use: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as file:
            return use(file)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file, though meta.json lists it; run the data script again"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} cannot be read as an image ({error}); "
            "replace it, or run the data script again to leave it out"
        ) from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would clip to white; masks need no scale, only what is above 0."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range, wanted 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def image_tensor(image: Image.Image, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize to a square, bicubic, aspect not kept, and normalise: (3, side, side)."""
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    normal = (pixels - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def mask_tensor(mask: Image.Image | None, side: int) -> Tensor:
    """Resize a 0 / 255 mask, bilinear, and cut at one half: boolean (side, side); None is all normal."""
    if mask is None:
        return torch.zeros(side, side, dtype=torch.bool)
    pixels = np.asarray(mask.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    return torch.from_numpy(pixels > 0.5)


def mosaic(
    images: Sequence[Image.Image], masks: Sequence[Image.Image | None]
) -> tuple[Image.Image, Image.Image]:
    """Lay four images and their masks out two by two, row by row, each in the size of the first."""
    if len(images) != 4 or len(masks) != 4:
        raise ValueError(f"a mosaic takes 4 images and 4 masks, not {len(images)} and {len(masks)}")
    width, height = images[0].size
    canvas, mask_canvas = (Image.new(mode, (2 * width, 2 * height)) for mode in ("RGB", "L"))
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        corner = (i % 2 * width, i // 2 * height)
        canvas.paste(_sized(image, (width, height), Image.Resampling.BICUBIC), corner)
        if mask is not None:
            mask_canvas.paste(_sized(mask, (width, height), Image.Resampling.NEAREST), corner)
    return canvas, mask_canvas


def _sized(image: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, how)
