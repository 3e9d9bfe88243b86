"""How image and mask files become tensors, one by one or four in a mosaic."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from filo.errors import ImageError

T = TypeVar("T")
LARGEST = 16384**2  # pixels of an image: 1 GB of memory, and again what is made of it
# Pillow knows many more, some of which it hands over to other programs, whatever a file is called
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
OPENING = threading.Lock()  # Pillow's own limit is one for all threads


def allow_pixels(count: int) -> None:
    """Let images of up to so many pixels be opened in this process, from now on (`LARGEST` by default)."""
    global LARGEST
    LARGEST = count


def open_image(path: Path, in_dataset: bool = True) -> Image.Image:
    """Read an image as `to_rgb` has it; of one in a dataset messages say how to get it again.

    Raises:
        ImageError: it is missing, broken, too large or no image.
    """
    return _read(path, to_rgb, in_dataset)


def to_rgb(image: Image.Image) -> Image.Image:
    """Give an image as it is meant to be seen: upright as its EXIF tag says, over white where it is
    transparent, the first frame of several, in RGB of eight bits.

    Raises:
        ValueError: its pixels have no known range.
    """
    turn = _turn(image) if image.format != "TIFF" else None  # Pillow turns these while it reads them
    image.load()
    flat = _over_white(_to_eight_bits(image))
    return flat if turn is None else flat.transpose(turn)


def image_size(path: Path) -> tuple[int, int]:
    """Give the width and height that `open_image` will give, without reading the pixels of most files.

    Raises:
        ImageError: it is missing or no image.
    """
    return _read(path, _upright_size)


def open_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """Read a mask as 0 / 255 grey, every value above 0 meaning defect; `size` is (width, height) of its
    image, upright.

    Raises:
        ImageError: it is missing, broken, or of another size.
    """
    mask = _read(path, lambda file: file.convert("L"))
    if mask.size != size:
        raise ImageError(
            f"the mask {path} is {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}: "
            "they must be of one size"
        )
    return mask.point(lambda value: 255 if value > 0 else 0)


def _read(path: Path, use: Callable[[Image.Image], T], in_dataset: bool = True) -> T:
    try:
        with _open_large(path) as file:
            return use(file)
    except FileNotFoundError as error:
        hint = " (in a dataset: run its script again)" if in_dataset else ""
        raise ImageError(f"{path}: no such file{hint}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path} is too large an image: wanted at most {LARGEST:,} pixels; cut it or make it smaller, or "
            "raise the limit by --largest_image"
        ) from error
    except Exception as error:  # a broken file fails in as many ways as it has bytes
        is_empty = os.path.isfile(path) and os.path.getsize(path) == 0
        reason = "it is empty, 0 bytes" if is_empty else error or type(error).__name__
        hint = " (in a dataset: then run its script again)" if in_dataset else ""
        raise ImageError(
            f"{path} cannot be read as an image ({reason}); replace or remove it{hint}"
        ) from error


def _open_large(path: Path) -> Image.Image:
    """Open an image of up to `LARGEST` pixels, where Pillow takes more than 179 million for an attack.

    Its limit is as it was afterwards: others in this process may rely on it.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise OSError("it is no file")
    with OPENING:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None  # Pillow would warn beside our own line
        try:
            file = Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if file.width * file.height > LARGEST:
        file.close()
        raise Image.DecompressionBombError
    return file


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright, from its EXIF orientation; None if nothing need be done."""
    if image.format == "PNG" and not any("exif" in key for key in map(str, image.info)):
        return None  # Pillow would read all pixels to look for the tag behind them, where hardly any has it
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF fails in as many ways as it has bytes, and the pixels are good
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turn = _turn(image)
    if turn is not None and image.format == "TIFF":
        image.load()  # whether the size is that before or after turning depends on Pillow's version
        return image.size
    lies = turn in (TURNS[5], TURNS[6], TURNS[7], TURNS[8])
    return image.size[::-1] if lies else image.size


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would clip to white; masks need no scale, only what is above 0.

    Mode I is 16 bits in PNG and PGM; elsewhere it may be 32, and then the values tell how many are used.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range, wanted 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 65535:
            raise ValueError(f"its pixels are 32-bit integers of {low} to {high}, wanted 8 or 16 bits")
        pixels = pixels << 8 if high <= 255 else pixels
    return Image.fromarray((pixels >> 8).clip(0, 255).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    of_palette = image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
    if not (of_palette or image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


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
