"""What may be handed over as an image in Python, and how it becomes an RGB picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from filo.errors import ImageError
from filo.transforms import image_size, open_image, to_rgb

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
WANTED = "a path, a PIL image, an array (H, W, 3) of uint8, or a tensor (3, H, W)"


class Picture:
    """One image a model is asked about: from a file, opened when it is needed, or from memory.

    `path` is None for one from memory; `name` is what messages call it.
    """

    def __init__(self, source: Path | Image.Image, name: str) -> None:
        self.path = source if isinstance(source, Path) else None
        self.name = name
        self._image = None if isinstance(source, Path) else source

    def open(self) -> Image.Image:
        """Give the picture, RGB and upright; it stays in memory until `close`.

        Raises:
            ImageError: its file is missing or broken.
        """
        if self._image is None:
            self._image = open_image(self.path, in_dataset=False)
        return self._image

    def close(self) -> None:
        """Forget the pixels if they can be read again."""
        if self.path is not None:
            self._image = None


def count_pixels(path: Path) -> int:
    """Give an image's pixels, 0 if it cannot be read, which is said where it is opened."""
    try:
        width, height = image_size(path)
    except ImageError:
        return 0
    return width * height


def to_picture(image: ImageLike, name: str = "the image") -> Picture:
    """Take an image in any of these forms:

    - a path
    - a PIL image of any mode but floating-point numbers
    - an array of uint8 or uint16, (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGB and alpha
    - a tensor (3, H, W) of uint8, or of floating-point numbers in [0, 1], RGB

    Raises:
        ImageError: it is something else, is empty, or has values out of range. A file is not looked at yet.
    """
    if isinstance(image, (str, Path)):
        return Picture(Path(image), str(image))
    try:
        return Picture(_to_image(image), name)
    except (ValueError, TypeError, OSError, SyntaxError) as error:
        raise ImageError(f"{name}: {error}") from error


def _to_image(image: object) -> Image.Image:
    if isinstance(image, Tensor):
        return _from_array(_to_pixels(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"a {type(image).__name__} is no image: wanted {WANTED}")
    if 0 in image.size:
        raise ValueError(f"{image.width}x{image.height} pixels hold nothing")
    return to_rgb(image)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = ": one image at a time, several as a list" if array.ndim > 3 else ""
        raise ValueError(f"an array of shape {array.shape}, wanted (H, W, 3) or (H, W){hint}")
    if array.size == 0:
        raise ValueError(f"an array of shape {array.shape} holds no pixels")
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an array of {array.dtype}, wanted uint8 (0 to 255) or uint16 (0 to 65535)")
    pixels = array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _to_pixels(tensor: Tensor) -> np.ndarray:
    """Give a tensor (3, H, W) as an array (H, W, 3) of uint8."""
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        hint = ": one image at a time, several as a list" if tensor.ndim == 4 else ""
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)}, wanted (3, H, W){hint}")
    tensor = tensor.detach().cpu().permute(1, 2, 0)
    if tensor.dtype == torch.uint8:
        return tensor.numpy()
    if not tensor.is_floating_point():
        raise ValueError(f"a tensor of {tensor.dtype}, wanted uint8 or floating-point numbers in [0, 1]")
    tensor = tensor.float()
    if tensor.numel() and not (tensor.isfinite().all() and tensor.min() >= 0 and tensor.max() <= 1):
        seen = f"{tensor.min():.3g} to {tensor.max():.3g}" if tensor.isfinite().all() else "nan or inf"
        raise ValueError(f"a tensor with values of {seen}, wanted 0 to 1, not yet normalised")
    return (tensor * 255).round().to(torch.uint8).numpy()
