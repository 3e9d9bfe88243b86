"""Surfaces of the pretraining pictures, none of them in a demo set: `(rng, side, ...) -> Scene`."""

import math

import cv2
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
)


def whole(image: Array) -> Scene:
    """Return the scene of a surface that fills the picture: one part that cannot be taken away."""
    image = np.clip(image, 0, 1).astype(np.float32)
    every = np.ones(image.shape[:2], np.int32)
    return Scene(image, every > 0, every, image)


def stone(rng: Generator, side: int, *, colour: Colour, fleck: Colour, grain: float) -> Scene:
    """Draw polished stone: clouds of `colour` with flecks of another, `grain` of them to the side."""
    cells = max(round(grain), 2)
    flecks = np.clip(noise(rng, side, cells) - 0.6, 0, 1) + np.clip(noise(rng, side, 2 * cells) - 1.1, 0, 1)
    image = paint(side, colour, 1 + 0.08 * clouds(rng, side, 3) + 0.05 * noise(rng, side, side // 2))
    return whole(mix(image, paint(side, fleck), np.clip(0.8 * flecks, 0, 0.8)))


def metal(rng: Generator, side: int, *, colour: Colour, lines: float, gloss: float) -> Scene:
    """Draw a brushed sheet: fine parallel lines, `lines` of them to the side, and a broad gleam across."""
    x, y = coordinates(side, rng.uniform(0, math.pi))
    brushed = np.interp(y, np.linspace(-0.75, 0.75, round(1.5 * lines)), rng.normal(0, 1, round(1.5 * lines)))
    gleam = np.exp(-(((x - rng.uniform(-0.4, 0.4)) / 0.3) ** 2))
    tone = 0.85 + 0.05 * brushed + gloss * gleam + 0.02 * noise(rng, side, side)
    return whole(paint(side, colour, tone))


def leather(rng: Generator, side: int, *, colour: Colour, cells: float, depth: float) -> Scene:
    """Draw a hide of `cells` x `cells` rounded pebbles with darker creases between them."""
    count = round(cells)
    u, v = np.meshgrid(np.arange(-1, count + 1), np.arange(-1, count + 1))
    points = (np.stack([u, v], axis=-1).reshape(-1, 2) + rng.uniform(0, 1, ((count + 2) ** 2, 2))) / count
    seeds = np.ones((side, side), np.uint8)
    inside = np.clip(points * side, 0, side - 1).astype(int)
    seeds[inside[:, 1], inside[:, 0]] = 0
    far = cv2.distanceTransform(seeds, cv2.DIST_L2, 5) * count / side  # of the nearest pebble, in pebbles
    tone = 1.05 - depth * np.clip(far, 0, 1) ** 2 + 0.10 * relief(0.3 / count * (1 - far))
    return whole(paint(side, colour, tone + 0.04 * clouds(rng, side, 3)))


def grid(rng: Generator, side: int, *, colour: Colour, gap: Colour, pitch: float, wire: float) -> Scene:
    """Draw a mesh, `pitch` holes to the side, its wires as thick as the share `wire` of that."""
    x, y = coordinates(side, rng.choice((0, math.pi / 4)) + rng.normal(0, 0.04), tuple(rng.uniform(-1, 1, 2)))
    u, v = np.abs((x * pitch) % 1 - 0.5), np.abs((y * pitch) % 1 - 0.5)
    hole = (np.maximum(u, v) - (1 - wire) / 2) / pitch
    round_wire = np.clip(1 - np.abs(np.maximum(u, v) - 0.5) * 2 / wire, 0, 1)
    image = paint(side, colour, 0.6 + 0.45 * round_wire + 0.04 * noise(rng, side, side // 2))
    dark = paint(side, gap, 1 + 0.1 * clouds(rng, side, 3))
    return whole(mix(image, dark, cover(hole)))


def ribs(rng: Generator, side: int, *, colour: Colour, count: float, depth: float) -> Scene:
    """Draw `count` parallel soft ribs, as of corduroy."""
    _, y = coordinates(side, rng.uniform(0, math.pi))
    wave = 0.5 + 0.5 * np.cos(2 * math.pi * (count * y + 0.08 * noise(rng, side, 4)))
    pile = 0.05 * noise(rng, side, side) + 0.04 * noise(rng, side, side // 3)
    return whole(paint(side, colour, 1 - depth * (1 - wave) + pile + 0.04 * clouds(rng, side, 3)))


def felt(rng: Generator, side: int, *, colour: Colour, roughness: float) -> Scene:
    """Draw short tangled fibres without any direction."""
    fibres = noise(rng, side, side) + 0.8 * noise(rng, side, side // 2) + 0.6 * noise(rng, side, side // 4)
    return whole(paint(side, colour, 0.95 + roughness * fibres + 0.05 * clouds(rng, side, 3)))


def lacquer(rng: Generator, side: int, *, colour: Colour, gloss: float) -> Scene:
    """Draw an evenly painted sheet with a soft reflection."""
    x, y = coordinates(side, rng.uniform(0, math.pi), tuple(rng.uniform(-0.4, 0.4, 2)))
    shine = gloss * np.exp(-((y / 0.12) ** 2)) * np.exp(-((x / 0.8) ** 2))
    tone = 0.95 + 0.03 * clouds(rng, side, 2) + 0.015 * noise(rng, side, side // 2)
    return whole(paint(side, colour, tone) + shine[..., None])


def chequers(rng: Generator, side: int, *, colour: Colour, other: Colour, across: float) -> Scene:
    """Draw printed squares of two colours, `across` of them to the side."""
    x, y = coordinates(side, rng.uniform(0, math.pi), tuple(rng.uniform(-0.3, 0.3, 2)))
    field = np.sin(math.pi * across * x) * np.sin(math.pi * across * y)
    share = np.clip(0.5 + field * side / (2 * across), 0, 1)
    tone = (1 + 0.03 * clouds(rng, side, 3) + 0.02 * noise(rng, side, side))[..., None]
    return whole(mix(paint(side, colour), paint(side, other), share) * tone)


def bricks(rng: Generator, side: int, *, colour: Colour, joint: Colour, rows: float) -> Scene:
    """Draw courses of rough blocks, `rows` of them, each shifted by half a block."""
    x, y = coordinates(side, rng.normal(0, 0.03), tuple(rng.uniform(-0.5, 0.5, 2)))
    v = y * rows + 50
    row = np.floor(v).astype(int)
    u = x * rows / 2 + 50 + 0.5 * (row % 2)
    column = np.floor(u).astype(int)
    inside = box((u - column - 0.5) * 2, v - row - 0.5, 1.86, 0.86, 0.06) / rows
    tones = rng.normal(1, 0.10, (101, 101))[row % 101, column % 101]
    rough = tones * (1 + 0.06 * noise(rng, side, side // 2) + 0.06 * clouds(rng, side, 5))
    mortar = paint(side, joint, 1 + 0.05 * noise(rng, side, side // 2))
    return whole(mix(mortar, paint(side, colour, rough), cover(inside)))
