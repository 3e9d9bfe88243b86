"""Ten ways to spoil a picture: `(rng, scene, style) -> (image, mask)`.

The mask (S, S) bool is the whole damaged patch. Outside it the image is bit for bit that of the scene; inside
it the damage is visible nearly everywhere (a pixel may by chance come out as it was).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import (
    FINER,
    Array,
    Scene,
    clouds,
    cover,
    mix,
    noise,
    paint,
    relief,
    shadow,
    shrink,
    stroke,
)
from filo.synthetic.marks import blob, curve, lay, spot, unlike
from filo.synthetic.styles import DefectStyle, pick

BULGE = 0.35  # how much lighter or darker a slope of 1 is on what is pushed aside


def scratch(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """One to three long thin furrows, bright on dark ground and dark on bright ground."""
    side, middle = len(scene.image), spot(rng, scene.body, 0.05)
    line, direction = np.zeros((side, side), np.float32), pick(rng, style.scratch_length)
    first = curve(rng, middle, direction, 0.5)
    for _ in range(rng.integers(1, 4)):
        ends = np.sort(rng.choice(len(first), 2, replace=False)) if line.any() else (0, len(first))
        points = first[ends[0] : max(ends[1], ends[0] + 3)] + rng.normal(0, 0.012, 2) * line.any()
        line = np.maximum(line, stroke(side, points, pick(rng, style.scratch_width)))
    under = scene.image[line > 0.5]
    is_dark = not under.size or under.mean() < 0.62
    colour = scene.image * 0.3 + 0.68 if is_dark else scene.image * 0.4
    return lay(scene, colour, line, scene.body)


def crack(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A jagged dark line that tapers off, with branches."""
    side, middle = len(scene.image), np.array(spot(rng, scene.body, 0.08))
    heading, line = rng.uniform(0, 2 * math.pi), np.zeros((side, side), np.float32)
    steps, hop, start = int(rng.integers(8, 15)), pick(rng, style.crack_hop), None
    width = pick(rng, style.crack_width)
    for _ in range(int(rng.integers(1, 4))):
        turns = heading + np.cumsum(rng.normal(0, 0.45, steps))
        hops = np.stack([np.cos(turns), np.sin(turns)], axis=1) * hop * rng.uniform(0.5, 1.5, (steps, 1))
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(hops, axis=0)])
        points += middle - points[len(points) // 2] if start is None else start
        line = np.maximum(line, stroke(side, points, np.linspace(width, 0.4 * width, steps)))
        start, steps = points[rng.integers(1, len(points) // 2 + 1)], max(steps // 2, 4)
        heading += rng.choice((-0.8, 0.8))
    return lay(scene, scene.image * 0.16, line, scene.body)


def hole(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A dark opening with a pale torn rim; its upper edge throws a shadow inside."""
    side, radius = len(scene.image), pick(rng, style.hole_radius)
    centre = spot(rng, scene.body, radius * 1.3)
    edge = blob(rng, side, radius, centre, 0.2)
    inside = cover(edge)
    depth = 0.10 + 0.10 * shadow(inside, radius * 0.3) + 0.02 * noise(rng, side, side // 2)
    rim = np.clip(scene.image * 1.2 + 0.12, 0, 1) * (1 - 0.25 * cover(edge - 0.005))[..., None]
    bottom = scene.bare * 0.75 if scene.has_background else paint(side, (1.0, 0.92, 0.86), depth)
    colour = mix(rim, bottom * (1 - 0.5 * inside * (1 - shadow(inside, radius * 0.3)))[..., None], inside)
    return lay(scene, colour, cover(edge - 0.014), scene.body)


def stain(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A soaked-in patch: the ground shows through and the outline is darker, as of a dried drop."""
    side, radius = len(scene.image), pick(rng, style.stain_radius)
    centre = spot(rng, scene.body, radius * 0.5)
    edge = blob(rng, side, radius, centre, 0.16) + 0.008 * clouds(rng, side, 8)
    inside = (edge < 0) & scene.body
    colour = unlike(rng, style.stains, scene.image[inside] if inside.any() else scene.image.reshape(-1, 3))
    soaked = 0.45 * paint(side, colour) + 0.55 * scene.image * np.float32(colour)
    strength = rng.uniform(0.5, 0.72) + 0.08 * clouds(rng, side, 6) + 0.22 * np.exp(-((edge / 0.012) ** 2))
    alpha = np.clip(0.5 - edge / 0.02, 0, 1) * np.clip(strength, 0.3, 0.95)
    return lay(scene, soaked, alpha, scene.body)


def whole_part(rng: Generator, parts: Array) -> Array:
    """Return one part (S, S) as 0 and 1, one that the frame of the picture does not cut if there is any."""
    cut = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    numbers = np.setdiff1d(parts, np.append(cut, 0))
    if not len(numbers):
        numbers = np.setdiff1d(parts, 0)
    return (parts == rng.choice(numbers)).astype(np.float32)


def with_shadow(scene: Scene, part: Array) -> Array:
    """Return where a part is or throws its shadow (S, S)."""
    reach = 2 * round(0.03 * len(part)) + 1
    near = cv2.dilate(part, np.ones((reach, reach), np.uint8)) > 0
    differs = np.abs(scene.image - scene.bare).max(axis=-1) > 0.02
    return (part > 0) | (near & differs & (scene.parts == 0))


def edge_pixel(rng: Generator, part: Array) -> Array:
    """Return (row, column) of a random pixel on the edge of a part."""
    edge = np.argwhere((part > 0) & (cv2.erode(part, np.ones((3, 3), np.uint8), borderValue=0) == 0))
    return edge[rng.integers(len(edge))]


def missing_part(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """One small part is not there at all, or a bite is broken out of the edge of a large one."""
    side, part = len(scene.image), whole_part(rng, scene.parts)
    if part.mean() < 0.035:
        return lay(scene, scene.bare, with_shadow(scene, part).astype(np.float32))
    row, column = (edge_pixel(rng, part) + 0.5) / side - 0.5
    bite = blob(rng, side, pick(rng, style.bite_radius), (column, row), 0.22) + 0.006 * clouds(rng, side, 12)
    broken = scene.image * (0.62 + 0.12 * noise(rng, side, side // 3))[..., None]  # the rough new edge
    return lay(scene, mix(broken, scene.bare * 0.92, cover(bite + 0.018)), cover(bite), part > 0)


def dent(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A hollow pressed into the surface: the side towards the light is dark, the far side bright."""
    side, radius = len(scene.image), pick(rng, style.dent_radius)
    edge = blob(rng, side, radius, spot(rng, scene.body, radius), 0.1)
    height = -radius * 0.4 * np.clip(-edge / radius, 0, 1) ** 1.5
    inside = cover(edge)
    tone = 1 + 0.8 * relief(height) - 0.12 * np.clip(0.35 - edge / radius, 0, 1)
    tone = np.where(np.abs(tone - 1) < 0.06, 0.94, tone)  # the hollow never looks like the untouched surface
    return lay(
        scene, np.clip(scene.image * tone[..., None], 0, 1), (inside > 0.5).astype(np.float32), scene.body
    )


def contamination(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """Foreign matter lying on the surface: a few crumbs and often a hair."""
    side, middle = len(scene.image), spot(rng, scene.body, 0.06)
    alpha = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(2, 8)):
        centre = np.add(middle, rng.normal(0, 0.035, 2))
        alpha = np.maximum(alpha, cover(blob(rng, side, pick(rng, style.crumb_radius), tuple(centre), 0.25)))
    if rng.uniform() < 0.6:
        hair = curve(rng, middle, pick(rng, style.hair_length), 3.0, 24)
        alpha = np.maximum(alpha, stroke(side, hair, 0.006))
    colour = unlike(rng, style.dirt, scene.image[alpha > 0.3])
    crumbs = paint(side, colour, np.clip(1 + 6 * relief(0.01 * alpha), 0.6, 1.35))
    return lay(scene, np.clip(crumbs, 0, 1), alpha)


def bent(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A small part sits askew or the edge of a large one is pushed aside; tilted, it catches other light."""
    part, glint = whole_part(rng, scene.parts), 1 + rng.choice((-0.25, 0.22))
    return (askew if part.mean() < 0.06 else pushed)(rng, scene, style, part, glint)


def askew(rng: Generator, scene: Scene, style: DefectStyle, part: Array, glint: float) -> tuple[Array, Array]:
    """Turn a part round its middle."""
    side, (rows, columns) = len(scene.image), np.nonzero(part)
    angle = rng.choice((-1, 1)) * pick(rng, style.tilt)
    move = cv2.getRotationMatrix2D((float(columns.mean()), float(rows.mean())), angle, 1.0)
    move[:, 2] += rng.uniform(-0.02, 0.02, 2) * side
    lifted = cv2.warpAffine(np.dstack([scene.image * glint, part]).astype(np.float32), move, (side, side))
    alpha = lifted[..., 3]
    colour = mix(scene.bare * (1 - 0.4 * shadow(alpha, 0.01))[..., None], lifted[..., :3], alpha)
    return lay(scene, np.clip(colour, 0, 1), np.maximum(part, alpha > 0.3))


def pushed(
    rng: Generator, scene: Scene, style: DefectStyle, part: Array, glint: float
) -> tuple[Array, Array]:
    """Push the edge of a part inwards or outwards; the bulge catches light and throws shade."""
    side, reach = len(scene.image), pick(rng, style.push_reach)
    row, column = edge_pixel(rng, part)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    pull = np.clip(1 - ((x - column) ** 2 + (y - row) ** 2) / (reach * side) ** 2, 0, 1) ** 2
    inward = np.argwhere(part).mean(axis=0) - (row, column)
    push = inward / max(np.hypot(*inward), 1e-6) * side * rng.choice((-0.4, 0.4)) * reach
    there = np.float32(x - pull * push[1]), np.float32(y - pull * push[0])
    layer = np.dstack([scene.image, part]).astype(np.float32)
    warped = cv2.remap(layer, *there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bulge = (glint - 1) * np.clip(1.5 * pull, 0, 1) + BULGE * relief(reach * pull)
    lit = warped[..., :3] * np.clip(1 + bulge, 0.4, 1.6)[..., None]
    moved = warped[..., 3]
    below = scene.bare * (1 - 0.4 * shadow(moved, 0.01))[..., None]
    changed = (pull > 0.05) & (with_shadow(scene, part) | (moved > 0.3))
    return lay(scene, np.clip(mix(below, lit, moved), 0, 1), changed.astype(np.float32))


def misprint(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """Letters that do not belong there, crooked, with a smeared second impression."""
    side = len(scene.image)
    size, middle = pick(rng, style.letter_size), spot(rng, scene.body, 0.03)
    canvas, scale = np.zeros((side * FINER, side * FINER), np.uint8), side * FINER
    text = "".join(rng.choice(list(style.letters), int(rng.integers(2, 5))))
    width = len(text) * size * 0.85
    where = (round((middle[0] + 0.5 - width / 2) * scale), round((middle[1] + 0.5 + size / 2) * scale))
    thick = max(round(0.011 * scale), 1)
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, size * scale / 22, 255, thick, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D(
        ((middle[0] + 0.5) * scale, (middle[1] + 0.5) * scale), rng.normal(0, 20), 1
    )
    ink = shrink(cv2.warpAffine(canvas, turn, (scale, scale)).astype(np.float32) / 255, side)
    slip = np.float32([[1, 0, rng.normal(0, 0.012) * side], [0, 1, 0.018 * side]])
    alpha = np.maximum(ink, 0.45 * cv2.warpAffine(ink, slip, (side, side)))
    under = scene.image[(alpha > 0.3) & scene.body]
    colour = unlike(rng, style.inks, under if len(under) else scene.image.reshape(-1, 3))
    return lay(scene, paint(side, colour), alpha, scene.body)


def fraying(rng: Generator, scene: Scene, style: DefectStyle) -> tuple[Array, Array]:
    """A seam of loose threads that stand off a worn, darker gap."""
    side, middle = len(scene.image), spot(rng, scene.body, 0.1)
    seam = curve(rng, middle, pick(rng, style.seam_length), 0.4)
    gap = stroke(side, seam, rng.uniform(0.018, 0.035))
    threads, shade = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for point in seam[rng.integers(0, len(seam), int(rng.integers(10, 20)))]:
        loose = stroke(side, curve(rng, tuple(point), rng.uniform(0.06, 0.15), 2.0), 0.008)
        threads, shade = np.maximum(threads, loose), np.maximum(shade, 0.5 * shadow(loose, 0.008))
    pale = np.quantile(scene.image[gap > 0], 0.9, axis=0)
    worn = mix(scene.image * 0.3, paint(side, tuple(np.clip(pale * 1.08 + 0.04, 0, 1))), threads)
    return lay(scene, worn, np.max([gap, threads, shade], axis=0), scene.body)


DEFECTS: dict[str, Callable[[Generator, Scene, DefectStyle], tuple[Array, Array]]] = {
    "bent": bent,
    "contamination": contamination,
    "crack": crack,
    "dent": dent,
    "fraying": fraying,
    "hole": hole,
    "misprint": misprint,
    "missing_part": missing_part,
    "scratch": scratch,
    "stain": stain,
}
