"""Things to eat, lying on a background: `(rng, side, ...) -> Scene`."""

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
)
from filo.synthetic.objects import mat


def laid(image: Array, alpha: Array, bare: Array) -> Scene:
    """Return the scene of one thing, all of it a single part."""
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    return Scene(image, alpha > 0.5, (alpha > 0.5).astype(np.int32), bare)


def ring_dough(radius: Array, edge: Array | float, hole: Array | float) -> Array:
    """Return the height, 0-1, of a ring with a round section between `hole` and `edge`."""
    across = (2 * radius - edge - hole) / (edge - hole)
    return np.sqrt(np.clip(1 - across**2, 0, 1))


def doughnut(
    rng: Generator, side: int, *, ground: Colour, dough: Colour, icing: Colour, drizzle: Colour
) -> Scene:
    """Draw a ring of dough with coloured icing that ran down unevenly, and stripes of another across it."""
    bare = mat(rng, side, ground)
    x, y = coordinates(side, rng.normal(0, math.radians(6)), tuple(rng.uniform(-0.03, 0.03, 2)))
    size, (a, b, c) = rng.normal(1, 0.015), rng.uniform(0, 2 * math.pi, 3)
    radius, theta = np.hypot(x, y) / size, np.arctan2(y, x)
    edge, hole = 0.415 + 0.006 * np.cos(3 * theta + a), 0.105 + 0.006 * np.cos(2 * theta + b)
    alpha = cover(np.maximum(radius - edge, hole - radius))
    height = ring_dough(radius, edge, hole)
    crumb = 0.045 * noise(rng, side, side // 2) + 0.05 * clouds(rng, side, 6)
    body = paint(side, dough, 0.62 + 0.38 * height + crumb + 0.12 * relief(0.10 * height))
    runs = 0.012 * np.cos(9 * theta + c) + 0.010 * np.cos(5 * theta + a) + 0.004 * noise(rng, side, 10)
    coat = np.maximum(radius - 0.352 - runs, 0.158 - 0.5 * runs - radius)
    iced = cover(coat)
    body = body * (1 - 0.35 * shadow(iced, 0.010))[..., None]
    top = np.sqrt(np.clip(-coat / 0.05, 0, 1)) * 0.02 + 0.09 * height
    light = 0.94 + 0.24 * relief(top) + 0.015 * clouds(rng, side, 4)
    sugar = paint(side, icing, light)
    wave = np.abs((x + 0.012 * np.sin(9 * y + b) + 0.008 * noise(rng, side, 4)) / 0.125 % 1 - 0.5) * 0.125
    sugar = mix(sugar, paint(side, drizzle, 0.35 + 0.65 * light), cover(wave - 0.016))
    gleam = np.exp(-(((radius - 0.27) / 0.028) ** 2)) * np.clip(np.cos(theta + 2.3), 0, 1) ** 6
    body = mix(body, sugar + 0.30 * gleam[..., None], iced)
    image = mix(bare * (1 - 0.55 * shadow(alpha, 0.022))[..., None], body, alpha)
    return laid(image, alpha, bare)


def foil(rng: Generator, side: int, colour: Colour) -> Array:
    """Draw crumpled foil: broad facets that catch more light or less."""
    crumple = np.abs(noise(rng, side, 7)) + 0.6 * np.abs(noise(rng, side, 13))
    return paint(side, colour, 0.96 + 0.10 * np.clip(relief(0.04 * crumple), -1.5, 1.5))


def chocolate(rng: Generator, side: int, *, ground: Colour, wrap: Colour, cocoa: Colour) -> Scene:
    """Draw a tablet of four by five bevelled squares on its foil."""
    x, y = coordinates(side, rng.normal(0, math.radians(3)), tuple(rng.uniform(-0.02, 0.02, 2)))
    sheet = cover(box(x, y, 0.86, 0.96) + 0.006 * noise(rng, side, 9))
    bare = mat(rng, side, ground) * (1 - 0.35 * shadow(sheet, 0.010))[..., None]
    bare = mix(bare, foil(rng, side, wrap), sheet)
    pitch = 0.17
    alpha = cover(box(x, y, 4 * pitch + 0.02, 5 * pitch + 0.02, 0.015))
    u, v = x / pitch - np.round(x / pitch - 0.5) - 0.5, y / pitch - np.round(y / pitch)
    outside = (np.abs(x) > 2 * pitch) | (np.abs(y) > 2.5 * pitch)
    rise = np.clip(-box(u, v, 0.97, 0.97, 0.10), 0, 0.17) * pitch
    plaque = cover((np.abs(box(u, v, 0.42, 0.42, 0.12)) - 0.035) * pitch)
    height = np.where(outside, 0, rise) + 0.0035 * plaque
    tone = 1 + 0.34 * relief(height) - 0.30 * (rise < 0.02 * pitch)
    tone = tone * (1 + 0.035 * clouds(rng, side, 4) + 0.02 * noise(rng, side, side // 2))
    sheen = 0.05 * np.exp(-(((x + y - rng.uniform(-0.3, 0.3)) / 0.2) ** 2))
    body = paint(side, cocoa, tone) + sheen[..., None]
    image = mix(bare * (1 - 0.55 * shadow(alpha, 0.014))[..., None], body, alpha)
    return laid(image, alpha, bare)
