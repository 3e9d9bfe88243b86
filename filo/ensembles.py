"""Which texts say normal and which abnormal, whatever the object is? (WinCLIP's ensemble; FADE, section 3.2)

An ensemble is one file of `prompts/ensembles/`: lists of prompts, in the form of the published FADE, or
states, each of which is put into every template. All is filled in by plain replacement, never evaluated.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filo.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "prompts" / "ensembles"
KINDS = ("normal", "abnormal")
CLASS_WORD, STATE = "{classname}", "{state}"  # where the object and a template's state are put
# what FADE tells whole images by, spoken with the class's name, and what patches, spoken with "object"
WINCLIP = ("winclip",)
HYBRID = (*WINCLIP, "surfaces", "assembly", "packaging", "reports", "photographs")


@dataclass(frozen=True)
class Ensemble:
    """The prompts of one file, in its order; none is left out for being there twice."""

    normal: tuple[str, ...]
    abnormal: tuple[str, ...]

    def speak(self, class_word: str) -> "Ensemble":
        """Put a class's spoken name wherever a prompt has the place `{classname}`."""
        return Ensemble(
            tuple(prompt.replace(CLASS_WORD, class_word) for prompt in self.normal),
            tuple(prompt.replace(CLASS_WORD, class_word) for prompt in self.abnormal),
        )


def read_texts(paths: Iterable[Path], class_word: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the normal and the abnormal texts of all files, file by file, for a class as it is spoken.

    A text that stands in several places is given as often, since means count it as often. They are texts as
    they stand in the files; "a photo of a ... ." is put around them by who encodes them.

    Raises:
        InputError: there is no file, or one of them is no ensemble.
    """
    spoken = [read_ensemble(path).speak(class_word) for path in paths]
    if not spoken:
        raise InputError("no ensemble is named, so no text says normal or abnormal: name one, as winclip")
    normal = tuple(text for ensemble in spoken for text in ensemble.normal)
    return normal, tuple(text for ensemble in spoken for text in ensemble.abnormal)


def find_ensemble(name: str) -> Path:
    """Give `prompts/ensembles/<name>.json`, or the file of that path.

    Raises:
        InputError: there is neither; the message names those there are.
    """
    path = FOLDER / f"{name}.json"
    if Path(name).name == name and path.is_file():
        return path
    if not Path(name).is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.json")))
        raise InputError(
            f"no ensemble {name!r}: it is neither a file nor one of prompts/ensembles/ (there are: {known}); "
            "prompts/README.md shows how one is made"
        )
    return Path(name)


def read_ensemble(path: Path) -> Ensemble:
    """Read one file; places for the class word stay in its prompts.

    Raises:
        InputError: it is missing, not readable, or no ensemble.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such ensemble; prompts/README.md shows which there are") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
    try:
        return Ensemble(*(prompts_of(content, kind) for kind in KINDS))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"nothing called {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} is no ensemble ({reason}): wanted normal and abnormal with prompts each, or with states "
            "and the templates they are put into; prompts/README.md shows the form"
        ) from error


def prompts_of(content: Mapping, kind: str) -> tuple[str, ...]:
    """Give the prompts of one kind from a file's content, template by template, within one state by state.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is of another form, or there are none.
    """
    part = content[kind]
    if "states" not in part:
        return _texts(part["prompts"], f"the prompts of {kind}")
    if "prompts" in part:
        raise ValueError(f"{kind} has both prompts and states")
    templates = _texts(content["templates"], "templates")
    if lost := [template for template in templates if STATE not in template]:
        raise ValueError(f"the template {lost[0]!r:.60} has no place {STATE}")
    states = _texts(part["states"], f"the states of {kind}")
    return tuple(template.replace(STATE, state) for template in templates for state in states)


def _texts(values: object, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{what} are {'empty' if values == [] else 'no list'}")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"among {what} is {value!r:.60}")
        value.encode()  # half a character, which JSON can spell, no tokenizer takes
    return tuple(values)
