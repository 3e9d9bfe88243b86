"""Which class is meant by a name, and what is known of it: its texts, or the general states alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filo.all_methods import Config
from filo.errors import InputError
from filo.prompts import FOLDER, ClassTexts, PromptBook, agnostic_texts, fill_texts, spoken


@dataclass(frozen=True)
class NamedClass:
    """A class as it was understood.

    Attributes:
        name: its key in a prompt file; as it is spoken where nobody described it
        origin: the prompt files its texts are filled from, templates.json first
        note: what a user should know of the texts, in one line; "" if all is well
        found_in: the file of the folder prompts/ that describes it, where nobody named that file
    """

    name: str
    texts: ClassTexts
    origin: tuple[Path, ...]
    note: str = ""
    found_in: Path | None = None


def find_class(
    name: str, prompts: Sequence[Path], config: Config, fill: Callable[[str], ClassTexts] | None = None
) -> NamedClass:
    """Find a class by its key or its spoken name, in `prompts` if they have it, otherwise in the one file of
    the folder prompts/ that does; failing that, fill the general states for it.

    Capitals do not count, and `_` is a blank. To a method that asks the same of all classes, or whose texts
    `fill` makes from a class's spoken name, a file gives just key and name, if it is one.

    Raises:
        InputError: the name is empty, or several classes answer to it.
    """
    name = spoken(name)
    if not name:
        raise InputError(
            "the class has no name: say what is in the pictures, such as --class 'metal bracket'"
        )
    found = _look_in([PromptBook(prompts)], name) if prompts else []
    is_named = bool(found)
    for files in _own_files():
        found = found or _look_in([PromptBook([path]) for path in files], name)
    if config.is_agnostic or fill:
        keys = {key: book.classes[key].name for book, key in found}
        key, word = keys.popitem() if len(keys) == 1 else (name.lower(), name.lower())
        return NamedClass(key, fill(word) if fill else agnostic_texts(config.normal, config.abnormal), ())
    if len(found) > 1:
        raise InputError(_explain_choice(name, found))
    if not found:
        return _general(name.lower(), PromptBook(prompts), config)  # as CLIP reads it
    book, key = found[0]
    if not book.classes[key].descriptions:
        return _general(book.classes[key].name, book, config, key)
    quirks = (config.templates, config.share_descriptions_by_name)
    texts = book.texts([key], *quirks, config.described, not config.learned_template)
    return NamedClass(key, texts[key], book.files, found_in=None if is_named else book.paths[-1])


def _own_files() -> tuple[list[Path], list[Path]]:
    """The files of prompts/, those of drawn pictures apart: their classes are called as real ones are, which
    are more likely to be meant. The imported published lists are used where they are asked for alone.
    """
    files = [path for path in sorted(FOLDER.glob("*.json")) if path.stem != "templates"]
    drawn = [path for path in files if path.stem.startswith("demo_")]
    real = [path for path in files if path not in drawn and not path.stem.startswith("official_")]
    return real, drawn


def _look_in(books: Sequence[PromptBook], name: str) -> list[tuple[PromptBook, str]]:
    """Give every class that answers to a name: by its key, or if none does, by its spoken name."""
    by_key = [(book, key) for book in books for key in book.classes if _fold(key) == _fold(name)]
    by_name = [
        (book, key)
        for book in books
        for key, prompt in book.classes.items()
        if _fold(prompt.name) == _fold(name)
    ]
    found = by_key or by_name
    is_same = len({(key, book.classes[key]) for book, key in found}) == 1  # whichever file it is taken from
    return found[:1] if is_same else found


def _fold(name: str) -> str:
    return spoken(name).casefold()


def _explain_choice(name: str, found: Sequence[tuple[PromptBook, str]]) -> str:
    keys = list(dict.fromkeys(key for _, key in found))
    if len(keys) > 1:
        return f"the class {name!r} may be any of {', '.join(keys)}: give one of these names"
    files = ", ".join(str(book.paths[-1]) for book, _ in found)
    return f"the class {name!r} is described differently in {files}: name one of them by --prompts"


def _general(name: str, book: PromptBook, config: Config, key: str | None = None) -> NamedClass:
    phrases = book.phrases(key) if key else book.templates["detector"]
    templates = (book.templates, config.templates, name)
    texts = fill_texts(*templates, (), phrases, fixed=not config.learned_template)
    note = (
        f"nobody described the class {name!r}, so only the general states are looked for and no kind is "
        "named; prompts/README.md shows how to describe it"
    )
    return NamedClass(key or name, texts, book.files, note)
