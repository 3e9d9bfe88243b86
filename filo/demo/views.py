"""What one training step sees: windows of pictures, two of each scene, with what can be said of them."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import open_clip
import torch
from numpy.random import Generator
from torch import Tensor

from filo.demo.captions import Captions, View
from filo.demo.store import Store
from filo.synthetic.canvas import Array
from filo.synthetic.families import FAMILIES

PAIRS = ((0, 1), (0, 2), (1, 2))  # of a scene's pictures, 0 the flawless one
LEAST = 5  # pixels of damage within a window; less is not spoken of
ON_DEFECT = 0.9  # how often a window is laid where damage can be seen
SAME_PLACE = 0.5  # how often a flawless region is that where the scene's other picture is damaged
RECOLOURED = 0.5  # share of scenes whose channels are swapped; nothing is said of colours then


class Scale(NamedTuple):
    """Which part of a picture a window shows, as shares of its side, and the side it is resized to."""

    smallest: float
    largest: float
    side: int


class Step(NamedTuple):
    """A batch.

    images: (B, 3, S, S) normalised, the two of a scene side by side; covers: (B, N) share of each patch that
    is damaged; regions: (B, N) weights of the patches, adding up to 1: all that is damaged, or some patches
    of a picture without damage; captions: B of the images, region_captions: B of the regions, without
    places.
    """

    images: Tensor
    covers: Tensor
    regions: Tensor
    captions: list[str]
    region_captions: list[str]


def draw_step(
    rng: Generator, store: Store, captions: Captions, scale: Scale, patch: int, scenes: int
) -> Step:
    """Draw a batch of two pictures each of `scenes` scenes, both through the same window."""
    images, damaged, regions, texts, region_texts = [], [], [], [], []
    for scene in rng.choice(len(store.records), scenes, replace=False):
        pair = PAIRS[rng.choice(3, p=(0.4, 0.4, 0.2))]
        window, turn = draw_window(rng, store.masks[scene], pair, scale), rng.uniform(size=3) < 0.5
        channels = rng.permutation(3) if rng.uniform() < RECOLOURED else np.arange(3)
        as_drawn = bool((channels == np.arange(3)).all())
        covers = [cover_of(store, scene, each, window, turn, scale.side, patch) for each in pair]
        for cover, other, picture in zip(covers, covers[::-1], pair, strict=True):
            image = look_through(store.pictures[scene, picture], window, turn, scale.side)
            images.append(jitter(rng, image[..., channels]))
            view = view_of(rng, store, scene, picture, cover, captions.places)
            view = view if as_drawn else replace(view, colour="", tone="")
            texts.append(captions.write(rng, view))
            weights = draw_region(rng, cover, other)
            regions.append(weights.ravel() / weights.sum())
            damaged.append(cover.ravel())
            unplaced = replace(view, place="")  # patches are to be judged by their look
            region_texts.append(captions.write(rng, unplaced))
    shown = normalise(np.stack(images))
    patches = (torch.from_numpy(np.stack(each)) for each in (damaged, regions))
    return Step(shown, *patches, texts, region_texts)


def draw_window(rng: Generator, masks: Array, pair: tuple[int, int], scale: Scale) -> tuple[int, int, int]:
    """Return left, top and side of a window in pixels, mostly round some damage of the pair."""
    full = masks.shape[-1]
    side = round(full * rng.uniform(scale.smallest, scale.largest))
    left, top = rng.integers(0, full - side + 1, 2)
    damaged = masks[rng.choice([picture for picture in pair if picture]) - 1]
    if rng.uniform() < ON_DEFECT and damaged.any():
        rows, columns = np.nonzero(damaged)
        chosen = rng.integers(len(rows))
        inside = rng.uniform(0.05, 0.95, 2) * side
        top, left = np.clip([rows[chosen] - inside[0], columns[chosen] - inside[1]], 0, full - side).astype(
            int
        )
    return int(left), int(top), side


def look_through(pixels: Array, window: tuple[int, int, int], turn: Array, side: int) -> Array:
    """Cut the window out, mirror it along either axis and across, as `turn` says, and resize it to `side`."""
    left, top, size = window
    part = pixels[top : top + size, left : left + size]
    part = part[:: -1 if turn[0] else 1, :: -1 if turn[1] else 1]
    part = part.swapaxes(0, 1) if turn[2] else part
    smaller = side < size
    return cv2.resize(
        np.ascontiguousarray(part),
        (side, side),
        interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR,
    )


def jitter(rng: Generator, image: Array) -> Array:
    """Change exposure, contrast, white balance and sharpness a little; uint8 in, float32 of 0-1 out."""
    image = image.astype(np.float32) / 255
    if rng.uniform() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    return np.clip((image * gain) ** rng.uniform(0.85, 1.2), 0, 1).astype(np.float32)


def normalise(images: Array) -> Tensor:
    """Turn (B, S, S, 3) of 0-1 into what CLIP's towers take."""
    mean, std = (np.float32(each) for each in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    return torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2).contiguous()


def cover_of(
    store: Store, scene: int, picture: int, window: tuple[int, int, int], turn: Array, side: int, patch: int
) -> Array:
    """Return how much of each patch (G, G) that a window shows is damaged; nothing, if it is hardly any."""
    grid = side // patch
    if not picture:
        return np.zeros((grid, grid), np.float32)
    cover = look_through(store.masks[scene, picture - 1].astype(np.float32), window, turn, grid)
    return cover if cover.sum() * patch**2 >= LEAST else np.zeros_like(cover)


def view_of(rng: Generator, store: Store, scene: int, picture: int, cover: Array, places: list[str]) -> View:
    """Say what can be seen where `cover` (G, G) of the patches is damaged."""
    record = store.records[scene]
    noun = str(rng.choice(FAMILIES[record.family].nouns))
    if not cover.any():
        return View(noun, record.colour)
    centre = [(cover.sum(axis=1 - axis) @ (np.arange(len(cover)) + 0.5)) / cover.sum() for axis in (0, 1)]
    row, column = (min(int(3 * each / len(cover)), 2) for each in centre)
    return View(
        noun, record.colour, record.kinds[picture - 1], record.tones[picture - 1], places[3 * row + column]
    )


def draw_region(rng: Generator, cover: Array, other: Array) -> Array:
    """Return weights (G, G) of what is damaged; of some patches in a picture without damage.

    `other` is what is damaged in the other picture of the scene: often just that place is looked at here.
    """
    if cover.any():
        return cover
    if other.any() and rng.uniform() < SAME_PLACE:
        return other
    grid = len(cover)
    high, wide = rng.integers(1, max(grid // 2, 1) + 1, 2)
    top, left = rng.integers(0, grid - high + 1), rng.integers(0, grid - wide + 1)
    region = np.zeros_like(cover)
    region[top : top + high, left : left + wide] = 1
    return region
