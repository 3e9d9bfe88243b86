"""What is said of a picture: sentences made of noun, colour, state, kind of defect and place."""

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from numpy.random import Generator
from torch import Tensor

from filo.clip.text import PLACEHOLDER

TEMPLATES = Path(__file__).resolve().parents[2] / "prompts" / "templates.json"
PLACED = 0.75  # how often the place of a defect is said
N_CTX = 12  # learned vectors that FiLo puts before a text
KINDS: dict[str, tuple[str, ...]] = {
    "scratch": ("a {t}scratch", "a long thin scratch", "{t}scratches", "several parallel scratches",
        "a {t}scrape", "a thin curved {t}line", "a {t}scratch across the surface"),
    "crack": ("a {t}crack", "a branching crack", "a jagged crack", "a {t}split", "a fracture",
        "a {t}crack through the surface"),
    "hole": ("a {t}hole", "a torn hole", "a hole with a pale rim", "a dark opening", "a puncture",
        "a hole in the middle"),
    "stain": ("a {t}stain", "a {t}spot", "a {t}patch", "a soaked {t}patch", "discolouration", "{t}residue",
        "a stain on the surface", "a patch of oil", "a rust stain", "a scorched patch"),
    "missing_part": ("a missing part", "a piece broken off", "a piece broken out of the edge",
        "a chipped edge", "a bite out of the edge", "a missing piece", "a missing corner",
        "a corner broken off", "an empty place", "a missing component", "a piece broken off the rim"),
    "dent": ("a dent", "a {t}hollow", "a dent in the surface", "a pressed hollow", "a shiny hollow",
        "a bump"),
    "contamination": ("{t}crumbs", "{t}specks of dirt", "a hair", "a hair on the surface", "{t}dirt",
        "foreign matter", "{t}specks", "a {t}hair lying on the surface", "{t}lint", "small {t}crumbs"),
    "bent": ("a bent edge", "a bent part", "a crooked part", "an edge pushed inwards", "a deformed edge",
        "a part lying crooked", "a part turned out of line", "a bent corner", "a twisted part",
        "a part askew"),
    "misprint": ("{t}letters", "printed {t}letters", "wrong letters", "smeared letters", "a misprint",
        "wrong letters printed on the surface", "smeared {t}ink"),
    "fraying": ("a frayed patch", "loose threads", "loose {t}threads", "a frayed seam",
        "threads standing off the surface", "a frayed patch of loose threads"),
}  # fmt: skip
NORMAL = (
    "normal {n}",
    "intact {n}",
    "clean {n}",
    "good {n}",
    "{n} in good condition",
    "{n} with nothing wrong",
)
DESCRIBED = ("damaged {n} with {d}", "{n} with {d}", "{d} on {n}", "broken {n}, {d}")
GENERAL = ("defective {n}", "faulty {n}", "abnormal {n}", "spoiled {n}")
UNNAMED = ("object", "item", "thing", "product", "part", "surface", "material")
# nouns that get no row of their own: they teach what a noun says that is not known
UNKNOWN = (
    "gizmo",
    "harbour",
    "violin",
    "turnip",
    "lantern",
    "walrus",
    "saddle",
    "bonnet",
    "pickle",
    "anchor",
)
TONES = ("dark", "black", "grey", "white", "pale", "bright", "red", "orange", "brown", "yellow", "green",
    "turquoise", "blue", "purple", "pink")  # fmt: skip


@dataclass(frozen=True)
class View:
    """What can be seen: a noun, its colour, the kind of defect with its tone, and where; "" for none."""

    noun: str
    colour: str
    kind: str = ""
    tone: str = ""
    place: str = ""


def colour_name(colour: tuple[float, float, float]) -> str:
    """Name an RGB colour of 0-1."""
    hue, saturation, value = colorsys.rgb_to_hsv(*map(float, colour))
    if value < 0.15:
        return "black"
    if saturation < 0.22:
        return "grey" if value < 0.72 else "white"
    names = ((0.03, "red"), (0.11, "orange"), (0.19, "yellow"), (0.45, "green"), (0.53, "turquoise"))
    names += ((0.70, "blue"), (0.82, "purple"), (0.94, "pink"), (1.01, "red"))
    name = next(name for end, name in names if hue <= end)
    return "brown" if name in ("orange", "red") and value < 0.6 and name == "orange" else name


class Captions:
    """Writes captions; among its sentences are those of FiLo, from prompts/templates.json."""

    def __init__(self) -> None:
        templates = json.loads(TEMPLATES.read_text(encoding="utf-8"))
        texts = templates["sets"]["official"]
        self.places: list[str] = templates["positions"]
        self.prefixes = ("", templates["fixed"], f"{PLACEHOLDER} " * N_CTX)
        self.normal = [*_short(texts["normal"]), *NORMAL]
        self.described = [*_short(texts["described"]) * 4, *DESCRIBED]
        self.general = [*_short(texts["general"]), *GENERAL]

    def write(self, rng: Generator, view: View) -> str:
        """Say in one of many ways what can be seen."""
        prefix = self.prefixes[rng.choice(3, p=(0.4, 0.2, 0.4))]
        noun = view.noun
        if rng.uniform() < 0.3:
            noun = str(rng.choice(UNNAMED if rng.uniform() < 0.3 else UNKNOWN))
        if view.colour and rng.uniform() < 0.6:
            noun = f"{view.colour} {noun}"
        if not view.kind:
            return f"{prefix}{fill(rng.choice(self.normal), n=noun)}."
        place = f" at {view.place}" if view.place and rng.uniform() < PLACED else ""
        if rng.uniform() < 0.2:
            return f"{prefix}{fill(rng.choice(self.general), n=noun)}{place}."
        tone = f"{view.tone} " if view.tone and rng.uniform() < 0.7 else ""
        what = fill(rng.choice(KINDS[view.kind]), t=tone)
        return f"{prefix}{fill(rng.choice(self.described), n=noun, d=what)}{place}."

    def words(self, nouns: tuple[str, ...]) -> str:
        """Give every word that may occur, but for the unknown nouns, in one text."""
        sentences = [*self.normal, *self.described, *self.general]
        phrases = [phrase for each in KINDS.values() for phrase in each]
        fields = {"n": "", "d": "", "t": ""}
        filled = [fill(each, **fields) for each in (*sentences, *phrases)]
        return " ".join([*self.prefixes, *filled, *self.places, *nouns, *UNNAMED, *TONES, "at . ,"])


def fill(sentence: str, **words: str) -> str:
    """Put words where their names stand in braces; whatever else is in braces stays as it is."""
    for name, word in words.items():
        sentence = sentence.replace("{" + name + "}", word)
    return str(sentence)


def _short(templates: list[str]) -> list[str]:
    return [each.replace("{class}", "{n}").replace("{description}", "{d}") for each in templates]


class Tokens:
    """CLIP's tokens cut to those in use: row 0 is any other, the end token still has the highest number."""

    def __init__(self, words: str) -> None:
        inner = open_clip.get_tokenizer("ViT-B-32").encode(words)
        start, end = open_clip.tokenize("")[0, :2].tolist()
        self.numbers: list[int] = sorted({*inner, start, end} - {0})
        self.row_of = torch.zeros(end + 1, dtype=torch.long)
        self.row_of[torch.tensor(self.numbers)] = torch.arange(1, len(self.numbers) + 1)
        self.placeholder = int(self.row_of[open_clip.tokenize(PLACEHOLDER)[0, 1]])

    def __len__(self) -> int:
        return 1 + len(self.numbers)

    def encode(self, texts: list[str]) -> Tensor:
        """Give rows (K, longest), 0 after the end."""
        full = open_clip.tokenize(texts)
        return self.row_of[full[:, : int(full.argmax(1).max()) + 1]]
