"""What is to be asked for, and where does it go? Descriptions of classes, or the lists of an ensemble."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import ensemble_file
import entries
import wording
from entries import Record
from filo.ensembles import KINDS
from filo.errors import InputError
from review import fits
from topics import Descriptions, Sentences


class ClassJob:
    """Descriptions of classes, for a prompt file.

    `topics` are those of the classes still to be described, by key; a name in the file is preferred.

    Raises:
        InputError: the file is no prompt file, or a name is too long for CLIP.
    """

    nouns = "classes", "described"
    counts = 5, 10, 8  # descriptions of a class: fewest, most, usual

    def __init__(self, path: Path | None, classes: Mapping[str, str], count: int, renew: bool) -> None:
        self.path, self.count, self.renew = path, count, renew
        content = entries.read(path) if path else {"classes": {}}
        wanted = {key: name for key, name in classes.items() if entries.is_open(content, key, renew)}
        self.settled = [key for key in classes if key not in wanted]
        named = {key: content["classes"].get(key, {}).get("name", name) for key, name in wanted.items()}
        if path and (long := [name for name in named.values() if not fits(name, "a dent")]):
            raise InputError(
                f"the class name {wording.excerpt(long[0])} leaves no room for a description in CLIP's "
                "context: give a shorter one"
            )
        self.topics = {key: Descriptions(name) for key, name in named.items()}

    def request(self) -> str:
        """Ask for everything at once, as in a chat window."""
        return wording.request([topic.name for topic in self.topics.values()], self.count)

    def put(self, key: str, texts: Sequence[str], record: Record) -> bool:
        """Write one list; False if somebody else did so in the meantime."""
        return entries.put(self.path, key, self.topics[key].name, texts, record, self.renew)


class EnsembleJob:
    """The normal and the abnormal sentences of an ensemble, for a file of its own.

    `topics` are those of the lists still to be written.

    Raises:
        InputError: the file is no ensemble, or another one; `name` or `about` is no line of words.
    """

    nouns = "lists", "written"
    counts = 10, 200, 90  # sentences of each kind: fewest, most, usual

    def __init__(self, path: Path | None, name: str, about: str, count: int, renew: bool) -> None:
        self.path, self.name, self.about, self.count, self.renew = path, name, about, count, renew
        for flag, text in (("--ensemble", name), ("--about", about)):
            if not text.strip() or not text.isprintable():
                raise InputError(f"{flag} {wording.excerpt(text)}: wanted words in one line")
        content = ensemble_file.read(path, name) if path else None
        wanted = [kind for kind in KINDS if not content or ensemble_file.is_open(content, kind, renew)]
        self.settled = [kind for kind in KINDS if kind not in wanted]
        self.said = [text for kind in self.settled for text in ensemble_file.prompts_in(content, kind)]
        self.topics = {kind: Sentences(kind, about, self.said) for kind in wanted}

    def request(self) -> str:
        """Ask for everything at once, as in a chat window."""
        return wording.request_sentences(list(self.topics), self.about, self.count)

    def put(self, key: str, texts: Sequence[str], record: Record) -> bool:
        """Write one list; False if somebody else did so in the meantime."""
        self.said += texts
        return ensemble_file.put(self.path, self.name, key, texts, record, self.renew)


Job = ClassJob | EnsembleJob


def say_settled(job: Job, is_aside: bool) -> None:
    """Say what is left as it is; beside a text that is to be pasted on stderr."""
    if job.settled:
        how = "by hand" if job.renew else "already"
        message = f"{job.nouns[1]} {how} in {job.path}, left as they are: {', '.join(job.settled)}"
        print(message, file=sys.stderr if is_aside else sys.stdout)
