"""What can a language model be asked for? One list each: what to say, and which of its texts can be used."""

from collections.abc import Sequence
from dataclasses import dataclass

import wording
from review import review, review_sentences


@dataclass(frozen=True)
class Descriptions:
    """What can be wrong with one class; `name` is how it is spoken, and the key of its list in an answer."""

    name: str
    texts = "descriptions"

    def request(self, count: int) -> str:
        return wording.request([self.name], count)

    def repair(self, kept: Sequence[str], faults: Sequence[str], count: int) -> str:
        return wording.repair(self.name, kept, faults, count)

    def review(self, found: Sequence[object], kept: Sequence[str] = ()) -> tuple[list[str], list[str]]:
        return review(found, self.name, kept)


@dataclass(frozen=True)
class Sentences:
    """One kind of an ensemble's sentences; `name` is the kind, `about` their subject, and `others` what the
    ensemble says already, to which may be added while this is in use.
    """

    name: str
    about: str
    others: Sequence[str]
    texts = "sentences"

    def request(self, count: int) -> str:
        return wording.request_sentences([self.name], self.about, count)

    def repair(self, kept: Sequence[str], faults: Sequence[str], count: int) -> str:
        return wording.repair_sentences(self.name, self.about, kept, faults, count)

    def review(self, found: Sequence[object], kept: Sequence[str] = ()) -> tuple[list[str], list[str]]:
        return review_sentences(found, [*self.others, *kept])


Topic = Descriptions | Sentences
