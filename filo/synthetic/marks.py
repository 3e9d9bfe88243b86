"""Where a defect sits, what outline it has and how it gets onto the picture together with its mask."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import Array, Colour, Scene, coordinates, mix

FAINTEST = 0.12  # thinner paint than this would be in the mask but not visible
UNLIKE = 0.5  # channels' differences added up: less is easily overlooked


def lay(scene: Scene, colour: Array, alpha: Array, within: Array | None = None) -> tuple[Array, Array]:
    """Cover the scene by `colour` (S, S, 3) as far as alpha (S, S) says; return the image and the mask."""
    alpha = np.where(alpha >= FAINTEST, alpha, 0)
    if within is not None:
        alpha = np.where(within, alpha, 0)
    mask = alpha > 0
    image = np.where(mask[..., None], mix(scene.image, colour, alpha), scene.image)
    return image, mask


def spot(rng: Generator, body: Array, room: float) -> tuple[float, float]:
    """Return a random place on an object, at least `room` from its edges if any place is so far from them."""
    side = body.shape[0]
    depth = cv2.distanceTransform(np.pad(body.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= min(room * side, 0.9 * depth.max()))
    chosen = rng.integers(len(rows))
    return (columns[chosen] + 0.5) / side - 0.5, (rows[chosen] + 0.5) / side - 0.5


def blob(
    rng: Generator, side: int, radius: float, centre: tuple[float, float], ragged: float = 0.15
) -> Array:
    """Return the signed distance (side, side) to a round shape with an uneven edge."""
    x, y = coordinates(side, rng.uniform(0, 2 * math.pi), centre)
    theta = np.arctan2(y, x)
    waves = sum(rng.normal(0, ragged / k) * np.cos(k * theta + rng.uniform(0, 6)) for k in (1, 2, 3, 5, 7))
    stretch = rng.uniform(0.75, 1.3)
    return np.hypot(x * stretch, y / stretch) - radius * np.clip(1 + waves, 0.55, 1.5)


def curve(rng: Generator, middle: tuple[float, float], length: float, bend: float, steps: int = 12) -> Array:
    """Return points (steps + 1, 2) of a line of any direction through `middle`, turning by about `bend`."""
    angles = rng.uniform(0, 2 * math.pi) + rng.normal(0, bend) * np.linspace(-0.5, 0.5, steps)
    hops = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / steps
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(hops, axis=0)])
    return points - points[steps // 2] + middle


def unlike(rng: Generator, colours: tuple[Colour, ...], under: Array) -> Colour:
    """Return one of the two colours that stand out most from the mean of the pixels `under` (K, 3); the
    first of them, if the other hardly does.
    """
    mean = under.mean(axis=0)
    ranked = sorted(((float(np.abs(np.subtract(each, mean)).sum()), each) for each in colours), reverse=True)
    (_, first), (distance, second) = ranked[:2]
    return second if rng.uniform() < 0.5 and distance >= UNLIKE else first
