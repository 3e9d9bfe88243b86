"""Further things of the demo sets, lying in rows: `(rng, side, ...) -> Scene`."""

import math

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    Colour,
    Scene,
    box,
    clouds,
    coordinates,
    cover,
    mix,
    noise,
    paint,
    shadow,
    turned,
)
from filo.synthetic.objects import mat

PIPS = ((0.0, 0.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0))  # of the five of a domino


def dominoes(rng: Generator, side: int, *, ground: Colour, bone: Colour, pip: Colour) -> Scene:
    """Draw two rows of three dominoes, all fives; each is a part."""
    bare = np.clip(mat(rng, side, ground), 0, 1)
    image, parts = bare, np.zeros((side, side), np.int32)
    frame = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.02, 0.02, 2)))
    for number in range(6):
        row, column = divmod(number, 3)
        middle = (column - 1) * 0.3 + rng.uniform(-0.01, 0.01), (row - 0.5) * 0.47
        x, y = turned(frame[0] - middle[0], frame[1] - middle[1], rng.normal(0, math.radians(2)))
        distance = box(x, y, 0.2, 0.4, 0.02)
        alpha = cover(distance)
        tone = 0.97 + 0.03 * clouds(rng, side, 4) - 0.25 * np.clip(1 + distance / 0.012, 0, 1)
        near = np.min([np.hypot(x - a * 0.055, np.abs(y) - 0.1 - b * 0.055) for a, b in PIPS], axis=0)
        marks = np.maximum(cover(near - 0.016), cover(box(x, y, 0.15, 0.006)))
        body = mix(paint(side, bone, tone), paint(side, pip, 1 + 0.1 * noise(rng, side, side // 3)), marks)
        image = mix(image * (1 - 0.5 * shadow(alpha, 0.012))[..., None], body, alpha)
        parts[alpha > 0.5] = number + 1
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    return Scene(image, parts > 0, parts, bare)


def pencils(rng: Generator, side: int, *, ground: Colour, paint_colour: Colour, wood: Colour) -> Scene:
    """Draw seven sharpened pencils side by side; each is a part."""
    bare = np.clip(mat(rng, side, ground), 0, 1)
    image, parts = bare, np.zeros((side, side), np.int32)
    frame = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.02, 0.02, 2)))
    for number in range(7):
        middle = (number - 3) * 0.125 + rng.uniform(-0.004, 0.004), rng.uniform(-0.015, 0.015)
        x, y = turned(frame[0] - middle[0], frame[1] - middle[1], rng.normal(0, math.radians(1)))
        half = 0.04 * np.clip((y + 0.42) / 0.12, 0, 1)  # the point is at the top
        alpha = cover(np.maximum(np.abs(x) - half, np.maximum(-y - 0.42, y - 0.42)))
        facet = 0.8 + 0.25 * (np.abs(x) < 0.018) - 0.25 * (x > 0.018) + 0.03 * clouds(rng, side, 3)
        shaft = paint(side, paint_colour, facet)
        shaft = mix(shaft, paint(side, (0.75, 0.72, 0.62), 0.8 + 0.5 * facet * 0.4), cover(0.36 - y))
        shaft = mix(shaft, paint(side, wood, 0.95 + 0.1 * noise(rng, side, side // 2)), cover(y + 0.3))
        shaft = mix(shaft, paint(side, paint_colour, 0.6), cover(y + 0.385))
        image = mix(image * (1 - 0.45 * shadow(alpha, 0.01))[..., None], shaft, alpha)
        parts[alpha > 0.5] = number + 1
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    return Scene(image, parts > 0, parts, bare)
