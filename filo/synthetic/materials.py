"""Surfaces that fill the whole picture: `(rng, side, ...) -> Scene`."""

import math

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    Array,
    Colour,
    Scene,
    box,
    clouds,
    coordinates,
    cover,
    mix,
    noise,
    paint,
    relief,
    shadow,
    shrink,
)

FINE = 2  # threads and fibres are about as thin as a pixel, so they are drawn larger and averaged


def surface(image: Array) -> Scene:
    """Return the scene of a material without background: one part that cannot be taken away."""
    whole = np.ones(image.shape[:2], np.int32)
    return Scene(image, whole > 0, whole, image)


def woven(
    rng: Generator, side: int, *, warp: Colour, weft: Colour, stripe: Colour, threads: int, every: int
) -> Scene:
    """Draw a plain weave of `threads` threads each way; two in `every` have the colour `stripe`."""
    fine = side * FINE
    x, y = coordinates(fine, angle=rng.normal(0, math.radians(2)))
    u = x * threads + rng.uniform(100, 100 + every) + 0.12 * noise(rng, fine, 4)
    v = y * threads + rng.uniform(100, 100 + every) + 0.12 * noise(rng, fine, 4)
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    round_u, round_v = np.sin(np.pi * (u - column)), np.sin(np.pi * (v - row))
    is_warp = (column + row) % 2 == 0
    height = np.where(is_warp, round_u**0.7 * (0.5 + 0.5 * round_v), round_v**0.7 * (0.5 + 0.5 * round_u))
    number = np.where(is_warp, column, row)
    tones = rng.normal(1, 0.05, (2, 4 * threads + 200))
    tone = np.where(is_warp, tones[0][column], tones[1][row]) * (0.42 + 0.6 * height)
    tone *= 1 + 0.05 * noise(rng, fine, fine // 2) + 0.03 * clouds(rng, fine, 3)
    colours = np.where(is_warp[..., None], np.float32(warp), np.float32(weft))
    colours = np.where((number % every < 2)[..., None], np.float32(stripe), colours)
    return surface(shrink(np.clip(colours * tone[..., None], 0, 1).astype(np.float32), side))


def wood(rng: Generator, side: int, *, light: Colour, dark: Colour, rings: float) -> Scene:
    """Draw a planed board with the arches of about `rings` growth rings, the grain along x."""
    fine = side * FINE
    x, y = coordinates(fine, angle=rng.normal(0, math.radians(3)))
    middle, far = rng.uniform(-0.25, 0.25), rng.uniform(0.9, 1.6) * rng.choice((-1, 1))
    radius = (
        np.hypot(y - middle, 0.22 * (x - far)) + 0.012 * noise(rng, fine, 5, 2) + 0.05 * noise(rng, fine, 2)
    )
    ring = (radius * rings + rng.uniform()) % 1
    late = ring**2 * np.clip((1 - ring) / 0.12, 0, 1)  # dark late wood ends sharply, early wood begins pale
    fibre = noise(rng, fine, fine // 3, 10) * 0.5 + noise(rng, fine, fine // 6, 5) * 0.5
    image = mix(paint(fine, light), paint(fine, dark), np.clip(0.75 * late + 0.13 * fibre + 0.1, 0, 1))
    pores = np.clip(noise(rng, fine, fine // 2, fine // 14) - 1.6, 0, 1)
    tone = 1 - 0.35 * pores + 0.04 * clouds(rng, fine, 3)
    return surface(shrink(np.clip(image * tone[..., None], 0, 1), side))


def tiles(rng: Generator, side: int, *, glaze: Colour, grout: Colour, across: int) -> Scene:
    """Draw a wall of glazed square tiles, `across` to the side; each tile is a part, grout lies beneath."""
    angle, shift = rng.normal(0, math.radians(1.2)), rng.uniform(-0.03, 0.03, 2)
    x, y = coordinates(side, angle, tuple(shift))
    u, v = x * across + across / 2 + 50, y * across + across / 2 + 50
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    distance = box(u - column - 0.5, v - row - 0.5, 0.93, 0.93, 0.08) / across
    alpha = cover(distance)
    bare = paint(side, grout, 0.9 + 0.05 * noise(rng, side, side // 2) + 0.03 * clouds(rng, side, 5))
    bare = bare * (1 - 0.35 * shadow(alpha, 0.008) * (1 - alpha))[..., None]
    tones = rng.normal(1, 0.045, (across + 4, across + 4))[row - row.min(), column - column.min()]
    tone = tones * (1 + 0.05 * clouds(rng, side, 4)) - 0.05 * np.clip(1 + distance * across / 0.12, 0, 1)
    rim = relief(np.clip(-distance, 0, 0.016)) * 0.16 * np.clip(1 + distance / 0.02, 0, 1)
    gleam = np.exp(-(((u - column - 0.5) + (v - row - 0.5) + 0.42 + 0.04 * noise(rng, side, 6)) ** 2) / 0.012)
    body = paint(side, glaze, tone) + (rim + 0.16 * gleam)[..., None]
    image = np.clip(mix(bare, body, alpha), 0, 1)
    parts = np.where(alpha > 0.5, (row - row.min()) * (across + 4) + column - column.min() + 1, 0)
    return Scene(image, alpha > 0.5, parts.astype(np.int32), np.clip(bare, 0, 1))
