"""Whether what a file says is of the very kinds that were written to it."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import get_origin

# what reading a file that is not whole, or none of ours, may raise
DAMAGES = (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError)


def kinds_of(kind: type) -> dict[str, type]:
    """Give the kinds of a dataclass's fields: `list` of one that is a `list[str]`."""
    return {each.name: get_origin(each.type) or each.type for each in fields(kind)}


def require_kinds(values: Mapping[str, object], kinds: Mapping[str, type]) -> None:
    """Raise `TypeError` or `KeyError` unless there is a value of each kind, where a float is finite; True is
    no int.
    """
    for name, kind in kinds.items():
        if type(values[name]) is not kind or (kind is float and not math.isfinite(values[name])):
            raise TypeError(f"{name} is {values[name]!r:.60}, wanted one {kind.__name__}")


def require_list(values: object, kind: type) -> None:
    """Raise `TypeError` unless it is a list of values of one kind, as in `require_kinds`."""
    require_kinds({"a list": values}, {"a list": list})
    require_kinds(dict(enumerate(values)), dict.fromkeys(range(len(values)), kind))
