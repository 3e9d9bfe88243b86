"""What does an ensemble's file hold already, by whom, and how is one more list put into it?"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import entries
from entries import Record
from filo.ensembles import KINDS, prompts_of
from filo.errors import InputError
from filo.files import write_json


def read(path: Path, name: str) -> dict:
    """Read an ensemble of that name, of which a list may still be empty; where there is no file, give an
    empty one.

    Raises:
        InputError: the file is something else, or another ensemble.
    """
    if not os.path.exists(path):
        return {"ensemble": name, "sources": {}} | {kind: {"prompts": []} for kind in KINDS}
    content = entries.load(path)
    try:
        for kind in KINDS:
            if not is_empty(content, kind):
                prompts_of(content, kind)
            if not isinstance(content[kind].get("source", ""), str):
                raise TypeError(f"the source of {kind} must be a text")
        held, sources = content["ensemble"], content["sources"]
        if not isinstance(sources, dict):
            raise TypeError("sources must be an object")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no ensemble ({error}): mend it as prompts/README.md shows, or name another --out"
        ) from error
    if held != name:
        raise InputError(
            f"{path} holds the ensemble {held!r:.60}: add to it by --ensemble, or name another --out"
        )
    return content


def is_empty(content: Mapping, kind: str) -> bool:
    """Whether there is nothing of a kind yet."""
    return content[kind].get("prompts") == [] and "states" not in content[kind]


def is_open(content: Mapping, kind: str, renew: bool) -> bool:
    """Whether a list is still to be written, or may be written anew."""
    if is_empty(content, kind):
        return True
    source = content["sources"].get(content[kind].get("source"))
    return renew and entries.is_as_written(source, content[kind].get("prompts", []))


def prompts_in(content: Mapping, kind: str) -> list[str]:
    return [] if is_empty(content, kind) else list(prompts_of(content, kind))


def put(path: Path, name: str, kind: str, texts: Sequence[str], record: Record, renew: bool) -> bool:
    """Put a list into the file as it stands now; False if somebody else wrote it in the meantime."""
    content = read(path, name)
    if not is_open(content, kind, renew):
        return False
    sources = content["sources"]
    old = content[kind].get("source")
    if old not in [content[other].get("source") for other in KINDS if other != kind]:
        sources.pop(old, None)
    source = entries.free_name(f"{kind} {record.date} {record.model}", sources)
    sources[source] = record.source(texts)
    content[kind] = content[kind] | {"source": source, "prompts": list(texts)}
    write_json(path, content)
    return True
