"""What of a model's answer can be used? Lists are found in it, tidied, and held against the rules.

The rules are those of prompts/README.md: visible, short enough for CLIP and for a detector's caption, plain
words, the class not repeated, none twice; sentences may be longer, and name no class at all. Whether a
description is true of the object nobody checks here.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache

import open_clip

from filo.clip.text import PLACEHOLDER
from filo.methods.filo_config import FiLoConfig
from filo.prompts import FOLDER, PromptBook, fill_texts, spoken
from wording import excerpt

CONTEXT = 77  # tokens that CLIP reads
FEWEST_WORDS, MOST_WORDS = 2, 12  # one word has no place for where; long ones dilute the detector's caption
MOST_WORDS_OF_A_SENTENCE = 20
PLAIN = re.compile("[a-z0-9]+([ '-][a-z0-9]+)*")
PLAIN_SENTENCE = re.compile("[a-z0-9]+((, |[ '-])[a-z0-9]+)*")
AROUND = "a photo of a {}."  # what is put around every sentence before CLIP reads it
LEADING = re.compile("^(an? (photo|picture|photograph|image) of )?(an?|the) ")
LIST_MARK = re.compile(r"^\s*([-*\u2022]|\d+[.)])\s+")
TYPOGRAPHIC = str.maketrans({"\u2018": "'", "\u2019": "'", "\u2010": "-", "\u2011": "-"})
# what no photograph shows; words that can also be visible, such as cold in "a cold joint", are left out
NOT_VISIBLE = re.compile(
    r"\b(odou?rs?|smell\w*|scents?|stench|aroma|fragrance|sounds?|nois[ey]\w*|loud|rattl\w+|squeak\w*|creak\w*"
    r"|buzz\w*|humming|tast\w+|flavou?rs?|rancid|temperatures?|(over|under)?weights?|hardness|stiffness"
    r"|elasticity|viscosity|voltage|conductivity|vibrat\w+|(mal|dys)function\w*|invisible|undetectable)\b"
)


def read_lists(answer: str, names: Sequence[str]) -> dict[str, list]:
    """Find the list of each of `names` in an answer, however it is wrapped; names without one are left out.

    Keys may differ in capitals and underscores. An answer about a single class may also be a bare list or
    be called "descriptions". Where a class stands twice, as after thinking aloud, the last one counts.
    """
    values = _find_json(answer)
    pairs = [pair for value in values if isinstance(value, dict) for pair in value.items()]
    if len(names) == 1:
        pairs = [("descriptions", value) for value in values] + pairs
    lists = {spoken(key).casefold(): value for key, value in pairs if isinstance(value, list)}
    keys = {name: spoken(name).casefold() for name in names}
    found = {name: lists[key] for name, key in keys.items() if key in lists}
    if not found and len(names) == 1 and "descriptions" in lists:
        return {names[0]: lists["descriptions"]}
    return found


def _find_json(text: str) -> list:
    """Decode every JSON object in `text`; only where no brace opens, every list.

    A list within a broken object is not looked for: it may be of another class, or half of one.
    """
    opener = "{" if "{" in text else "["
    found, at = [], text.find(opener)
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
            found.append(value)
        except ValueError:
            end = at + 1
        except RecursionError:
            break
        at = text.find(opener, end)
    return found


def review(found: Sequence[object], name: str, known: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Part what was found for the class `name` into usable descriptions, tidied, and faults of the others.

    `known` are descriptions that the class has already.
    """
    return _part(found, known, tidy, lambda text, others: _fault(text, name, others))


def review_sentences(found: Sequence[object], known: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Part sentences that hold for every class in the same way."""
    return _part(found, known, lambda text: LEADING.sub("", tidy(text)), _sentence_fault)


def _part(
    found: Sequence[object],
    known: Sequence[str],
    tidied: Callable[[str], str],
    fault_of: Callable[[str, list[str]], str],
) -> tuple[list[str], list[str]]:
    kept, faults = [], []
    for each in found:
        text = tidied(each) if isinstance(each, str) else ""
        if fault := fault_of(text, [*known, *kept]):
            faults.append(f"{excerpt(str(each))} {fault}")
        else:
            kept.append(text)
    return kept, faults


def tidy(text: str) -> str:
    """Undo harmless deviations: capitals, a list's marks, a final stop, curly quotes, further blanks."""
    text = LIST_MARK.sub("", text.translate(TYPOGRAPHIC).lower())
    return " ".join(text.split()).rstrip(".;, ")


def _fault(text: str, name: str, others: Sequence[str]) -> str:
    """Say what is wrong with a tidied description; nothing if it can be used."""
    if not PLAIN.fullmatch(text):
        return "is not plain English words without punctuation"
    if fault := _fault_of_words(text, MOST_WORDS):
        return fault
    if repeats(text, name):
        return f"repeats the name {name}"
    if _core(text) in {_core(other) for other in others}:
        return "is there twice"
    if not fits(name, text):
        return f"is longer than CLIP's context of {CONTEXT} tokens allows"
    return ""


def _sentence_fault(text: str, others: Sequence[str]) -> str:
    """Say what is wrong with a tidied sentence; nothing if it can be used."""
    if not PLAIN_SENTENCE.fullmatch(text):
        return "is not plain English words with no punctuation but commas"
    if fault := _fault_of_words(text, MOST_WORDS_OF_A_SENTENCE):
        return fault
    if named := [name for name in _class_names() if repeats(text, name)]:
        return f"names a class ({named[0]}), and is to hold for all"
    if text in others:
        return "is there twice"
    if open_clip.tokenize(AROUND.replace("{}", text), context_length=CONTEXT + 1)[:, CONTEXT].any():
        return f"is longer than CLIP's context of {CONTEXT} tokens allows"
    return ""


def _fault_of_words(text: str, most: int) -> str:
    if not FEWEST_WORDS <= (length := len(text.split())) <= most:
        return f"has {length} words instead of {FEWEST_WORDS} to {most}"
    unseen = NOT_VISIBLE.search(text)
    return f"is nothing visible ({unseen[0]})" if unseen else ""


@cache
def _class_names() -> tuple[str, ...]:
    """How the classes of all files of prompts/ are spoken."""
    books = [PromptBook([path]) for path in sorted(FOLDER.glob("*.json")) if path.stem != "templates"]
    return tuple(dict.fromkeys(prompt.name for book in books for prompt in book.classes.values()))


def repeats(text: str, name: str) -> bool:
    """Whether a description says the class's name, in singular or plural, with hyphens or without."""
    singular = name.lower().removesuffix("s") or name
    parts = [re.escape(part) for part in singular.split()]
    return bool(re.search(rf"\b{'[ -]'.join(parts)}s?\b", text))


def _core(text: str) -> str:
    return re.sub("^(a|an|the) ", "", text)


def fits(name: str, description: str) -> bool:
    """Whether every text of every template set fits CLIP's context behind the default learned vectors."""
    templates = _longest_templates()
    vectors = " ".join([PLACEHOLDER] * FiLoConfig().n_ctx)
    texts = [
        f"{vectors} {text}"
        for chosen in templates["sets"]
        for text in fill_texts(templates, chosen, name, [description]).abnormal
    ]
    ids = open_clip.tokenize(texts, context_length=CONTEXT + 1)  # one more, since longer ones are cut
    return not ids[:, CONTEXT].any()


@cache
def _longest_templates() -> dict:
    """The template sets with one position alone, that of most tokens; the others then fit too."""
    templates = PromptBook([]).templates
    longest = max(templates["positions"], key=lambda position: open_clip.tokenize(position).count_nonzero())
    return templates | {"positions": [longest]}
