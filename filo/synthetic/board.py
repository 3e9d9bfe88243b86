"""A populated circuit board: `(rng, side, ...) -> Scene`. The layout is data, the same for every picture."""

import math
from itertools import pairwise
from typing import NamedTuple

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
    shadow,
    turned,
)

WIDTH, HEIGHT = 0.84, 0.66  # of the board, in picture sides
GOLD, TIN, SILK = (0.80, 0.66, 0.34), (0.74, 0.75, 0.76), (0.88, 0.90, 0.86)


class Component(NamedTuple):
    kind: str
    x: float
    y: float
    width: float
    height: float


LAYOUT = (
    Component("chip", -0.06, 0.02, 0.20, 0.15),
    Component("chip", 0.25, -0.17, 0.12, 0.10),
    Component("can", -0.29, -0.19, 0.12, 0.12),
    Component("can", -0.29, -0.05, 0.09, 0.09),
    Component("header", 0.08, 0.265, 0.36, 0.055),
    *(Component("resistor", -0.12 + 0.075 * k, -0.22, 0.035, 0.06) for k in range(4)),
    *(Component("resistor", 0.19 + 0.07 * k, 0.03, 0.032, 0.058) for k in range(3)),
    *(Component("resistor", -0.33, 0.10 + 0.06 * k, 0.07, 0.036) for k in range(3)),
    Component("crystal", 0.26, 0.145, 0.13, 0.055),
)
TRACES = (
    ((-0.17, 0.0), (-0.22, 0.0), (-0.25, -0.05)),
    ((-0.17, 0.04), (-0.24, 0.04), (-0.29, 0.10)),
    ((-0.12, -0.07), (-0.12, -0.19)),
    ((-0.06, -0.07), (-0.045, -0.12), (-0.045, -0.19)),
    ((0.0, -0.07), (0.03, -0.12), (0.03, -0.19)),
    ((0.05, 0.0), (0.11, -0.06), (0.11, -0.19)),
    ((0.11, -0.25), (0.16, -0.29), (0.36, -0.29)),
    ((0.25, -0.11), (0.25, -0.03), (0.19, 0.0)),
    ((0.05, 0.05), (0.14, 0.05), (0.18, 0.06)),
    ((0.05, 0.08), (0.15, 0.12), (0.19, 0.145)),
    ((-0.04, 0.10), (-0.04, 0.24)),
    ((0.02, 0.10), (0.05, 0.15), (0.05, 0.24)),
    ((-0.12, 0.10), (-0.16, 0.16), (-0.16, 0.29), (-0.36, 0.29)),
    ((-0.30, 0.22), (-0.22, 0.22), (-0.1, 0.27)),
    ((0.33, 0.06), (0.38, 0.10), (0.38, 0.22), (0.26, 0.265)),
    ((-0.29, -0.26), (-0.22, -0.29), (0.02, -0.29)),
)


def trace_distance(x: Array, y: Array) -> Array:
    """Return the distance to the nearest copper trace."""
    lines = [pair for trace in TRACES for pair in pairwise(trace)]
    return np.min([bar(x, y, start, end) for start, end in lines], axis=0)


def bare_board(rng: Generator, x: Array, y: Array, ground: Array, mask: Colour) -> Array:
    """Draw the board before anything is soldered: traces, vias, pads, mounting holes, silk lines."""
    side = x.shape[0]
    edge = box(x, y, WIDTH, HEIGHT, 0.025)
    alpha = cover(edge)
    image = paint(side, mask, 1 + 0.04 * clouds(rng, side, 4) + 0.02 * noise(rng, side, side))
    image = image * (1 + 0.38 * cover(trace_distance(x, y) - 0.006))[..., None]
    ends = [point for trace in TRACES for point in (trace[0], trace[-1])]
    via = np.min([np.hypot(x - a, y - b) for a, b in ends], axis=0)
    image = mix(
        mix(image, paint(side, GOLD), cover(via - 0.012)), paint(side, mask, 0.35), cover(via - 0.005)
    )
    for part in LAYOUT:
        here_x, here_y = x - part.x, y - part.y
        outline = np.abs(box(here_x, here_y, part.width + 0.022, part.height + 0.022, 0.005)) - 0.0022
        image = mix(image, paint(side, SILK), 0.75 * cover(outline))
        pads = box(np.abs(here_x) - part.width * 0.36, here_y, part.width * 0.26, part.height * 0.6)
        image = mix(image, paint(side, GOLD), cover(pads))
    hole = np.hypot(np.abs(x) - WIDTH / 2 + 0.035, np.abs(y) - HEIGHT / 2 + 0.035)
    image = mix(image, paint(side, GOLD), cover(hole - 0.024))
    alpha = alpha * (1 - cover(hole - 0.014))
    return mix(ground * (1 - 0.45 * shadow(alpha, 0.014))[..., None], image, alpha)


def body(rng: Generator, part: Component, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the picture of one component, centred on the frame, and its coverage."""
    side, wide, high = x.shape[0], part.width, part.height
    grain = 1 + 0.05 * noise(rng, side, side // 2)
    block = cover(box(x, y, wide, high, 0.006))
    if part.kind == "chip":
        legs = (np.abs((x / 0.027 + 0.5) % 1 - 0.5) < 0.27) & (np.abs(x) < wide / 2 - 0.004)
        legs = legs * cover(np.abs(y) - high / 2 - 0.016)
        top = paint(side, (0.13, 0.13, 0.14), grain + 0.5 * cover(np.abs(box(x, y, wide, high)) - 0.003))
        print_rows = (np.abs(np.abs(y) - 0.016) < 0.006) & (np.abs(x) < wide * 0.3) & (np.sin(x * 260) > -0.3)
        top = (
            top
            + (0.4 * print_rows + 0.25 * cover(np.hypot(x + wide * 0.38, y + high * 0.32) - 0.008))[..., None]
        )
        return mix(paint(side, TIN), top, block), np.maximum(block, legs)
    if part.kind == "can":
        radius = np.hypot(x, y)
        fan = 0.92 + 0.12 * np.cos(2 * np.arctan2(y, x) - 1.5)
        top = mix(paint(side, TIN, fan), paint(side, (0.12, 0.12, 0.15)), cover(x + wide * 0.25))
        return top * (1 - 0.35 * cover(wide * 0.43 - radius))[..., None], cover(radius - wide / 2)
    if part.kind == "header":
        pin = np.maximum(np.abs((x / 0.045 + 0.5) % 1 - 0.5) * 0.045, np.abs(y)) - 0.009
        pin = np.where(np.abs(x) < wide / 2 - 0.012, pin, 1)
        return mix(paint(side, (0.16, 0.16, 0.17), grain), paint(side, GOLD, 1.1), cover(pin)), block
    if part.kind == "crystal":
        tone = 0.9 + 0.15 * np.sin(y * 70) - 0.3 * cover(-box(x, y, wide - 0.016, high - 0.016, 0.02))
        return paint(side, TIN, tone), cover(box(x, y, wide, high, high / 2))
    along, length = (x, wide) if wide > high else (y, high)
    ends = cover(length * 0.29 - np.abs(along))
    return mix(paint(side, (0.20, 0.17, 0.16), grain), paint(side, TIN), ends), block


def circuit_board(rng: Generator, side: int, *, ground: Colour, mask: Colour) -> Scene:
    """Draw a board with solder mask of the colour `mask`; each component is a part."""
    x, y = coordinates(side, rng.normal(0, math.radians(2.5)), tuple(rng.uniform(-0.025, 0.025, 2)))
    floor = paint(side, ground, 1 + 0.03 * clouds(rng, side, 3) + 0.03 * noise(rng, side, side))
    bare = bare_board(rng, x, y, floor, mask)
    image, parts = bare, np.zeros((side, side), np.int32)
    for number, part in enumerate(LAYOUT, start=1):
        jitter = rng.normal(0, 0.0025, 2)
        here = turned(x - part.x - jitter[0], y - part.y - jitter[1], rng.normal(0, math.radians(1)))
        top, alpha = body(rng, part, *here)
        alpha = np.asarray(alpha, np.float32)
        image = mix(image * (1 - 0.45 * shadow(alpha, 0.009))[..., None], top, alpha)
        parts[alpha > 0.5] = number
    is_board = box(x, y, WIDTH, HEIGHT, 0.025) < 0
    return Scene(np.clip(image, 0, 1), is_board, parts, np.clip(bare, 0, 1))
