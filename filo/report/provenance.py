"""Where a report's numbers come from: command, weights, versions, machine, time; all that repeats them."""

from collections.abc import Iterator

from filo.markup import Markup, join, tag
from filo.plots import Scale
from filo.report.format import duration
from filo.report.run import Run

TOLD_ELSEWHERE = {"classes", "mean", "notes", "images", "failed", "thresholds", "environment", "hashes"}
TOLD_ELSEWHERE |= {"images_failed", "reasons"}
FIRST = ("command", "method", "seed", "preset", "without", "seconds", "seconds_per_image", "peak_memory")
SPOKEN = {"seconds": "time", "seconds_per_image": "time per image"}
SHORT = 200  # characters that go into one line
FOLDED = {
    "arguments": "all arguments",
    "config": "the method's settings",
    "scoring": "what a score depends on",
    "trained": "the training run",
    "shard": "the shard",
    "shards": "the shards",
}


def provenance(run: Run, scale: Scale) -> Markup:
    """List what the run says about itself; what is long is folded."""
    return list_provenance(run.about | {"scale": f"{scale.low:.4g} to {scale.high:.4g}, {scale.origin}"})


def list_provenance(about: dict) -> Markup:
    """The same of whatever a results.json says."""
    known = TOLD_ELSEWHERE | set(FIRST) | set(FOLDED)
    others = {key: value for key, value in about.items() if key not in known}
    told = [
        ("", {key: about[key] for key in FIRST if key in about} | others),
        ("machine and versions", about.get("environment")),
        ("sha256 of", about.get("hashes")),
    ]
    return tag(
        "section",
        tag("h2", "Where the numbers come from"),
        [_definitions(title, values) for title, values in told if values],
        [_folded(title, about.get(key)) for key, title in FOLDED.items()],
        id="provenance",
    )


def _folded(title: str, values: dict | None) -> Markup | None:
    return tag("details", tag("summary", title), _definitions("", values)) if values else None


def _definitions(title: str, values: dict) -> Markup:
    rows = [
        [tag("dt", SPOKEN.get(key, key.replace("_", " "))), tag("dd", _shown(key, value))]
        for key, value in values.items()
    ]
    return tag("div", tag("h3", title) if title else None, tag("dl", rows), class_="facts")


def _shown(key: str, value: object) -> Markup | str:
    """Put a value in words; one that holds many others becomes a line for each."""
    if key == "command":
        return tag("code", str(value))
    if key in SPOKEN and isinstance(value, (int, float)):
        return duration(value)
    lines = list(_lines(value))
    is_short = sum(len(name) + len(text) for name, text in lines) < SHORT
    element = "span" if is_short else "div"
    return join(tag(element, tag("i", name) if name else None, text, " ") for name, text in lines)


def _lines(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Flatten a value into (dotted name, text)."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _lines(inner, f"{name} / {key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, "none" if value in (None, "", {}) else str(value)
