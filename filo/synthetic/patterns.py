"""Further surfaces of the demo sets: `(rng, side, ...) -> Scene`."""

import math

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import Colour, Scene, clouds, coordinates, cover, mix, noise, paint, shrink
from filo.synthetic.materials import FINE, surface


def knitted(rng: Generator, side: int, *, yarn: Colour, band: Colour, stitches: int, every: int) -> Scene:
    """Draw stocking stitch: columns of V-shaped loops; two rows in `every` have the colour `band`."""
    fine = side * FINE
    x, y = coordinates(fine, angle=rng.normal(0, math.radians(2)))
    u = x * stitches + rng.uniform(100, 101) + 0.10 * noise(rng, fine, 4)
    within = u - np.floor(u)
    slant = 0.55 * np.abs(within - 0.5)
    v = y * stitches * 1.25 + slant * 2 + rng.uniform(100, 100 + every) + 0.10 * noise(rng, fine, 4)
    row, loop = np.floor(v).astype(int), v - np.floor(v)
    height = np.sin(np.pi * loop) ** 0.6 * np.sin(np.pi * (2 * within % 1)) ** 0.5
    fuzz = 0.06 * noise(rng, fine, fine // 2) + 0.03 * clouds(rng, fine, 3)
    colours = np.where((row % every < 2)[..., None], np.float32(band), np.float32(yarn))
    image = colours * (0.4 + 0.6 * height + fuzz)[..., None]
    return surface(shrink(np.clip(image, 0, 1).astype(np.float32), side))


def wallpaper(
    rng: Generator, side: int, *, paper: Colour, print_colour: Colour, across: int, petals: int
) -> Scene:
    """Draw printed flowers of `petals` petals, `across` of them to the side, every other row shifted."""
    fine = side * FINE
    x, y = coordinates(fine, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.5, 0.5, 2)))
    v = y * across + 50
    row = np.floor(v)
    u = x * across + 50 + 0.5 * (row % 2)
    here_x, here_y = u - np.floor(u) - 0.5, v - row - 0.5
    radius, theta = np.hypot(here_x, here_y), np.arctan2(here_y, here_x)
    flower = (radius - 0.22 - 0.11 * np.cos(petals * theta)) / across
    heart = (radius - 0.09) / across
    tone = 1 + 0.025 * clouds(rng, fine, 3) + 0.03 * noise(rng, fine, fine // 2)
    image = mix(paint(fine, paper, tone), paint(fine, print_colour, tone), 0.85 * cover(flower))
    image = mix(image, paint(fine, paper, tone), cover(heart))
    return surface(shrink(np.clip(image, 0, 1), side))
