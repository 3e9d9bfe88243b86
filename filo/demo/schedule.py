"""What changes in the course of pretraining: windows, learning rate, what cosines are multiplied by."""

import math
from typing import NamedTuple

from filo.demo.views import Scale

WARMUP = 60  # steps
LAST_RATE = 0.02  # as a share of the highest
SCALES = (14.3, 100.0)  # what cosines are multiplied by, first and last: where CLIP's own begins and ends
RISEN = 0.9  # of all steps are done when the last scale is reached


class Phase(NamedTuple):
    """Part of the training: windows of one scale, how many scenes a step, how many steps."""

    scale: Scale
    scenes: int
    steps: int


def plan(side: int, patch: int, scenes: int, small_steps: int, large_steps: int) -> list[Phase]:
    """Small windows of pictures, which are cheap, then nearly whole ones. What they show is as large in
    pixels as in whole pictures, some of it smaller; so what is learned holds for these, though no window is
    of their side, which would take longer.
    """
    small, large = (round(share * side / patch) * patch for share in (0.4, 0.75))
    return [
        Phase(Scale(0.35, 0.7, small), scenes, small_steps),
        Phase(Scale(0.7, 1.0, large), max(scenes // 2, 1), large_steps),
    ]


def phase_at(phases: list[Phase], step: int) -> Phase:
    """Return the phase that a step belongs to."""
    for phase in phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    raise ValueError("there are fewer steps")


def rate_at(step: int, total: int) -> float:
    """Return the share of the highest learning rate: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / WARMUP)
    return rise * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / total)))


def scale_at(step: int, total: int) -> float:
    """Return what cosines are multiplied by.

    A small CLIP left alone stays near the first value. FiLo's maps multiply by the last one, and would be
    nothing but 0 and 1 with features that are as far apart as these.
    """
    return SCALES[0] * (SCALES[1] / SCALES[0]) ** min(1.0, step / max(RISEN * total, 1))
