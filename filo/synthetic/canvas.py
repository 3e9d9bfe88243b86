"""The few drawing tools that every object and every defect is made of.

Images are float32 RGB in 0-1. Lengths and coordinates are fractions of the picture side, the origin is the
middle of the picture, x points right and y down. Light comes from the top left.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

Array = np.ndarray
Colour = tuple[float, float, float]
FINER = 4  # strokes and letters are drawn this many times larger and averaged, for smooth edges


class Scene(NamedTuple):
    """A flawless picture and what a defect has to know about it.

    image: (S, S, 3); body: (S, S) bool, the object and not the background; parts: (S, S) int32, a number
    from 1 for each part that can be lost or bent, 0 elsewhere; bare: (S, S, 3), the picture without any part.
    """

    image: Array
    body: Array
    parts: Array
    bare: Array

    @property
    def has_background(self) -> bool:
        """Whether there is anything to be seen beneath the parts."""
        return self.bare is not self.image


def coordinates(
    side: int, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Return x and y, each (side, side), of a frame moved by `shift` and turned by `angle` radians."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x, y = np.meshgrid(line - np.float32(shift[0]), line - np.float32(shift[1]))
    return turned(x, y, angle)


def turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Return the coordinates seen from a frame turned by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def turned_by(x: Array, y: Array, angles: Array) -> tuple[Array, Array]:
    """Return the coordinates seen from frames turned by `angles`, one for each pixel."""
    cos, sin = np.cos(angles), np.sin(angles)
    return cos * x + sin * y, cos * y - sin * x


def noise(rng: Generator, side: int, rows: int, columns: int | None = None) -> Array:
    """Return smooth noise (side, side) of about unit variance with `rows` x `columns` independent cells."""
    cells = rng.standard_normal((rows, columns or rows)).astype(np.float32)
    return cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)


def clouds(rng: Generator, side: int, cells: int, octaves: int = 3) -> Array:
    """Return noise with detail at `octaves` scales, each half as large and half as strong."""
    return sum(0.5**k * noise(rng, side, cells * 2**k) for k in range(octaves))


def paint(side: int, colour: Colour, tone: Array | float = 1.0) -> Array:
    """Return `colour` everywhere, made lighter or darker by `tone` (side, side)."""
    tone = np.broadcast_to(np.asarray(tone, np.float32), (side, side))
    return tone[..., None] * np.asarray(colour, np.float32)


def mix(first: Array, second: Array, share: Array) -> Array:
    """Return `first` where share (S, S) is 0 and `second` where it is 1."""
    return (first + (second - first) * share[..., None]).astype(np.float32)


def cover(distance: Array) -> Array:
    """Return how much of each pixel lies inside a shape, 0-1, from the signed distance to its edge (S, S)."""
    return np.clip(0.5 - distance * distance.shape[0], 0, 1).astype(np.float32)


def box(x: Array, y: Array, width: float, height: float, corner: float = 0.0) -> Array:
    """Return the signed distance to a rectangle round the origin with rounded corners."""
    dx, dy = np.abs(x) - width / 2 + corner, np.abs(y) - height / 2 + corner
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner


def bar(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Return the distance to the line from `start` to `end`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-12)
    along = np.clip(along, 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def relief(height: Array) -> Array:
    """Return the light on a surface: above 0 where it faces the top left, `height` in picture sides."""
    down, right = np.gradient(height)
    return ((down + right) * height.shape[0]).astype(np.float32)


def shadow(alpha: Array, reach: float) -> Array:
    """Return the soft shadow 0-1 of a shape (S, S), thrown `reach` to the bottom right."""
    side = alpha.shape[0]
    move = np.float32([[1, 0, reach * side * 0.6], [0, 1, reach * side]])
    return cv2.GaussianBlur(cv2.warpAffine(alpha, move, (side, side)), (0, 0), max(reach * side, 0.5))


def shrink(image: Array, side: int) -> Array:
    """Return the image averaged down to `side`."""
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def stroke(side: int, points: Array, width: float | Array) -> Array:
    """Return the coverage (side, side) of a line through points (P, 2), `width` one or P - 1 numbers."""
    canvas = np.zeros((side * FINER, side * FINER), np.uint8)
    pixels = np.round((np.asarray(points) + 0.5) * side * FINER).astype(np.int32)
    widths = np.broadcast_to(width, len(pixels) - 1) * side * FINER
    for start, end, thick in zip(pixels[:-1], pixels[1:], widths, strict=True):
        cv2.line(canvas, start.tolist(), end.tolist(), 255, max(round(float(thick)), 1))
    return shrink(canvas.astype(np.float32) / 255, side)
