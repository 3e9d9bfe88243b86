"""What an evaluation finds about one class, and how that is read back from JSON."""

from dataclasses import dataclass

from filo.kinds import kinds_of, require_kinds, require_list
from filo.metrics import COLUMNS


@dataclass
class ClassResult:
    """Metrics of one class in [0, 1], None where undefined, and why; its curves as `class_curves` gives them,
    None unless they are wanted.
    """

    class_name: str
    normal: int
    anomalous: int
    metrics: dict[str, float | None]
    notes: list[str]
    curves: dict | None = None


def read_class_result(said: object) -> ClassResult:
    """Make a result of what JSON kept of one.

    Raises:
        ValueError, KeyError, TypeError: that was none.
    """
    result = ClassResult(**said)
    require_kinds(vars(result), kinds_of(ClassResult) | {"curves": _kind_or_none(result.curves, dict)})
    require_kinds(result.metrics, {name: _kind_or_none(result.metrics[name], float) for name in COLUMNS})
    require_list(result.notes, str)
    for of_level in (result.curves or {}).values():
        require_kinds({"curves": of_level}, {"curves": _kind_or_none(of_level, dict)})
        for x, y in (of_level or {}).values():
            require_list(x, float)
            require_list(y, float)
            if len(x) != len(y):
                raise ValueError(f"a curve of {len(x)} and {len(y)} values")
    return result


def _kind_or_none(value: object, kind: type) -> type:
    return type(None) if value is None else kind
