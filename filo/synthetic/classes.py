"""Which classes the two demo sets have: object, parameters and kinds of defects, as data."""

from collections.abc import Callable
from dataclasses import dataclass, field

from filo.synthetic.board import circuit_board
from filo.synthetic.canvas import Scene
from filo.synthetic.materials import tiles, wood, woven
from filo.synthetic.objects import biscuit, capsules, hex_nut, tea_lights


@dataclass(frozen=True)
class ClassSpec:
    """One class of a demo set.

    `draw` is called as `draw(rng, side, **look)`; `kinds` are keys of `filo.synthetic.defects.DEFECTS`, and
    the place of a kind in them, from 1, is its value in the masks of the VisA layout.
    "bent" and "missing_part" need an object with a background.
    """

    name: str
    draw: Callable[..., Scene]
    kinds: tuple[str, ...]
    look: dict[str, object] = field(default_factory=dict)


MVTEC = (
    ClassSpec(
        "fabric",
        woven,
        ("fraying", "hole", "stain", "contamination"),
        {
            "warp": (0.80, 0.76, 0.66),
            "weft": (0.76, 0.71, 0.60),
            "stripe": (0.20, 0.33, 0.55),
            "threads": 30,
            "every": 10,
        },
    ),
    ClassSpec(
        "wood",
        wood,
        ("crack", "hole", "scratch", "stain"),
        {"light": (0.80, 0.60, 0.38), "dark": (0.45, 0.27, 0.13), "rings": 22.0},
    ),
    ClassSpec(
        "wall_tile",
        tiles,
        ("crack", "missing_part", "misprint", "scratch"),
        {"glaze": (0.20, 0.50, 0.52), "grout": (0.80, 0.78, 0.74), "across": 3},
    ),
    ClassSpec(
        "hex_nut",
        hex_nut,
        ("bent", "missing_part", "scratch", "stain"),
        {"ground": (0.24, 0.26, 0.30), "metal": (0.66, 0.67, 0.68), "size": 0.62},
    ),
)
VISA = (
    ClassSpec(
        "tealight",
        tea_lights,
        ("contamination", "crack", "dent", "missing_part"),
        {"ground": (0.16, 0.19, 0.32), "wax": (0.93, 0.88, 0.76), "cup": (0.72, 0.72, 0.74)},
    ),
    ClassSpec(
        "capsules",
        capsules,
        ("bent", "dent", "misprint", "missing_part"),
        {
            "tray": (0.55, 0.62, 0.66),
            "left": (0.80, 0.20, 0.16),
            "right": (0.93, 0.85, 0.62),
            "columns": 3,
            "rows": 5,
        },
    ),
    ClassSpec(
        "circuit_board",
        circuit_board,
        ("bent", "missing_part", "scratch", "stain"),
        {"ground": (0.72, 0.72, 0.74), "mask": (0.07, 0.34, 0.20)},
    ),
    ClassSpec(
        "biscuit",
        biscuit,
        ("contamination", "crack", "hole", "missing_part"),
        {
            "ground": (0.62, 0.72, 0.80),
            "dough": (0.88, 0.68, 0.40),
            "crust": (0.55, 0.31, 0.12),
            "scallops": 28,
        },
    ),
)
DATASETS: dict[str, tuple[ClassSpec, ...]] = {"mvtec": MVTEC, "visa": VISA}
