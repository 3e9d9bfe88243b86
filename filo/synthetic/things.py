"""Things of the pretraining pictures, none of them in a demo set: `(rng, side, ...) -> Scene`."""

import math
from collections.abc import Callable

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
    turned,
    turned_by,
)

INLAID = 0.5  # share of pictures whose things have two colours each
Outline = Callable[[Array, Array, float, int], Array]


def ground_of(rng: Generator, side: int, colour: Colour) -> Array:
    """Draw what things lie on: an even surface, sometimes with broad stripes."""
    x, _ = coordinates(side, rng.uniform(0, math.pi))
    stripes = 0.08 * np.sin(x * rng.uniform(15, 50)) * (rng.uniform() < 0.25)
    return paint(side, colour, 1 + stripes + 0.04 * clouds(rng, side, 3) + 0.03 * noise(rng, side, side))


def disc(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a disc of diameter `size`."""
    return np.hypot(x, y) - size / 2


def ring(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a ring; the more points, the wider its opening."""
    radius = np.hypot(x, y)
    return np.maximum(radius - size / 2, size * (0.12 + 0.02 * points) - radius)


def plate(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a rectangle; the more points, the longer it is."""
    return box(x, y, size, size * 3 / (2 + points), 0.04)


def badge(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to a polygon of three, four, five, seven or eight corners."""
    corners = (3, 4, 5, 7, 8)[points % 5]
    theta = np.arctan2(y, x) % (2 * math.pi / corners) - math.pi / corners
    return np.hypot(x, y) * np.cos(theta) - size / 2 * math.cos(math.pi / corners)


def gear(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to a wheel with 8 to 16 teeth and a hole."""
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    rim = size / 2 * (0.92 + 0.08 * np.tanh(3 * np.cos((6 + 2 * points) * theta)))
    return np.maximum(radius - rim, size * 0.12 - radius)


def bean(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to an egg-shaped outline, the narrower the more points."""
    return np.hypot(x * (1 + 0.25 * np.tanh(y * 4)) * (1 + 0.12 * points), y) - size / 2


def star(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to a star or blossom of five to nine points."""
    reach = 0.75 + 0.25 * np.cos((4 + points) * np.arctan2(y, x))
    return (np.hypot(x, y) - size / 2 * reach) * 0.8


def spike(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to a rod with a point at one end, the thicker the more points."""
    half, tip = size * (0.06 + 0.025 * points), size * 0.22
    return np.maximum(np.abs(y) - half * np.clip((size / 2 - x) / tip, 0, 1), np.abs(x) - size / 2)


def cross(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a cross, the broader the more points."""
    width = size * (0.18 + 0.05 * points)
    return np.minimum(box(x, y, size, width, 0.01), box(x, y, width, size, 0.01))


def frame(x: Array, y: Array, size: float, points: int) -> Array:
    """Return about the distance to a polygon with an opening, the wider the more points."""
    return np.maximum(badge(x, y, size, points + 1), size * (0.1 + 0.03 * points) - np.hypot(x, y))


def rod(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a long bar with round ends."""
    width = size * (0.12 + 0.05 * points)
    return box(x, y, size, width, width / 2)


def crescent(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to a disc from which another is taken, the less the more points."""
    bite = size * 0.36 - np.hypot(x - size * (0.22 + 0.04 * points), y)
    return np.maximum(np.hypot(x, y) - size / 2, bite)


def tee(x: Array, y: Array, size: float, points: int) -> Array:
    """Return the signed distance to the letter T."""
    width = size * (0.16 + 0.04 * points)
    return np.minimum(box(x, y + (size - width) / 2, size, width, 0.01), box(x, y, width, size, 0.01))


OUTLINES: dict[str, Outline] = {
    "disc": disc, "ring": ring, "plate": plate, "badge": badge, "gear": gear, "bean": bean, "star": star,
    "spike": spike, "cross": cross, "frame": frame, "rod": rod, "crescent": crescent, "tee": tee,
}  # fmt: skip


def finish(rng: Generator, distance: Array, colour: Colour, dome: float, rough: float) -> Array:
    """Paint the inside of an outline: domed by `dome`, a bright or dark rim, a rough or a smooth surface."""
    side = distance.shape[0]
    height = dome * np.sqrt(np.clip(-distance, 0, 0.08))
    tone = 0.95 + np.clip(relief(height) * 0.35, -0.35, 0.35) + rough * noise(rng, side, side // 2)
    tone = tone + 0.05 * clouds(rng, side, 4)
    tone = tone + rng.uniform(-0.3, 0.3) * np.exp(-(((distance + 0.03) / 0.012) ** 2))
    if rng.uniform() < 0.4:  # a pressed pattern in the middle
        tone = tone + 0.15 * np.sin(distance * rng.uniform(60, 160))
    return paint(side, colour, tone)


def inlay(rng: Generator, x: Array, y: Array, size: float) -> Array:
    """Return where things of diameter `size` have another colour (S, S): a half, a band, spots, a bar..."""
    radius = np.hypot(x, y)
    spots = int(rng.integers(1, 6))
    sector = 2 * math.pi / spots
    theta = (np.arctan2(y, x) + math.pi + sector / 2) % sector - sector / 2
    away = np.hypot(radius * np.cos(theta) - 0.24 * size, radius * np.sin(theta))
    pitch, side = size * rng.uniform(0.2, 0.32), size * rng.uniform(0.04, 0.08)
    edge = 0.5 * (rng.integers(2, 5, 2) - 1)
    nearest = [
        np.clip(np.round(each / pitch + end) - end, -end, end) for each, end in zip((x, y), edge, strict=True)
    ]
    distances = (
        -x,
        np.hypot(x - nearest[0] * pitch, y - nearest[1] * pitch) - side,
        box(
            x - rng.uniform(-0.1, 0.1) * size,
            y,
            size * rng.uniform(0.15, 0.5),
            size * rng.uniform(0.06, 0.12),
        ),
        np.abs(x - size * rng.uniform(-0.35, 0.35)) - size * rng.uniform(0.03, 0.2),
        np.abs(y - rng.uniform(-0.2, 0.2) * size) - rng.uniform(0.06, 0.14) * size,
        radius - rng.uniform(0.12, 0.3) * size,
        np.abs(radius - rng.uniform(0.18, 0.34) * size) - 0.05 * size,
        away - rng.uniform(0.05, 0.1) * size,
    )
    return cover(distances[rng.integers(len(distances))].astype(np.float32))


def thing(
    rng: Generator, side: int, *, ground: Colour, colour: Colour, other: Colour, outline: str, size: float,
    points: int, dome: float, rough: float,
) -> Scene:  # fmt: skip
    """Draw one thing of any pose, about `size` of the picture large."""
    bare = np.clip(ground_of(rng, side, ground), 0, 1)
    x, y = coordinates(side, rng.uniform(0, 2 * math.pi), tuple(rng.uniform(-0.06, 0.06, 2)))
    distance = OUTLINES[outline](x, y, size, points).astype(np.float32)
    alpha = cover(distance)
    image = bare * (1 - 0.5 * shadow(alpha, 0.02))[..., None]
    top = finish(rng, distance, colour, dome, rough)
    if rng.uniform() < INLAID:
        top = mix(top, finish(rng, distance, other, dome, rough), inlay(rng, x, y, size))
    image = np.clip(mix(image, top, alpha), 0, 1)
    inside = alpha > 0.5
    return Scene(image.astype(np.float32), inside, inside.astype(np.int32), bare.astype(np.float32))


def rows_of_things(
    rng: Generator, side: int, *, ground: Colour, colour: Colour, other: Colour, outline: str, across: int,
    rows: int, points: int, dome: float,
) -> Scene:  # fmt: skip
    """Draw `rows` rows of `across` small things, long ones where these differ; each is a part."""
    bare, most = np.clip(ground_of(rng, side, ground), 0, 1), max(across, rows)
    pitch, filled = 0.96 / most, rng.uniform(0.66, 0.88)
    x, y = coordinates(side, rng.normal(0, 0.04), tuple(rng.uniform(-0.02, 0.02, 2)))
    if rng.uniform() < 0.5:
        x, y = y, x
    u, v = x / 0.96 * across + across / 2, y / 0.96 * rows + rows / 2
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    inside = (column >= 0) & (column < across) & (row >= 0) & (row < rows)
    here = [(u - column - 0.5) * pitch, (v - row - 0.5) * pitch]  # stretched along the wider gaps
    if across > rows:
        here = here[::-1]
    turn = rng.uniform(0, 2 * math.pi) if across == rows else rng.integers(2) * math.pi
    own = turned(*here, turn)
    distance = OUTLINES[outline](*own, filled * pitch, points)
    distance = np.where(inside, distance, 1).astype(np.float32)
    alpha = cover(distance)
    paints = [finish(rng, distance, each, dome, 0.03) for each in (colour, other)]
    share = np.zeros((side, side), np.float32)
    if rng.uniform() < INLAID:
        turns = rng.uniform(0, 2 * math.pi, (rows, across)) * (rng.uniform() < 0.3)  # each its own, or none
        angle = turns[np.clip(row, 0, rows - 1), np.clip(column, 0, across - 1)]
        share = inlay(rng, *turned_by(*own, angle), filled * pitch)
    elif rng.uniform() < 0.4:
        share[(row + column) % 2 == 1] = 1
    tops = mix(*paints, share)
    image = np.clip(mix(bare * (1 - 0.4 * shadow(alpha, 0.01))[..., None], tops, alpha), 0, 1)
    parts = np.where(alpha > 0.5, row * across + column + 1, 0).astype(np.int32)
    return Scene(image.astype(np.float32), parts > 0, parts, bare.astype(np.float32))


def panel(rng: Generator, side: int, *, ground: Colour, colour: Colour, knob: Colour, across: int) -> Scene:
    """Draw a panel with switches and knobs of several kinds in the cells of a grid; each is a part."""
    x, y = coordinates(side, rng.normal(0, 0.04), tuple(rng.uniform(-0.03, 0.03, 2)))
    sheet = cover(box(x, y, 0.9, 0.8, 0.03))
    bare = np.clip(ground_of(rng, side, ground), 0, 1)
    body = paint(side, colour, 0.95 + 0.04 * clouds(rng, side, 3) + 0.02 * noise(rng, side, side))
    lines = np.abs(((y * rng.uniform(6, 12)) % 1) - 0.5) < 0.03
    body = body * (1 + 0.25 * lines)[..., None]
    bare = mix(bare * (1 - 0.45 * shadow(sheet, 0.015))[..., None], body, sheet)
    image, parts = bare, np.zeros((side, side), np.int32)
    pitch = 0.78 / across
    for number in range(across * across):
        row, column = divmod(number, across)
        if rng.uniform() < 0.3:
            continue
        kind = ("disc", "plate", "ring")[rng.integers(3)]
        middle = (column - across / 2 + 0.5) * pitch, (row - across / 2 + 0.5) * pitch * 0.85
        distance = OUTLINES[kind](x - middle[0], y - middle[1], pitch * rng.uniform(0.45, 0.68), 3)
        alpha = cover(distance.astype(np.float32))
        tone = np.clip(0.9 + 6 * np.clip(-distance, 0, 0.03), 0, 1.1)
        top = paint(side, tuple(np.clip(np.multiply(knob, rng.uniform(0.6, 1.3)), 0, 1)), tone)
        image = mix(image * (1 - 0.4 * shadow(alpha, 0.008))[..., None], top, alpha)
        parts[alpha > 0.5] = number + 1
    if not parts.any():
        parts[sheet > 0.5] = 1
    image, bare = (np.clip(each, 0, 1).astype(np.float32) for each in (image, bare))
    return Scene(image, sheet > 0.5, parts, bare)
