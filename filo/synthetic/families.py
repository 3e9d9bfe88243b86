"""Which surfaces and things the small CLIP is pretrained on: names, drawing, ranges, as data.

No family shares its drawing function with a class of the demo sets, no name a word with theirs, and no colour
comes near one of theirs.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from filo.synthetic.canvas import Colour, Scene
from filo.synthetic.classes import DATASETS
from filo.synthetic.surfaces import bricks, chequers, felt, grid, lacquer, leather, metal, ribs, stone
from filo.synthetic.things import panel, rows_of_things, thing

APART = 0.03  # at least so far, in one channel at least, a colour stays from each one of the demo sets
HUED, GREYISH = (0.35, 0.95), (0.0, 0.25)  # saturations


@dataclass(frozen=True)
class Family:
    """Pictures of one kind: how they may be called and what their `draw` is given.

    `ranges` holds (low, high) of floats or of ints, both ends in, or a list to choose from; `colours` are the
    parameters that get a colour, of which the first is the one that captions name.
    """

    nouns: tuple[str, ...]
    draw: Callable[..., Scene]
    colours: tuple[str, ...]
    ranges: dict[str, tuple | list]


def one_thing(outline: str, *nouns: str) -> Family:
    """Return the family of single things with an outline."""
    ranges = {"outline": [outline], "size": (0.5, 0.85), "points": (1, 5)}
    ranges |= {"dome": (0.0, 0.5), "rough": (0.0, 0.12)}
    return Family(nouns, thing, ("colour", "ground", "other"), ranges)


def many_things(outline: str, *nouns: str) -> Family:
    """Return the family of rows of small things with an outline."""
    ranges = {"outline": [outline], "across": (3, 7), "rows": (1, 6), "points": (1, 5), "dome": (0.0, 0.5)}
    return Family(nouns, rows_of_things, ("colour", "ground", "other"), ranges)


FAMILIES = (
    Family(("stone", "granite", "slate"), stone, ("colour", "fleck"), {"grain": (8.0, 40.0)}),
    Family(("metal", "steel"), metal, ("colour",), {"lines": (60.0, 160.0), "gloss": (0.0, 0.3)}),
    Family(("leather", "hide"), leather, ("colour",), {"cells": (8.0, 26.0), "depth": (0.2, 0.7)}),
    Family(("mesh", "grid", "grille"), grid, ("colour", "gap"), {"pitch": (5.0, 18.0), "wire": (0.25, 0.6)}),
    Family(("corduroy", "ribbed cloth"), ribs, ("colour",), {"count": (6.0, 26.0), "depth": (0.15, 0.5)}),
    Family(("felt", "carpet"), felt, ("colour",), {"roughness": (0.04, 0.14)}),
    Family(("lacquer", "painted sheet", "plastic"), lacquer, ("colour",), {"gloss": (0.0, 0.3)}),
    Family(("chequered paper", "pattern"), chequers, ("colour", "other"), {"across": (3.0, 14.0)}),
    Family(("bricks", "masonry"), bricks, ("colour", "joint"), {"rows": (4.0, 11.0)}),
    one_thing("disc", "disc", "coin", "lid"),
    one_thing("ring", "ring", "washer", "gasket"),
    one_thing("plate", "plate", "box", "cover"),
    one_thing("badge", "badge", "sign"),
    one_thing("gear", "gear", "cog wheel"),
    one_thing("bean", "bean", "pebble", "egg"),
    one_thing("star", "star", "medal"),
    one_thing("spike", "spike", "nail"),
    one_thing("cross", "cross", "bracket"),
    one_thing("frame", "frame", "bezel"),
    one_thing("rod", "rod", "tube"),
    one_thing("crescent", "crescent", "hook"),
    one_thing("tee", "handle", "lever"),
    many_things("spike", "spikes", "nails"),
    many_things("rod", "sticks", "tubes"),
    many_things("star", "stars", "blossoms"),
    many_things("frame", "frames", "eyelets"),
    many_things("disc", "buttons", "beads"),
    many_things("ring", "rings", "washers in rows"),
    many_things("plate", "bars", "blocks"),
    many_things("bean", "beans", "seeds"),
    Family(("panel", "keypad", "switches"), panel, ("colour", "ground", "knob"), {"across": (3, 5)}),
)  # fmt: skip

DEMO_COLOURS = np.array(
    [
        value
        for specs in DATASETS.values()
        for spec in specs
        for value in spec.look.values()
        if isinstance(value, tuple)
    ]
)


def draw_look(rng: Generator, family: Family) -> dict[str, object]:
    """Draw the parameters of one scene of a family."""
    look: dict[str, object] = {name: draw_colour(rng) for name in family.colours}
    for name, (low, *rest) in family.ranges.items():
        if isinstance(family.ranges[name], list):
            look[name] = family.ranges[name][rng.integers(1 + len(rest))]
        elif isinstance(low, int):
            look[name] = int(rng.integers(low, rest[0] + 1))
        else:
            look[name] = rng.uniform(low, rest[0])
    return look


def draw_colour(rng: Generator) -> Colour:
    """Draw any colour, half of them greyish, that is none of the demo sets'."""
    while True:
        saturation = rng.uniform(*(HUED if rng.uniform() < 0.5 else GREYISH))
        colour = colorsys.hsv_to_rgb(rng.uniform(), saturation, rng.uniform(0.12, 0.95))
        if np.abs(DEMO_COLOURS - colour).max(axis=1).min() > APART:
            return colour
