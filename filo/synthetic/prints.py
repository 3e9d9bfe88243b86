"""What flawless things and surfaces bear: marks in a regular pattern, and fittings of clean outlines.

They teach that what stands out is no defect as long as it repeats, or has a shape that somebody gave it.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    Array,
    Colour,
    Scene,
    bar,
    box,
    coordinates,
    cover,
    mix,
    paint,
    shadow,
    turned,
)


def dots(x: Array, y: Array, radius: float) -> Array:
    """Return the signed distance to a dot."""
    return np.hypot(x, y) - radius


def rings(x: Array, y: Array, radius: float) -> Array:
    """Return the signed distance to a thin ring."""
    return np.abs(np.hypot(x, y) - radius) - 0.25 * radius


def dashes(x: Array, y: Array, radius: float) -> Array:
    """Return the signed distance to a short bar."""
    return box(x, y, 2.4 * radius, 0.8 * radius)


def crosses(x: Array, y: Array, radius: float) -> Array:
    """Return the signed distance to a cross."""
    return np.minimum(box(x, y, 2.2 * radius, 0.6 * radius), box(x, y, 0.6 * radius, 2.2 * radius))


def stripes(x: Array, y: Array, radius: float) -> Array:
    """Return the signed distance to an endless stripe."""
    return np.abs(y) - 0.5 * radius


MARKS: tuple[Callable[[Array, Array, float], Array], ...] = (dots, rings, dashes, crosses, stripes)


def decorate(rng: Generator, scene: Scene, colour: Colour) -> Scene:
    """Print marks on a scene, in rows or round its middle: on its body and on no background."""
    side, mark = len(scene.image), MARKS[rng.integers(len(MARKS))]
    radius = rng.uniform(0.010, 0.032)
    pitch = radius * rng.uniform(3, 7)
    middle = np.argwhere(scene.body).mean(axis=0) / side - 0.5
    x, y = coordinates(side, rng.uniform(0, math.pi), (float(middle[1]), float(middle[0])))
    if rng.uniform() < 0.7:
        row = np.round(y / pitch)
        x = x + 0.5 * pitch * (row % 2) * (rng.uniform() < 0.5)  # every other row set off, or not
        here = x - pitch * np.round(x / pitch), y - pitch * row
    else:
        ring = np.maximum(np.round(np.hypot(x, y) / pitch), 1)
        along = 2 * math.pi / np.maximum(np.round(2 * math.pi * ring), 1)
        theta = np.arctan2(y, x)
        here = (theta - along * np.round(theta / along)) * ring * pitch, np.hypot(x, y) - ring * pitch
    alpha = cover(mark(*here, radius).astype(np.float32)) * scene.body
    image = mix(scene.image, paint(side, colour), alpha * rng.uniform(0.5, 1.0))
    return scene._replace(image=image, bare=scene.bare if scene.has_background else image)


def fit(rng: Generator, scene: Scene, colours: list[Colour]) -> Scene:
    """Set a few rectangles, discs, rings, wedges and pins on a scene's body, each in one of the colours."""
    side, image = len(scene.image), scene.image
    x, y = coordinates(side)
    places = np.argwhere(scene.body)
    across = rng.uniform(0, math.pi)  # most are in line
    for _ in range(rng.integers(1, 13)):
        row, column = (places[rng.integers(len(places))] + 0.5) / side - 0.5
        lean = across + rng.integers(4) * math.pi / 2 if rng.uniform() < 0.8 else rng.uniform(0, 2 * math.pi)
        u, v = turned(x - np.float32(column), y - np.float32(row), lean)
        size, kind = rng.uniform(0.015, 0.07), rng.integers(5)
        if kind == 0:
            distance = box(u, v, 2 * size, 2 * size * rng.uniform(0.3, 1.0), 0.005)
        elif kind == 1:
            distance = np.hypot(u, v) - size
        elif kind == 2:
            distance = np.abs(np.hypot(u, v) - size) - 0.3 * size
        elif kind == 3:
            distance = np.maximum(np.abs(v) - 0.6 * (u + size), u - size) * 0.8
        else:
            distance = bar(u, v, (0, 0), (2 * size, 0)) - rng.uniform(0.006, 0.010)
        alpha = cover(distance.astype(np.float32)) * scene.body
        tone = 1 + rng.uniform(-0.2, 0.2) * (1 - alpha) + 0.15 * np.clip(-40 * distance, 0, 1)
        cast = (1 - 0.4 * shadow(alpha, 0.008) * scene.body)[..., None]
        image = mix(image * cast, paint(side, colours[rng.integers(len(colours))], tone), alpha)
    image = np.clip(image, 0, 1).astype(np.float32)
    return scene._replace(image=image, bare=scene.bare if scene.has_background else image)
