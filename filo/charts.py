"""How numbers become small drawings within a page (SVG), which take their colours from its style sheet.

Classes that a style sheet colours: `axis`, `grid`, `one`, `two` (lines), `normal`, `anomalous` (what is
counted or compared) and `threshold`. What differs in colour differs in form as well, for print and for
colour-blind readers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filo.markup import Markup, tag

WIDTH, HEIGHT = 240, 200
LEFT, RIGHT, TOP, BOTTOM = 36, 8, 8, 32  # margins of the drawn area
BINS = 30


@dataclass(frozen=True)
class Curve:
    """A line through `x` and `y`; `look` is `one` (solid) or `two` (dashed)."""

    x: Sequence[float]
    y: Sequence[float]
    look: str = "one"


def curve_chart(
    curves: Sequence[Curve], about: str, labels: tuple[str, str], x_max: float = 1.0, chance: bool = False
) -> Markup:
    """Draw curves in [0, x_max] x [0, 1]; `about` is for those who cannot see it, `labels` are of x and y.

    `chance` adds the diagonal that guessing gives.
    """
    frame = [_tick_x(share, f"{share * x_max:.3g}") for share in (0, 0.5, 1)]
    frame += [_tick_y(share, f"{share:g}") for share in (0, 0.5, 1)]
    if chance:
        corner = min(1, x_max)
        ends = {"x1": _x(0), "y1": _y(0), "x2": _x(corner / x_max), "y2": _y(corner)}
        frame.append(tag("line", class_="chance", **ends))
    lines = [tag("path", class_=f"line {curve.look}", d=_path(curve, x_max)) for curve in curves]
    return _figure(about, frame, lines, _names(*labels))


def histogram(
    upper: Sequence[float],
    lower: Sequence[float],
    span: tuple[float, float],
    about: str,
    threshold: float | None,
) -> Markup:
    """Draw how many values lie where: `upper` rises from the middle line, `lower` hangs from it.

    Without `lower` the line is at the bottom. `span` is what the axis covers.
    """
    low, high = span if span[1] > span[0] else (span[0] - 0.5, span[0] + 0.5)
    counts = [np.histogram(values, BINS, (low, high))[0] for values in (upper, lower)]
    most = max(1, *(int(count.max()) for count in counts))
    base = 0.5 if len(lower) else 0.0
    bars = [_bars(counts[0], base, (1 - base) / most, "normal")]
    if len(lower):
        bars.append(_bars(counts[1], base, -base / most, "anomalous"))
    middle = tag("line", class_="axis", x1=_x(0), x2=_x(1), y1=_y(base), y2=_y(base))
    places = max(0, 2 - math.floor(math.log10(high - low)) - 1)
    ticks = [_tick_x(share, f"{low + share * (high - low):.{places}f}", grid=False) for share in (0, 0.5, 1)]
    mark = None
    if threshold is not None and low <= threshold <= high:
        x = _x((threshold - low) / (high - low))
        mark = tag("line", class_="threshold", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
    return _figure(about, ticks, bars, [middle, mark], _names("score", "images"))


def dumbbell(normal: float | None, anomalous: float | None, span: tuple[float, float], about: str) -> Markup:
    """Draw two values on one line as wide as its place: `normal` a ring, `anomalous` a dot."""
    places = {
        look: f"{3 + 94 * (value - span[0]) / ((span[1] - span[0]) or 1):.1f}%"
        for look, value in (("normal", normal), ("anomalous", anomalous))
        if value is not None
    }
    ends = list(places.values())
    line = tag("line", class_="between", x1=ends[0], x2=ends[-1], y1=8, y2=8) if ends else None
    dots = [tag("circle", class_=look, cx=x, cy=8, r=4.2) for look, x in places.items()]
    axis = tag("line", class_="grid", x1="0%", x2="100%", y1=8, y2=8)
    return tag("svg", tag("title", about), axis, line, dots, class_="dumbbell", height=16, role="img")


def colour_bar(colours: Sequence[str]) -> Markup:
    """Draw colours from left to right, as wide as their place."""
    starts = [100 * i / len(colours) for i in range(len(colours))]
    parts = [  # each up to the right end, so that no ground shines through between two
        tag("rect", x=f"{start:.2f}%", width=f"{100 - start:.2f}%", height=14, fill=colour)
        for start, colour in zip(starts, colours, strict=True)
    ]
    return tag("svg", tag("title", "colours from the low to the high end"), parts, class_="bar", role="img")


def _figure(about: str, *parts: object) -> Markup:
    box = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", tag("title", about), *parts, viewBox=box, class_="chart", role="img")


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _path(curve: Curve, x_max: float) -> str:
    points = zip(curve.x, curve.y, strict=True)
    return "M" + "L".join(f"{_x(x / x_max)} {_y(y)}" for x, y in points)


def _tick_x(share: float, value: str, grid: bool = True) -> Markup:
    anchor = {0: "start", 1: "end"}.get(share, "middle")
    text = tag("text", value, x=_x(share), y=HEIGHT - BOTTOM + 13, text_anchor=anchor)
    line = tag("line", class_="grid", x1=_x(share), x2=_x(share), y1=_y(0), y2=_y(1)) if grid else None
    return Markup(f"{line or ''}{text}")


def _tick_y(share: float, value: str) -> Markup:
    text = tag("text", value, x=LEFT - 5, y=_y(share) + 3.5, text_anchor="end")
    return Markup(tag("line", class_="grid", x1=_x(0), x2=_x(1), y1=_y(share), y2=_y(share)) + text)


def _names(x: str, y: str) -> list[Markup]:
    """Name the axes; the upright one is read from below."""
    middle = _y(0.5)
    return [
        tag("text", x, class_="name", x=_x(0.5), y=HEIGHT - 4, text_anchor="middle"),
        tag(
            "text", y, class_="name", x=9, y=middle, text_anchor="middle", transform=f"rotate(-90 9 {middle})"
        ),
    ]


def _bars(counts: np.ndarray, base: float, step: float, look: str) -> Markup:
    """Draw all bars of one sort as a single shape."""
    edges = np.linspace(0, 1, len(counts) + 1)
    outline = [f"M{_x(0)} {_y(base)}"]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        top = _y(base + step * count)
        outline.append(f"L{_x(left)} {top}L{_x(right)} {top}")
    return tag("path", class_=f"bars {look}", d="".join([*outline, f"L{_x(1)} {_y(base)}Z"]))
