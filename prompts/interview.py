"""How long is a model asked for one list, and what is it told when its answer cannot be used?"""

from collections.abc import Callable, Sequence

import wording
from ask import Answer
from review import read_lists
from topics import Topic

MOST_FAULTS = 20  # told to the model; a list of ninety may have as many, mostly of one kind
LONGEST_QUOTE = 4000  # characters of an answer sent back; one that ran on would fill the model's context


class Unusable(Exception):
    """The model answers, but with too few usable texts; the message is one line."""


def interview(
    ask: Callable[[list[dict]], Answer], topic: Topic, count: int, attempts: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Give `count` usable texts of a topic, and what was said: pairs of request and answer.

    Usable texts are kept from one answer to the next, so that only the rest is asked for again.

    Raises:
        Unusable: after `attempts` answers there are still too few.
    """
    said = first = topic.request(count)
    messages = [_message("user", first)]
    kept, talk, faults = [], [], []
    for _ in range(attempts):
        answer = ask(messages)
        talk.append((said, answer.text))
        found = read_lists(answer.text, [topic.name]).get(topic.name)
        usable, faults = topic.review(found or (), kept)
        kept += usable
        if len(kept) >= count:
            return kept[:count], talk
        faults = faults or [answer.trouble or why_too_few(found, answer.text)]
        said, messages = first, messages[:1]
        if answer.text.strip():  # some servers take no empty message of the model's
            said = topic.repair(kept, faults[:MOST_FAULTS], count - len(kept))
            quoted = answer.text[:LONGEST_QUOTE]
            messages = [messages[0], _message("assistant", quoted), _message("user", said)]
    raise Unusable(lacking(topic, len(kept), count, faults))


def why_too_few(found: Sequence | None, answer: str) -> str:
    """Say what is wrong with an answer none of whose texts is at fault."""
    if found is None:
        return f"there is no JSON with its list in {wording.excerpt(answer)}"
    return f"its list has only {len(found)}"


def lacking(topic: Topic, usable: int, count: int, faults: Sequence[str]) -> str:
    shown = "; ".join(faults[:2]) + (f"; and {len(faults) - 2} more" if len(faults) > 2 else "")
    return f"{topic.name}: {usable} of {count} {topic.texts} usable ({shown})"


def _message(role: str, text: str) -> dict:
    return {"role": role, "content": text}
