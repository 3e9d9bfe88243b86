"""The pretraining pictures: drawn once, kept as plain arrays on disk, read from there in any order."""

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from filo.demo.captions import colour_name
from filo.errors import InputError
from filo.files import write_json
from filo.synthetic.canvas import Array, Scene
from filo.synthetic.defects import DEFECTS
from filo.synthetic.families import FAMILIES, draw_colour, draw_look
from filo.synthetic.folders import VERSION
from filo.synthetic.picture import generator, lighting, photograph
from filo.synthetic.prints import decorate, fit
from filo.synthetic.styles import STYLES

SET = "pretraining"
DAMAGED = 2  # damaged pictures of each scene, beside the flawless one
FITTED = 0.4  # share of scenes with fittings
PRINTED = 0.3  # share of scenes with marks that belong there
LEAST = 4  # pixels of damage; with less a picture is drawn anew
NEEDS_BACKGROUND = ("bent", "missing_part")


class SceneRecord(NamedTuple):
    """What captions may say of a scene: its family, its colour, and of each damaged picture kind and tone."""

    family: int
    colour: str
    kinds: tuple[str, ...]
    tones: tuple[str, ...]


class Store(NamedTuple):
    """All scenes.

    pictures: (scenes, 1 + DAMAGED, S, S, 3) uint8, the flawless one first; masks: (scenes, DAMAGED, S, S)
    bool.
    """

    pictures: Array
    masks: Array
    records: list[SceneRecord]


def open_store(folder: Path, seed: int, scenes: int, side: int, workers: int) -> Store:
    """Open the store, drawing it first if it is not there.

    Raises:
        InputError: the folder holds another one, or cannot be written.
    """
    about = {"version": VERSION, "seed": seed, "scenes": scenes, "side": side}
    stamp = folder / "store.json"
    if not stamp.exists():
        _draw_store(folder, about, workers)
    found = json.loads(stamp.read_text(encoding="utf-8"))
    records = [SceneRecord(f, c, tuple(k), tuple(t)) for f, c, k, t in found.pop("records")]
    if found != about:
        raise InputError(
            f"{folder} holds pictures of {found}, not of {about}: remove it or name another folder"
        )
    arrays = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("pictures", "masks")
    )
    return Store(*arrays, records)


def _draw_store(folder: Path, about: dict[str, int], workers: int) -> None:
    scenes, side = about["scenes"], about["side"]
    need = scenes * side * side * (3 + 4 * DAMAGED)
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < need:
        raise InputError(f"{folder}: {need / 2**20:.0f} MiB wanted for {scenes} scenes, fewer are free")
    shape = (scenes, 1 + DAMAGED, side, side)
    pictures = open_memmap(folder / "pictures.npy", "w+", np.uint8, (*shape, 3))
    masks = open_memmap(folder / "masks.npy", "w+", bool, (scenes, DAMAGED, side, side))
    records = []
    draw = partial(draw_scene, about["seed"], side)
    # a fork would take over OpenCV's threads as they stand, and wait for them forever
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        drawn = pool.map(draw, range(scenes), chunksize=16)
        for number, (pictures[number], masks[number], record) in enumerate(
            tqdm(drawn, total=scenes, desc="drawing", unit="scene", disable=None)
        ):
            assert len(records) == number
            records.append(record)
    pictures.flush()
    masks.flush()
    write_json(folder / "store.json", about | {"records": records})


def draw_scene(seed: int, side: int, number: int) -> tuple[Array, Array, SceneRecord]:
    """Draw a scene flawless and damaged in two ways, under one light: pictures, masks and what they show."""
    cv2.setNumThreads(1)
    rng = generator(seed, SET, number)
    family = FAMILIES[number % len(FAMILIES)]
    look = draw_look(rng, family)
    scene = family.draw(rng, side, **look)
    if rng.uniform() < PRINTED:
        scene = decorate(rng, scene, draw_colour(rng))
    if rng.uniform() < FITTED:
        scene = fit(rng, scene, [draw_colour(rng) for _ in range(rng.integers(1, 4))])
    kinds = [kind for kind in DEFECTS if scene.has_background or kind not in NEEDS_BACKGROUND]
    kinds = rng.permutation(kinds)[:DAMAGED].tolist()
    light, images, masks, tones = lighting(rng, side), [scene.image], [], []
    for kind in kinds:
        image, mask = _spoil(rng, scene, kind)
        images.append(image)
        masks.append(mask)
        tones.append(tone_of(image[mask], scene.image[mask]))
    shots = [photograph(image, light, rng.standard_normal((side, side, 3))) for image in images]
    colour = colour_name(look[family.colours[0]])
    record = SceneRecord(number % len(FAMILIES), colour, tuple(kinds), tuple(tones))
    return np.stack(shots), np.stack(masks), record


def _spoil(rng: np.random.Generator, scene: Scene, kind: str) -> tuple[Array, Array]:
    for _ in range(20):
        image, mask = DEFECTS[kind](rng, scene, STYLES[SET])
        if mask.sum() >= LEAST:
            break
    return image, mask


def tone_of(damaged: Array, before: Array) -> str:
    """Name what is striking about the colour of damaged pixels (K, 3), "" if nothing is."""
    change = damaged.mean(axis=0) - before.mean(axis=0)
    name = colour_name(damaged.mean(axis=0))
    if name not in ("black", "grey", "white", colour_name(before.mean(axis=0))):
        return name
    if abs(change.mean()) < 0.08:
        return ""
    return "dark" if change.mean() < 0 else "bright"
