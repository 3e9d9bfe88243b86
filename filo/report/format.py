"""How numbers and names are put in words, the same everywhere in a report."""

import re

MINUS = "\N{MINUS SIGN}"  # as wide as a digit's plus, unlike a hyphen
MEANING = {
    "auroc_px": "pixel AUROC",
    "f1_px": "pixel F1",
    "ap_px": "pixel AP",
    "aupro": "AUPRO",
    "aupro_legacy": "AUPRO, legacy",
    "auroc_sp": "image AUROC",
    "f1_sp": "image F1",
    "ap_sp": "image AP",
}


def points(difference: float) -> str:
    """Give a difference of shares in percentage points, signed."""
    return f"{round(100 * difference, 1) + 0:+.1f}".replace("-", MINUS)


def number(value: float | None, signed: bool = False) -> str:
    """Give a score or a cosine with three places."""
    if value is None:
        return "n/a"
    return f"{round(value, 3) + 0:{'+' if signed else ''}.3f}".replace("-", MINUS)  # + 0 turns -0 into 0


def anchor(class_name: str, number: int) -> str:
    """Give a class's place in the page a name that no other has, whatever it is called."""
    return f"class-{number}-{re.sub(r'[^a-z0-9]+', '-', class_name.lower()).strip('-')}"


def count(number: int, what: str) -> str:
    """Give `1 image`, `2 images`, `2 classes`."""
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number:,} {what if number == 1 else plural}"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
