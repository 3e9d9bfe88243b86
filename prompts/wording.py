"""What is said to a language model that describes anomalies, word for word (FiLo, section 3.2; FADE, 3.2)."""

import json
from collections.abc import Sequence

RULES = """\
Every description
- names one defect that can be seen in a single photograph and pointed at: nothing one would have to smell, \
hear, taste, feel, weigh or measure;
- says on which part of the object, or where on it, the defect is;
- is a short English phrase of three to eight words that completes "a photograph of the object with ...";
- has small letters only and no punctuation;
- does not repeat the name of the object, and does not say where in the picture it is, such as "top left".

For a hex key these would be good: "a rounded tip", "rust at the bend", "a burr on the cut end". Let all \
descriptions be of different defects."""

STATES = {
    "normal": "of what is exactly as it should be, with nothing wrong",
    "abnormal": "of what visibly is not as it should be: damaged, faulty, dirty, incomplete or misplaced",
}
SENTENCE_RULES = """\
Every sentence
- completes "a photo of a ..." in three to fifteen words, so it begins without an article;
- says something that can be seen in a single photograph: nothing one would have to smell, hear, taste, \
feel, weigh or measure;
- holds for many different objects: it may say "part" or "surface", but names no particular product;
- has small letters only and no punctuation but commas.

Let all sentences say different things, and use varied words."""


def request(names: Sequence[str], count: int) -> str:
    """Ask for `count` descriptions for each of `names`, in one JSON object."""
    listed = "\n".join(f"- {name}" for name in names)
    return (
        "A program looks for defects in photographs of manufactured objects and materials, and must be told "
        f"what it may find. For each of these, give {count} descriptions of what can be visibly wrong:\n\n"
        f"{listed}\n\n{RULES}\n\n{_form(names)}"
    )


def request_sentences(kinds: Sequence[str], about: str, count: int) -> str:
    """Ask for `count` sentences of each of `kinds`, which are keys of `STATES`, in one JSON object."""
    listed = "\n".join(f"- {kind}: {STATES[kind]}" for kind in kinds)
    return (
        "A program tells normal photographs from abnormal ones by comparing them with sentences. These are "
        f"about {about}. Give {count} sentences for each of these:\n\n{listed}\n\n{SENTENCE_RULES}\n\n"
        f"{_form(kinds)}"
    )


def repair(name: str, kept: Sequence[str], faults: Sequence[str], count: int) -> str:
    """Ask for `count` descriptions in place of those with `faults`; `kept` are not to be said again."""
    wish = f"Give {count} further descriptions for {name}, each of another defect."
    return _repair(wish, name, kept, faults, RULES)


def repair_sentences(kind: str, about: str, kept: Sequence[str], faults: Sequence[str], count: int) -> str:
    """Ask for `count` sentences in place of those with `faults`; `kept` are not to be said again."""
    wish = f"Give {count} further sentences {STATES[kind]}. They are about {about}."
    return _repair(wish, kind, kept, faults, SENTENCE_RULES)


def _repair(wish: str, name: str, kept: Sequence[str], faults: Sequence[str], rules: str) -> str:
    listed = "\n".join(f"- {fault}" for fault in faults)
    known = f"These are kept, do not repeat them: {json.dumps(list(kept))}. " if kept else ""
    return f"Not all of that can be used:\n{listed}\n\n{known}{wish}\n\n{rules}\n\n{_form([name])}"


def _form(names: Sequence[str]) -> str:
    """Show the JSON that is wanted, with the very keys by which the answer will be read."""
    lists = ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: [..., ...]" for name in names)
    return f"Answer with JSON alone, with exactly these keys:\n\n{{\n{lists}\n}}"


def excerpt(text: str, length: int = 80) -> str:
    """Quote foreign text in one line that is safe to print."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return repr(plain if len(plain) <= length else plain[: length - 3] + "...")
