"""What does a prompt file hold already, by whom, and how is one more class put into it?"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filo.errors import InputError
from filo.files import write_text
from filo.prompts import PromptBook
from import_official import to_text

# how the source of an entry begins that describe.py wrote; the hash tells whether it was changed by hand
MARK, DIGEST = "Asked for by prompts/describe.py on", "sha256 of the descriptions:"
OWN = re.compile(rf"{re.escape(MARK)} .*? {DIGEST} ([0-9a-f]{{64}})", re.DOTALL)


@dataclass(frozen=True)
class Record:
    """How descriptions came about: `talk` are pairs of what was said to the model and what it answered."""

    model: str
    where: str
    date: str
    talk: tuple[tuple[str, str], ...]

    def source(self, texts: Sequence[str]) -> str:
        """Tell it in words, for a prompt file's `sources`; of the answers only hashes are kept."""
        turns = "; ".join(f"request {sha256(said)}, answer {sha256(answer)}" for said, answer in self.talk)
        return (
            f"{MARK} {self.date}. Model: {self.model}, {self.where}. {DIGEST} {sha256_of_texts(texts)}. "
            f"sha256 of {turns}. The first request: {self.talk[0][0]}"
        )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_texts(texts: Sequence[str]) -> str:
    return sha256("\n".join(texts))


def read(path: Path) -> dict:
    """Read a prompt file; where there is none, give an empty one.

    Raises:
        InputError: the file is something else, or says one thing twice.
    """
    if not os.path.exists(path):  # unlike Path.exists never fails, as for a name that is too long
        return {"dataset": path.stem, "sources": {}, "classes": {}}
    PromptBook([path])  # checks the classes
    content = load(path)
    if not isinstance(content.setdefault("sources", {}), dict):
        raise InputError(f"{path} is no prompt file: sources must be an object, as prompts/README.md shows")
    entries = content["classes"].values()
    sources = [d.get("source", "") for entry in entries for d in entry["descriptions"]]
    if wrong := [source for source in sources if not isinstance(source, str)]:
        raise InputError(f"{path} is no prompt file: a description's source is {wrong[0]!r}, wanted a text")
    return content


def load(path: Path) -> object:
    """Read the JSON of a file that is to be added to.

    Raises:
        InputError: it cannot be read, or says one thing twice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_refuse_twins)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}: mend it, or name another file by --out") from error


def _refuse_twins(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):  # writing the file would lose one
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} stands twice in one object")
    return content


def is_open(content: Mapping, key: str, renew: bool) -> bool:
    """Whether the class `key` is still to be described, or may be described anew."""
    entry = content["classes"].get(key)
    return not (entry and entry["descriptions"]) or (renew and is_own(content, key))


def is_own(content: Mapping, key: str) -> bool:
    """Whether an entry is as describe.py wrote it; one with a description changed or added by hand is not."""
    descriptions = content["classes"][key]["descriptions"]
    names = {description.get("source") for description in descriptions}
    source = content["sources"].get(names.pop()) if len(names) == 1 else None
    return is_as_written(source, [d["text"] for d in descriptions])


def is_as_written(source: object, texts: Sequence[str]) -> bool:
    """Whether a source says that describe.py wrote these very texts."""
    match = OWN.match(source) if isinstance(source, str) else None
    return bool(match) and match[1] == sha256_of_texts(texts)


def check_writable(path: Path) -> None:
    """Make the folder of `path`; raise `InputError` now rather than after an answer that was paid for."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}: choose another place by --out") from error


def put(path: Path, key: str, name: str, texts: Sequence[str], record: Record, renew: bool) -> bool:
    """Put a class into the file as it stands now; False if somebody else described it in the meantime."""
    content = read(path)
    if not is_open(content, key, renew):
        return False
    old = content["classes"].get(key, {})
    sources = content["sources"]
    content["classes"][key] = old | {"name": old.get("name", name), "descriptions": []}
    for unused in {d.get("source") for d in old.get("descriptions", [])} - _used(content):
        sources.pop(unused, None)
    source = free_name(f"{key} {record.date} {record.model}", sources)
    sources[source] = record.source(texts)
    content["classes"][key]["descriptions"] = [{"text": text, "source": source} for text in texts]
    write_text(path, to_text(content))
    return True


def _used(content: Mapping) -> set[str]:
    return {d.get("source") for entry in content["classes"].values() for d in entry["descriptions"]}


def free_name(name: str, taken: Mapping) -> str:
    """Give `name`, with a number if there is such a source already, as in a file copied together by hand."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(n for n in numbered if n not in taken)
