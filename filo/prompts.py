"""Which texts describe a class, and the vectors learned in front of them (FiLo, section 3.2).

Texts are data: `prompts/templates.json` holds the template sets and positions, `prompts/<dataset>.json` the
classes with spoken name and anomaly descriptions. They are filled in by plain replacement, never evaluated.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from filo.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "prompts"


def spoken(name: str) -> str:
    """Give a class's name as it is spoken: `_` is a blank, and there is one between words."""
    return " ".join(name.replace("_", " ").split())


@dataclass(frozen=True)
class ClassTexts:
    """All texts of one class.

    `abnormal` is ordered description by description, within one position by position, so those of position i
    are `abnormal[i :: len(positions)]`. `states` names, for each run of texts that differ in position alone,
    the description in it; a general one is empty. `phrases` are what a detector looks for: general words,
    then the class's own descriptions. `image_prompts` and `patch_prompts` are those of an ensemble in its
    order, each with its label, 0 normal and 1 abnormal.
    """

    normal: tuple[str, ...]
    abnormal: tuple[str, ...]
    positions: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    image_prompts: tuple[tuple[str, int], ...] = ()
    patch_prompts: tuple[tuple[str, int], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The descriptions, each once: what may be wrong with an object of this class."""
        return tuple(dict.fromkeys(state for state in self.states if state))

    def kind_of_each(self, positions: Sequence[int]) -> tuple[int, ...]:
        """Which of `kinds` each text of `abnormal_at(positions)` describes; -1 for a general one."""
        numbers = {kind: i for i, kind in enumerate(self.kinds)}
        of_state = [numbers.get(state, -1) for state in self.states]
        if positions:
            return tuple(of_state * len(positions))
        return tuple(number for number in of_state for _ in self.positions)

    def abnormal_at(self, positions: Sequence[int]) -> tuple[str, ...]:
        """The abnormal texts of these positions (indices), one after the other; all if there are none."""
        count = len(self.positions)
        if wrong := [position for position in positions if position not in range(count)]:
            raise ValueError(f"position {wrong[0]}: there are {count} positions, from 0")
        if not positions:
            return self.abnormal
        return tuple(text for position in positions for text in self.abnormal[position::count])


def fill_texts(
    templates: dict,
    set_name: str,
    name: str,
    descriptions: Iterable[str],
    phrases: Iterable[str] = (),
    fixed: bool = False,
) -> ClassTexts:
    """Fill one template set for a class of spoken `name`.

    Without descriptions the general states are left, or, where a set has none, its described ones cut off
    before the description. `fixed` puts templates.json's fixed words before every text, which stand where the
    learned vectors would. `phrases` are handed through.

    Raises:
        InputError: there is no such set.
    """
    if set_name not in templates["sets"]:
        known = ", ".join(templates["sets"])
        raise InputError(f"no set of templates is called {set_name!r}; prompts/templates.json has: {known}")
    chosen, descriptions = templates["sets"][set_name], list(descriptions)
    general = chosen["general"]
    if not descriptions and not general:
        general = [template.split(" with {description}")[0] for template in chosen["described"]]
    pairs = [(d, template) for d in descriptions for template in chosen["described"]]
    pairs += [("", template) for template in general]
    states = [_fill(template, name, d) for d, template in pairs]
    before = templates["fixed"] if fixed else ""
    return ClassTexts(
        normal=tuple(f"{before}{_fill(template, name)}." for template in chosen["normal"]),
        abnormal=tuple(
            f"{before}{state} at {position}." for state in states for position in templates["positions"]
        ),
        positions=tuple(templates["positions"]),
        phrases=tuple(phrases),
        states=tuple(description for description, _ in pairs),
    )


def agnostic_texts(normal: str, abnormal: str) -> ClassTexts:
    """The texts of any class of a method that asks the same of all: at every position the same."""
    positions = tuple(_read_json(FOLDER / "templates.json")["positions"])
    return ClassTexts((normal,), (abnormal,) * len(positions), positions, states=("",))


def _fill(template: str, name: str, description: str = "") -> str:
    """Replace both fields in one go, so that what is filled in is never taken for a field."""
    values = {"{class}": name, "{description}": description}
    return re.sub(r"\{class\}|\{description\}", lambda field: values[field[0]], template)


@dataclass(frozen=True)
class ClassPrompt:
    """One class of a prompt file: how it is called and what may be wrong with it."""

    name: str
    descriptions: tuple[str, ...]
    official_descriptions_of: str = ""


class PromptBook:
    """The classes of one or more prompt files; a later file overrides an earlier one class by class."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self.files = (FOLDER / "templates.json", *self.paths)
        self.templates = _read_json(self.files[0])
        self.classes: dict[str, ClassPrompt] = {}
        for path in self.paths:
            self.classes |= _read_classes(path)

    def texts(
        self,
        classes: Iterable[str],
        set_name: str,
        share_by_name: bool,
        described: bool = True,
        fixed: bool = False,
    ) -> dict[str, ClassTexts]:
        """Fill the texts of `classes`; `share_by_name` follows the files' `official_descriptions_of` lines.

        Without `described` the descriptions stay out of the texts; `fixed` as in `fill_texts`.

        Raises:
            InputError: a class is in none of the files, or there is nothing that may be wrong with it.
        """
        return {c: self._texts(c, set_name, share_by_name, described, fixed) for c in classes}

    def phrases(self, class_name: str) -> tuple[str, ...]:
        """What a detector looks for in a class: the general words, then the class's own descriptions."""
        return (*self.templates["detector"], *self._find(class_name).descriptions)

    def _texts(
        self, class_name: str, set_name: str, share_by_name: bool, described: bool, fixed: bool
    ) -> ClassTexts:
        prompt = self._find(class_name)
        source = prompt
        if share_by_name and prompt.official_descriptions_of:
            source = self._find(prompt.official_descriptions_of)
        descriptions = source.descriptions if described else ()
        phrases = self.phrases(class_name)
        texts = fill_texts(self.templates, set_name, prompt.name, descriptions, phrases, fixed)
        if described and not descriptions and not self.templates["sets"][set_name]["general"]:
            raise InputError(
                f"the class {class_name!r} has no descriptions, and the templates {set_name!r} need some; "
                "add them as prompts/README.md shows, or name a file that has them by --prompts"
            )
        return texts

    def _find(self, class_name: str) -> ClassPrompt:
        if class_name not in self.classes:
            files = ", ".join(str(path) for path in self.paths)
            raise InputError(
                f"the class {class_name!r} has no prompts in {files} "
                f"(classes there: {', '.join(self.classes)}); "
                f'add "{class_name}": {{"name": ..., "descriptions": [...]}} as prompts/README.md shows, '
                "or name a file that has it by --prompts"
            )
        return self.classes[class_name]


def find_prompt_file(dataset: str) -> Path:
    """Give `prompts/<dataset>.json`.

    Raises:
        InputError: there is none; the message names those there are.
    """
    path = FOLDER / f"{dataset}.json"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.json") if p.stem != "templates")
        raise InputError(
            f"no prompts for the dataset {dataset!r}: {path} does not exist (there are: {', '.join(known)}); "
            "write one as prompts/README.md shows, or name a file by --prompts"
        )
    return path


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such prompt file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error


def _read_classes(path: Path) -> dict[str, ClassPrompt]:
    content = _read_json(path)
    try:
        return {
            class_name: ClassPrompt(
                name=_text(entry["name"]),
                descriptions=tuple(_description(d["text"]) for d in entry["descriptions"]),
                official_descriptions_of=_text(entry.get("official_descriptions_of", "")),
            )
            for class_name, entry in content["classes"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no prompt file: wanted classes -> name and descriptions with text each "
            f"({type(error).__name__}: {error}); prompts/README.md shows the form"
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted a text, found {value!r}")
    return value


def _description(value: object) -> str:
    if not _text(value).strip():  # the detector would find it in everything
        raise TypeError("a description is empty")
    return value


class LearnablePrompt(nn.Module):
    """Context vectors in front of every text of one kind, shifted by the image (CoCoOp, as FiLo uses it).

    Shape:
        features: (B, D), global image features, L2-normalised
        output: (B, n_ctx, T)
    """

    def __init__(self, n_ctx: int, feature_width: int, text_width: int) -> None:
        super().__init__()
        self.ctx = nn.Parameter(torch.empty(n_ctx, text_width).normal_(std=0.02))
        hidden = max(1, feature_width // 16)
        self.meta_net = nn.Sequential(
            nn.Linear(feature_width, hidden), nn.ReLU(), nn.Linear(hidden, text_width)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.ctx + self.meta_net(features)[:, None]
