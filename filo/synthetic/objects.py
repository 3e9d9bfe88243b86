"""Things lying on a background, seen from above: `(rng, side, ...) -> Scene`."""

import math

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    Array,
    Colour,
    Scene,
    bar,
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


def mat(rng: Generator, side: int, colour: Colour) -> Array:
    """Draw an even background with a little dust and unevenness."""
    return paint(side, colour, 1 + 0.03 * clouds(rng, side, 3) + 0.03 * noise(rng, side, side))


def turning_marks(rng: Generator, x: Array, y: Array, angle: float) -> Array:
    """Return the tone of lathe-turned metal: fans of light round the axis and fine concentric lines."""
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    lines = np.interp(radius, np.linspace(0, 0.8, 160), rng.normal(0, 1, 160))
    return 0.85 + 0.16 * np.cos(2 * (theta - angle)) + 0.07 * np.cos(5 * theta) + 0.03 * lines


def hex_nut(rng: Generator, side: int, *, ground: Colour, metal: Colour, size: float) -> Scene:
    """Draw a hexagonal nut of `size` across its flats, with chamfered corners and a threaded hole."""
    bare = mat(rng, side, ground)
    size = size * rng.normal(1, 0.015)
    x, y = coordinates(side, rng.uniform(0, 2 * math.pi), tuple(rng.uniform(-0.04, 0.04, 2)))
    radius = np.hypot(x, y)
    flats = np.max([np.abs(turned(x, y, k * math.pi / 3)[0]) for k in range(3)], axis=0) - size / 2
    alpha = cover(np.maximum(flats, radius - size * 0.565))
    bore = size * 0.29
    light = rng.uniform(0, math.pi)
    body = paint(side, metal, turning_marks(rng, x, y, light) + 0.03 * noise(rng, side, side))
    chamfer = cover(size * 0.5 - radius) * (0.2 + 0.9 * np.clip(-(flats + 0.02) / 0.02, 0, 0.3))
    body = body * (1 - chamfer)[..., None]
    edge = (
        np.exp(-((np.abs(radius - size * 0.5) / 0.006) ** 2)) * 0.22
        + cover(np.abs(flats + 0.008) - 0.004) * 0.1
    )
    body = body + edge[..., None]
    thread = np.cos(np.maximum(bore - radius, 0) * 2 * math.pi / 0.016 + np.arctan2(y, x)) * 0.5 + 0.5
    inside = cover(radius - bore)
    body = mix(body, paint(side, metal, 0.2 + 0.38 * thread), inside)
    alpha = alpha * (1 - cover(radius - bore * 0.8))
    image = bare * (1 - 0.6 * shadow(alpha, 0.018))[..., None]
    is_nut = alpha > 0.5
    return Scene(np.clip(mix(image, body, alpha), 0, 1), is_nut, is_nut.astype(np.int32), bare)


def tea_lights(rng: Generator, side: int, *, ground: Colour, wax: Colour, cup: Colour) -> Scene:
    """Draw four tea lights in their metal cups; each is a part."""
    bare = mat(rng, side, ground)
    image, parts = bare, np.zeros((side, side), np.int32)
    for number, (column, row) in enumerate(((-1, -1), (1, -1), (-1, 1), (1, 1)), start=1):
        centre = 0.235 * np.array((column, row)) + rng.uniform(-0.018, 0.018, 2)
        x, y = coordinates(side, rng.uniform(0, 2 * math.pi), tuple(centre))
        radius = np.hypot(x, y)
        outer = cover(radius - 0.198)
        rim = paint(
            side, cup, turning_marks(rng, x, y, rng.uniform(0, math.pi)) - 0.3 * cover(radius - 0.187)
        )
        bowl = 1 - 0.1 * np.clip(1 - radius / 0.18, 0, 1) + 0.025 * clouds(rng, side, 5)
        body = mix(rim, paint(side, wax, bowl), cover(radius - 0.181))
        ripple = relief(0.004 * np.exp(-(((radius - 0.165) / 0.012) ** 2)))
        body = body + (ripple * 0.22 * cover(radius - 0.18))[..., None]
        wick = bar(x, y, (0, 0), (0.045, 0.012)) - 0.009
        body = body * (1 - 0.25 * shadow(cover(wick), 0.012) - 0.18 * cover(radius - 0.032))[..., None]
        body = mix(body, paint(side, (0.16, 0.13, 0.11), 1 + 0.2 * noise(rng, side, side // 3)), cover(wick))
        image = mix(image * (1 - 0.55 * shadow(outer, 0.015))[..., None], body, outer)
        parts[outer > 0.5] = number
    return Scene(np.clip(image, 0, 1), parts > 0, parts, bare)


def capsules(
    rng: Generator, side: int, *, tray: Colour, left: Colour, right: Colour, columns: int, rows: int
) -> Scene:
    """Draw two-coloured capsules in the hollows of a tray; each capsule is a part."""
    angle, shift = rng.normal(0, math.radians(1.5)), rng.uniform(-0.015, 0.015, 2)
    wide, high = 0.94 / columns, 0.94 / rows
    radius, half = high * 0.36, wide * 0.5 - high * 0.36 - 0.03
    frame_x, frame_y = coordinates(side, angle, tuple(shift))
    u, v = (frame_x / wide + columns / 2) % 1 - 0.5, (frame_y / high + rows / 2) % 1 - 0.5
    is_tray = (np.abs(frame_x) < 0.47) & (np.abs(frame_y) < 0.47)
    hollow = bar(u * wide, v * high, (-half, 0), (half, 0)) - radius * 1.22
    hollow = np.where(is_tray, hollow, 0.02)
    dip = relief(np.clip(hollow, -0.012, 0))
    bare = mat(rng, side, tray) * (1 - 0.22 * cover(hollow) + 0.2 * dip)[..., None]
    image, parts = bare, np.zeros((side, side), np.int32)
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        cell_x, cell_y = frame_x - (column + 0.5) * wide + 0.47, frame_y - (row + 0.5) * high + 0.47
        x, y = turned(cell_x, cell_y, rng.normal(0, math.radians(2.5)))
        x, y = x - rng.uniform(-0.008, 0.008), y - rng.uniform(-0.004, 0.004)
        distance = bar(x, y, (-half, 0), (half, 0)) - radius
        alpha = cover(distance)
        roundness = np.sqrt(np.clip(1 - (distance / radius + 1) ** 2, 0, 1))
        tone = 0.55 + 0.45 * roundness
        body = mix(paint(side, left, tone), paint(side, right, tone), cover(-x))
        seam = np.exp(-((x / 0.006) ** 2)) * 0.18
        gleam = 0.55 * cover(bar(x, y, (-half, -radius * 0.42), (half, -radius * 0.42)) - radius * 0.13)
        body = body * (1 - seam)[..., None] + (gleam * (0.7 + 0.3 * np.cos(x * 60)))[..., None]
        image = mix(image * (1 - 0.4 * shadow(alpha, 0.01))[..., None], body, alpha)
        parts[alpha > 0.5] = number + 1
    return Scene(np.clip(image, 0, 1), parts > 0, parts, np.clip(bare, 0, 1))


def biscuit(
    rng: Generator, side: int, *, ground: Colour, dough: Colour, crust: Colour, scallops: int
) -> Scene:
    """Draw a round biscuit with a wavy edge, a pressed ring and docking holes."""
    bare = mat(rng, side, ground)
    x, y = coordinates(side, rng.uniform(0, 2 * math.pi), tuple(rng.uniform(-0.035, 0.035, 2)))
    x, y = x * rng.normal(1, 0.02), y * rng.normal(1, 0.02)
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    edge = 0.385 + 0.011 * np.cos(scallops * theta)
    alpha = cover(radius - edge)
    baked = np.clip((radius / edge) ** 5 * 0.8 + 0.12 * clouds(rng, side, 5) + rng.uniform(0.05, 0.25), 0, 1)
    height = 0.02 * np.sqrt(np.clip(1 - (radius / edge) ** 6, 0, 1)) + 0.0011 * clouds(rng, side, side // 8)
    height = height - 0.006 * np.exp(-(((radius - 0.3) / 0.012) ** 2))
    holes = np.full((side, side), 1.0, np.float32)
    for count, ring in ((1, 0.0), (6, 0.11), (12, 0.215)):
        for k in range(count):
            around = 2 * math.pi * k / count
            holes = np.minimum(holes, np.hypot(x - ring * math.cos(around), y - ring * math.sin(around)))
    height = height - 0.008 * np.exp(-((holes / 0.014) ** 2))
    body = mix(paint(side, dough), paint(side, crust), baked)
    tone = (1 + 0.42 * relief(height) + 0.03 * noise(rng, side, side)) * (
        1 - 0.5 * np.exp(-((holes / 0.011) ** 2))
    )
    image = bare * (1 - 0.5 * shadow(alpha, 0.02))[..., None]
    image = np.clip(mix(image, body * tone[..., None], alpha), 0, 1)
    is_biscuit = alpha > 0.5
    return Scene(image, is_biscuit, is_biscuit.astype(np.int32), bare)
