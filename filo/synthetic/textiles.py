"""Coarse surfaces whose pattern is large: quilting and wicker: `(rng, side, ...) -> Scene`."""

import math

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import Colour, Scene, clouds, coordinates, mix, noise, paint, relief
from filo.synthetic.materials import surface


def quilt(rng: Generator, side: int, *, cloth: Colour, thread: Colour, across: float) -> Scene:
    """Draw padded lozenges, `across` of them to the side, with stitched seams between them."""
    x, y = coordinates(side, math.pi / 4 + rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.2, 0.2, 2)))
    x, y = x + 0.006 * noise(rng, side, 5), y + 0.006 * noise(rng, side, 5)
    u, v = (each * across - np.floor(each * across) - 0.5 for each in (x, y))
    seam = 0.5 - np.maximum(np.abs(u), np.abs(v))  # distance to the nearest seam, in lozenges
    along = np.where(np.abs(u) > np.abs(v), v, u)
    padding = np.clip(np.cos(math.pi * u) * np.cos(math.pi * v), 0, 1) ** 0.45
    pucker = np.cos(along * 2 * math.pi * 6 + 1.5 * noise(rng, side, 8)) * np.exp(-seam / 0.10)
    height = 0.20 / across * padding + 0.004 * pucker
    tone = 0.92 + 0.17 * relief(height) - 0.30 * np.exp(-((seam / 0.05) ** 2))
    tone += 0.025 * noise(rng, side, side // 2) + 0.03 * clouds(rng, side, 3)
    dash = np.clip(1.5 - np.abs(seam) / across * side / 1.1, 0, 1) * (np.abs(along * 6 % 1 - 0.5) < 0.32)
    image = mix(paint(side, cloth, tone), paint(side, thread), 0.7 * dash)
    return surface(np.clip(image, 0, 1).astype(np.float32))


def wicker(rng: Generator, side: int, *, straw: Colour, stake: Colour, stakes: int, strands: int) -> Scene:
    """Draw a basket's wall: `strands` rows of straw woven before and behind `stakes` upright rods."""
    x, y = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.2, 0.2, 2)))
    v = y * strands + 50 + 0.10 * noise(rng, side, 5)
    row = np.floor(v).astype(int)
    u = x * stakes + 50 + 0.08 * noise(rng, side, 5)
    phase = (u + row) / 2 % 1 - 0.5  # 0 where the strand lies before a stake, 0.5 where it is behind one
    number = np.floor((u + row) / 2).astype(int)
    bulge = np.clip(np.cos(math.pi * phase * 1.12), 0, 1) ** 0.6
    within = (v - row - 0.5) / (0.30 + 0.24 * bulge)
    section = np.sqrt(np.clip(1 - within**2, 0, 1))
    tones = rng.normal(1, 0.06, 101)[row % 101] * rng.normal(1, 0.05, (101, 101))[row % 101, number % 101]
    fibres = 0.05 * noise(rng, side, side // 2, 12)
    light = (0.30 + 0.72 * bulge) * (0.50 + 0.50 * section) - 0.10 * within * section
    strand = paint(side, straw, tones * (light + fibres + 0.06))
    rod = np.sqrt(np.clip(1 - ((u - np.round(u - 0.5) - 0.5) / 0.36) ** 2, 0, 1))
    image = mix(paint(side, stake, 0.22 + 0.5 * rod), strand, np.clip((1 - np.abs(within)) * 5, 0, 1))
    tone = 1 + 0.03 * clouds(rng, side, 3) + 0.02 * noise(rng, side, side)
    return surface(np.clip(image * tone[..., None], 0, 1).astype(np.float32))
