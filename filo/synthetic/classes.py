"""Which classes the two demo sets have: object, parameters and kinds of defects, as data."""

from collections.abc import Callable
from dataclasses import dataclass, field

from filo.synthetic.board import circuit_board
from filo.synthetic.canvas import Scene
from filo.synthetic.foods import chocolate, doughnut
from filo.synthetic.household import batteries, plasters, playing_card
from filo.synthetic.materials import tiles, wood, woven
from filo.synthetic.objects import biscuit, capsules, hex_nut, tea_lights
from filo.synthetic.patterns import knitted, wallpaper
from filo.synthetic.rows import dominoes, pencils
from filo.synthetic.textiles import quilt, wicker
from filo.synthetic.zips import zip_fastener


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
    ClassSpec(
        "dominoes",
        dominoes,
        ("bent", "dent", "missing_part", "scratch"),
        {"ground": (0.20, 0.36, 0.24), "bone": (0.90, 0.88, 0.80), "pip": (0.10, 0.10, 0.12)},
    ),
    ClassSpec(
        "pencils",
        pencils,
        ("bent", "contamination", "crack", "missing_part"),
        {"ground": (0.78, 0.74, 0.66), "paint_colour": (0.82, 0.56, 0.10), "wood": (0.86, 0.66, 0.44)},
    ),
    ClassSpec(
        "quilt",
        quilt,
        ("contamination", "fraying", "hole", "misprint"),
        {"cloth": (0.46, 0.34, 0.56), "thread": (0.80, 0.72, 0.82), "across": 3.4},
    ),
    ClassSpec(
        "wicker",
        wicker,
        ("contamination", "crack", "fraying", "hole"),
        {"straw": (0.84, 0.68, 0.40), "stake": (0.58, 0.40, 0.20), "stakes": 6, "strands": 11},
    ),
    ClassSpec(
        "playing_card",
        playing_card,
        ("bent", "dent", "scratch", "stain"),
        {"ground": (0.12, 0.30, 0.38), "card": (0.95, 0.94, 0.91), "red": (0.78, 0.10, 0.14)},
    ),
    ClassSpec(
        "zip",
        zip_fastener,
        ("bent", "contamination", "fraying", "missing_part"),
        {"ground": (0.70, 0.66, 0.60), "cloth": (0.14, 0.22, 0.42), "brass": (0.80, 0.66, 0.34)},
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
    ClassSpec(
        "knitwear",
        knitted,
        ("contamination", "fraying", "hole", "stain"),
        {"yarn": (0.60, 0.20, 0.28), "band": (0.86, 0.84, 0.78), "stitches": 17, "every": 12},
    ),
    ClassSpec(
        "wallpaper",
        wallpaper,
        ("crack", "hole", "scratch", "stain"),
        {"paper": (0.86, 0.83, 0.70), "print_colour": (0.30, 0.42, 0.36), "across": 5, "petals": 5},
    ),
    ClassSpec(
        "doughnut",
        doughnut,
        ("contamination", "dent", "missing_part", "stain"),
        {
            "ground": (0.44, 0.62, 0.66),
            "dough": (0.84, 0.58, 0.30),
            "icing": (0.92, 0.56, 0.66),
            "drizzle": (0.98, 0.94, 0.92),
        },
    ),
    ClassSpec(
        "chocolate",
        chocolate,
        ("crack", "misprint", "missing_part", "scratch"),
        {"ground": (0.50, 0.20, 0.24), "wrap": (0.84, 0.84, 0.86), "cocoa": (0.48, 0.28, 0.16)},
    ),
    ClassSpec(
        "batteries",
        batteries,
        ("bent", "dent", "misprint", "scratch"),
        {
            "ground": (0.30, 0.29, 0.33),
            "label": (0.16, 0.44, 0.40),
            "band": (0.88, 0.64, 0.24),
            "cap": (0.78, 0.78, 0.80),
        },
    ),
    ClassSpec(
        "plasters",
        plasters,
        ("bent", "fraying", "hole", "stain"),
        {"ground": (0.30, 0.40, 0.50), "strip": (0.88, 0.66, 0.50), "pad": (0.93, 0.80, 0.68)},
    ),
)
DATASETS: dict[str, tuple[ClassSpec, ...]] = {"mvtec": MVTEC, "visa": VISA}
