"""What does one picture of a demo set look like? Draw the object, spoil it, photograph it."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import Array, coordinates
from filo.synthetic.classes import ClassSpec
from filo.synthetic.defects import DEFECTS
from filo.synthetic.styles import STYLES

GOOD = "good"


@dataclass(frozen=True)
class Picture:
    """A finished picture and the same picture without its defect.

    image, twin: (S, S, 3) uint8 RGB, equal outside the mask, sensor noise included; mask: (S, S) bool.
    """

    image: Array
    mask: Array
    twin: Array


def generator(*key: object) -> Generator:
    """Return random numbers that depend on the key alone, so one picture never changes another."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, "<u4"))


def draw_picture(
    dataset: str, spec: ClassSpec, split: str, kind: str, index: int, *, seed: int = 0, side: int = 160
) -> Picture:
    """Draw picture `index` of a class; `kind` is "good" or one of the defects."""
    rng = generator(seed, dataset, spec.name, split, kind, index)
    scene = spec.draw(rng, side, **spec.look)
    image, mask = scene.image, np.zeros((side, side), bool)
    if kind != GOOD:
        image, mask = DEFECTS[kind](rng, scene, STYLES[dataset])
    light, grain = lighting(rng, side), rng.standard_normal((side, side, 3))
    return Picture(photograph(image, light, grain), mask, photograph(scene.image, light, grain))


def lighting(rng: Generator, side: int) -> Array:
    """Return the light (side, side, 3) of one shot: exposure, white balance, a slope, dim corners."""
    x, y = coordinates(side, rng.uniform(0, 2 * math.pi))
    slope = 1 + rng.uniform(0, 0.22) * x - rng.uniform(0.05, 0.3) * (x * x + y * y)
    colour = rng.normal(1, 0.05) * rng.normal(1, 0.012, 3)
    return (slope[..., None] * colour).astype(np.float32)


def photograph(image: Array, light: Array, grain: Array) -> Array:
    """Return the image as uint8 under `light`, with sensor noise that grows with the brightness.

    Every pixel is treated by itself: a defect must not leak out of its mask.
    """
    lit = np.clip(image * light, 0, 1)
    noisy = lit + grain * (0.005 + 0.012 * np.sqrt(lit))
    return np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
