"""A zip fastener, open above its slider: `(rng, side, ...) -> Scene`."""

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
    shadow,
)
from filo.synthetic.objects import mat

PITCH = 0.155  # from tooth to tooth of one side


def tape(rng: Generator, x: Array, y: Array, colour: Colour) -> Array:
    """Draw the cloth of one side, ribbed across, with a seam along it; x counts from its inner edge."""
    side = x.shape[0]
    tone = 0.92 + 0.05 * np.cos(2 * math.pi * y / 0.06 + 0.3 * noise(rng, side, 6))
    tone = tone - 0.22 * np.exp(-(((x - 0.20) / 0.008) ** 2)) + 0.04 * noise(rng, side, side // 2)
    return paint(side, colour, tone + 0.03 * clouds(rng, side, 4))


def slider(side: int, x: Array, y: Array, brass: Colour) -> tuple[Array, Array]:
    """Return the picture of the slider with its hanging tab, and its coverage."""
    width = 0.25 - 0.3 * np.clip(y, -0.1, 0.1)
    block = np.maximum(np.abs(x) - width / 2, np.abs(y) - 0.10)
    tab = np.maximum(box(x, y - 0.22, 0.13, 0.28, 0.05), 0.028 - np.hypot(x, y - 0.305))
    pull = cover(tab)
    tone = 0.95 - 0.35 * np.clip(1 + block / 0.02, 0, 1) - 0.2 * x / 0.1 - 0.2 * y / 0.1
    body = paint(side, brass, tone)
    body = body * (1 - 0.45 * shadow(pull, 0.012))[..., None]
    lit = 1.12 - 0.45 * np.clip(1 + tab / 0.018, 0, 1) - 0.12 * x / 0.06
    return mix(body, paint(side, brass, lit), pull), np.maximum(cover(block), pull)


def zip_fastener(rng: Generator, side: int, *, ground: Colour, cloth: Colour, brass: Colour) -> Scene:
    """Draw both tapes, the teeth and the slider; each tooth and the slider is a part."""
    bare = mat(rng, side, ground)
    x, y = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.025, 0.025, 2)))
    top = rng.uniform(-0.25, -0.15)
    gap = 0.42 * np.clip(top - y, 0, 1) ** 1.15
    sides = [(sign, sign * x - gap) for sign in (-1, 1)]
    for _, inward in sides:
        alpha = cover(np.maximum(0.012 - inward, inward - 0.34))
        bare = mix(bare * (1 - 0.4 * shadow(alpha, 0.012))[..., None], tape(rng, inward, y, cloth), alpha)
    image, parts = bare, np.zeros((side, side), np.int32)
    shift = rng.uniform(0, PITCH)
    for sign, inward in sides:
        down = y + shift + 0.25 * PITCH * sign
        here = down - PITCH * np.round(down / PITCH)
        tooth = box(inward - 0.026, here, 0.135, 0.064, 0.016)
        alpha = cover(tooth)
        tone = 0.98 - 0.40 * np.clip(1 + tooth / 0.014, 0, 1) - 3 * here + 0.03 * noise(rng, side, side // 2)
        image = mix(image * (1 - 0.5 * shadow(alpha, 0.008))[..., None], paint(side, brass, tone), alpha)
        count = np.round(down / PITCH).astype(np.int32) + 20
        parts = np.where(alpha > 0.5, count * 2 + (sign > 0), parts)
    body, alpha = slider(side, x, y - top, brass)
    image = mix(image * (1 - 0.5 * shadow(alpha, 0.014))[..., None], body, alpha)
    covered = np.setdiff1d(parts[alpha > 0.5], 0)  # what peeps out from under the slider belongs to it
    parts = np.where((alpha > 0.5) | np.isin(parts, covered), 1, parts).astype(np.int32)
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    is_cloth = np.minimum(*(np.abs(inward - 0.17) for _, inward in sides)) < 0.16
    return Scene(image, is_cloth & (alpha < 0.5), parts, bare)  # nothing frays on the metal of the slider
