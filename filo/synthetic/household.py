"""Things of every day, lying on a background: `(rng, side, ...) -> Scene`."""

import math
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    Array,
    Colour,
    Scene,
    bar,
    box,
    clouds,
    coordinates,
    cover,
    mix,
    noise,
    paint,
    relief,
    shadow,
    turned,
)
from filo.synthetic.objects import mat

FOUR = ((0.35, 1.0), (0.35, -1.0), (-0.75, 0.45), (0.8, 0.45))  # the figure, in strokes


def finished(image: Array, parts: Array, bare: Array) -> Scene:
    """Return the scene of numbered parts on a background."""
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    return Scene(image, parts > 0, parts, bare)


def heart(x: Array, y: Array, size: float) -> Array:
    """Return about the distance to a heart as wide as `size`, its tip down."""
    u, v = np.abs(x) / size, y / size
    lobe = np.hypot(u - 0.24, v + 0.18) - 0.26
    wedge = np.maximum(0.76 * u + 0.65 * v - 0.325, 0.35 * u - v - 0.164)  # its sides touch the lobes
    return np.minimum(lobe, wedge) * size


def playing_card(rng: Generator, side: int, *, ground: Colour, card: Colour, red: Colour) -> Scene:
    """Draw the four of hearts."""
    bare = mat(rng, side, ground)
    x, y = coordinates(side, rng.normal(0, math.radians(4)), tuple(rng.uniform(-0.03, 0.03, 2)))
    distance = box(x, y, 0.62, 0.88, 0.045)
    alpha = cover(distance)
    u, v = np.where(y > 0, -x, x), -np.abs(y)  # the lower half is the upper one turned round
    pips = heart(np.abs(x) - 0.12, v + 0.175, 0.18)
    pips = np.minimum(pips, heart(u + 0.262, v + 0.272, 0.07))
    strokes = [bar((u + 0.262) / 0.035, (v + 0.365) / 0.045, *ends) for ends in pairwise(FOUR)]
    figure = np.min(strokes, axis=0) * 0.04
    marks = np.maximum(cover(pips), cover(figure - 0.008))
    tone = 0.98 + 0.02 * clouds(rng, side, 3) - 0.10 * np.clip(1 + distance / 0.012, 0, 1)
    body = mix(paint(side, card, tone), paint(side, red, 1 + 0.03 * noise(rng, side, side // 2)), marks)
    image = mix(bare * (1 - 0.5 * shadow(alpha, 0.010))[..., None], body, alpha)
    return finished(image, (alpha > 0.5).astype(np.int32), bare)


def batteries(
    rng: Generator, side: int, *, ground: Colour, label: Colour, band: Colour, cap: Colour
) -> Scene:
    """Draw four round cells side by side, the positive pole at the top; each is a part."""
    bare = mat(rng, side, ground)
    image, parts = bare, np.zeros((side, side), np.int32)
    frame = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.02, 0.02, 2)))
    half = 0.092
    for number in range(4):
        middle = (number - 1.5) * 0.225 + rng.uniform(-0.008, 0.008), rng.uniform(-0.012, 0.012)
        x, y = turned(frame[0] - middle[0], frame[1] - middle[1], rng.normal(0, math.radians(1.2)))
        nub = box(x, y + 0.395, 0.07, 0.06, 0.008)
        distance = np.minimum(box(x, y - 0.02, 2 * half, 0.78, 0.018), nub)
        alpha = cover(distance)
        across = np.clip(x / half, -1, 1)
        gleam = np.exp(-(((across + 0.42) / 0.16) ** 2)) + 0.35 * np.exp(-(((across - 0.6) / 0.12) ** 2))
        tone = 0.42 + 0.55 * np.sqrt(1 - across**2) + 0.02 * clouds(rng, side, 4)
        body = mix(paint(side, label, tone), paint(side, band, tone), cover(y + 0.13))
        plus = np.minimum(box(x, y + 0.225, 0.075, 0.022), box(x, y + 0.225, 0.022, 0.075))
        body = mix(body, paint(side, label, tone), cover(plus))
        lines = np.minimum(np.abs(y + 0.13), np.abs(y - 0.30)) - 0.008
        body = mix(body, paint(side, cap, tone), cover(lines))
        ends = cover(np.minimum(y + 0.345, 0.39 - y))
        body = mix(body, paint(side, cap, tone + 0.05), ends) + 0.26 * gleam[..., None]
        image = mix(image * (1 - 0.5 * shadow(alpha, 0.014))[..., None], body, alpha)
        parts[alpha > 0.5] = number + 1
    return finished(image, parts, bare)


def plasters(rng: Generator, side: int, *, ground: Colour, strip: Colour, pad: Colour) -> Scene:
    """Draw three sticking plasters one below the other, with a pad and pricked ends; each is a part."""
    bare = mat(rng, side, ground)
    image, parts = bare, np.zeros((side, side), np.int32)
    frame = coordinates(side, rng.normal(0, math.radians(2)), tuple(rng.uniform(-0.02, 0.02, 2)))
    for number in range(3):
        middle = rng.uniform(-0.015, 0.015), (number - 1) * 0.31 + rng.uniform(-0.008, 0.008)
        x, y = turned(frame[0] - middle[0], frame[1] - middle[1], rng.normal(0, math.radians(2)))
        distance = box(x, y, 0.84, 0.235, 0.11)
        alpha = cover(distance)
        cushion = box(x, y, 0.25, 0.19, 0.02)
        height = 0.010 * np.clip(-cushion / 0.025, 0, 1) + 0.004 * np.clip(-distance / 0.01, 0, 1)
        u, v = np.abs(np.abs(x) - 0.235), np.abs(y)
        pricks = np.hypot((u + 0.03) % 0.06 - 0.03, (v + 0.03) % 0.06 - 0.03)
        pricks = np.where((u < 0.08) & (v < 0.08), pricks, 1)
        tone = 0.97 + 0.35 * relief(height) + 0.02 * clouds(rng, side, 4) + 0.02 * noise(rng, side, side // 2)
        tone = tone - 0.28 * cover(pricks - 0.010)
        body = mix(paint(side, strip, tone), paint(side, pad, tone), 0.9 * cover(cushion))
        image = mix(image * (1 - 0.45 * shadow(alpha, 0.008))[..., None], body, alpha)
        parts[alpha > 0.5] = number + 1
    return finished(image, parts, bare)
