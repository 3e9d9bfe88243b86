"""How the defects of each set look: sizes, angles, letters and colours, as data; no two sets share any."""

from dataclasses import dataclass

from numpy.random import Generator

from filo.synthetic.canvas import Colour

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DefectStyle:
    """What the defects of one set are drawn from.

    Sizes are spans in picture sides, `tilt` in degrees; a stain, dirt and ink have one of the two colours
    that stand out most where they lie.
    """

    scratch_length: Spans
    scratch_width: Spans
    crack_width: Spans  # at its beginning; it tapers off
    crack_hop: Spans  # between two of its corners
    hole_radius: Spans
    stain_radius: Spans
    bite_radius: Spans
    dent_radius: Spans
    crumb_radius: Spans
    hair_length: Spans
    tilt: Spans
    push_reach: Spans
    letter_size: Spans
    seam_length: Spans
    letters: str
    stains: tuple[Colour, ...]
    dirt: tuple[Colour, ...]
    inks: tuple[Colour, ...]


def pick(rng: Generator, spans: Spans) -> float:
    """Draw a number, each as likely as any other, from spans that may have gaps between them."""
    start = rng.uniform(0, sum(high - low for low, high in spans))
    for low, high in spans:
        if start <= high - low:
            break
        start -= high - low
    return min(low + start, high)


STYLES = {
    "mvtec": DefectStyle(
        scratch_length=((0.25, 0.42),),
        scratch_width=((0.0090, 0.0120),),
        crack_width=((0.013, 0.016),),
        crack_hop=((0.034, 0.040),),
        hole_radius=((0.050, 0.075),),
        stain_radius=((0.12, 0.19),),
        bite_radius=((0.09, 0.13),),
        dent_radius=((0.075, 0.10),),
        crumb_radius=((0.014, 0.022),),
        hair_length=((0.22, 0.30),),
        tilt=((28, 40),),
        push_reach=((0.19, 0.22),),
        letter_size=((0.062, 0.080),),
        seam_length=((0.15, 0.32),),
        letters="ABEHK2",
        stains=((0.36, 0.17, 0.06), (0.10, 0.09, 0.11), (0.12, 0.17, 0.42)),
        dirt=((0.07, 0.07, 0.08), (0.93, 0.92, 0.90), (0.62, 0.12, 0.12)),
        inks=((0.06, 0.06, 0.09), (0.93, 0.93, 0.92)),
    ),
    "visa": DefectStyle(
        scratch_length=((0.42, 0.60),),
        scratch_width=((0.0070, 0.0090),),
        crack_width=((0.016, 0.019),),
        crack_hop=((0.028, 0.034),),
        hole_radius=((0.030, 0.050),),
        stain_radius=((0.06, 0.12),),
        bite_radius=((0.06, 0.09),),
        dent_radius=((0.050, 0.075),),
        crumb_radius=((0.008, 0.014),),
        hair_length=((0.15, 0.22),),
        tilt=((18, 28),),
        push_reach=((0.16, 0.19),),
        letter_size=((0.050, 0.062),),
        seam_length=((0.08, 0.15),),
        letters="LRX358",
        stains=((0.50, 0.09, 0.10), (0.20, 0.12, 0.05), (0.16, 0.16, 0.18)),
        dirt=((0.10, 0.42, 0.16), (0.75, 0.12, 0.42), (0.14, 0.12, 0.10)),
        inks=((0.10, 0.14, 0.50), (0.86, 0.86, 0.80)),
    ),
    "pretraining": DefectStyle(
        scratch_length=((0.12, 0.25), (0.60, 0.85)),
        scratch_width=((0.0050, 0.0070), (0.0120, 0.0180)),
        crack_width=((0.009, 0.013), (0.019, 0.024)),
        crack_hop=((0.020, 0.028), (0.040, 0.052)),
        hole_radius=((0.020, 0.030), (0.075, 0.10)),
        stain_radius=((0.03, 0.06), (0.19, 0.25)),
        bite_radius=((0.04, 0.06), (0.13, 0.17)),
        dent_radius=((0.035, 0.050), (0.10, 0.14)),
        crumb_radius=((0.005, 0.008), (0.022, 0.032)),
        hair_length=((0.08, 0.15), (0.30, 0.42)),
        tilt=((12, 18), (40, 60)),
        push_reach=((0.12, 0.16), (0.22, 0.27)),
        letter_size=((0.038, 0.050), (0.080, 0.11)),
        seam_length=((0.05, 0.08), (0.32, 0.45)),
        letters="CDFGJMNPQSTUVWYZ014679",
        stains=(
            (0.42, 0.30, 0.04),
            (0.05, 0.30, 0.10),
            (0.30, 0.04, 0.34),
            (0.03, 0.03, 0.03),
            (0.60, 0.26, 0.02),
            (0.02, 0.26, 0.36),
            (0.26, 0.24, 0.22),
        ),
        dirt=(
            (0.02, 0.02, 0.02),
            (0.99, 0.98, 0.98),
            (0.10, 0.22, 0.62),
            (0.86, 0.52, 0.08),
            (0.32, 0.20, 0.08),
            (0.46, 0.60, 0.10),
            (0.70, 0.70, 0.72),
        ),
        inks=(
            (0.01, 0.01, 0.01),
            (0.50, 0.04, 0.06),
            (0.02, 0.36, 0.12),
            (0.98, 0.99, 0.98),
            (0.90, 0.80, 0.10),
        ),
    ),
}
