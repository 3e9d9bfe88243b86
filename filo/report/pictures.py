"""How a run's small pictures get into a page: image and overlay side by side, so small that all fit."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from filo.markup import Markup, tag
from filo.plots import Scale, overlay
from filo.records import Record, Small, fit, read_small
from filo.report.run import Run

BUDGET = 22_000_000  # characters of all pictures of a page together
RUNGS = ((256, 80), (208, 72), (176, 64), (152, 56), (128, 46), (104, 36))  # longer side in pixels, quality
PROBES = 16  # pictures that tell how large the others will be
GAP = 4


class Album:
    """Turns records into pictures of one size for the whole page, as large as the budget allows.

    Where not even the smallest fit, the images with the highest scores of `records` have one.
    """

    def __init__(self, run: Run, scale: Scale, records: Sequence[Record]) -> None:
        self.run, self.scale = run, scale
        self.rung, self.mean = self._choose_rung(records)
        most = int(BUDGET / self.mean) if self.mean else 0
        ranked = sorted(records, key=lambda record: -record.score)[:most]
        self.wanted = {record.index for record in ranked}
        self.asked, self.left = len(records), BUDGET

    @property
    def has_pictures(self) -> bool:
        """The run kept some."""
        return self.mean > 0

    def picture(self, record: Record, about: str) -> Markup | None:
        """Give an `img` with everything in it; None if the run kept no picture or the page has no room."""
        small = read_small(self.run.folder, record) if record.index in self.wanted else None
        if small is None:
            return None
        data, size = _encode(_pair(record, small, self.scale, self.rung[0]), self.rung[1])
        if len(data) > self.left:
            return None
        self.left -= len(data)
        source = f"data:image/webp;base64,{data}"
        return tag(
            "img", src=source, width=size[0], height=size[1], loading="lazy", decoding="async", alt=about
        )

    def _choose_rung(self, records: Sequence[Record]) -> tuple[tuple[int, int], float]:
        """Choose the first rung that a sample says will do, and give the mean length of a picture on it."""
        step = max(1, len(records) // PROBES)
        probes = [(r, small) for r in records[::step] if (small := read_small(self.run.folder, r))]
        mean = 0.0
        for rung in RUNGS:
            lengths = [len(_encode(_pair(r, small, self.scale, rung[0]), rung[1])[0]) for r, small in probes]
            mean = float(np.mean(lengths)) * 1.05 if lengths else 0.0
            if mean * len(records) <= BUDGET:
                break
        return rung, mean


def _pair(record: Record, small: Small, scale: Scale, side: int) -> Image.Image:
    """Put the image beside its overlay, or above it where it is wide."""
    size = fit(small.image.size, side)
    image = small.image.resize(size, Image.Resampling.LANCZOS)
    factor = size[0] / max(1, record.size[0])
    boxes = [{"corners": [factor * corner for corner in box["corners"]]} for box in record.boxes]
    over = overlay(image, small.anomaly_map, scale, small.mask, boxes)
    wide = size[0] > 1.6 * size[1]
    whole = (size[0], 2 * size[1] + GAP) if wide else (2 * size[0] + GAP, size[1])
    canvas = Image.new("RGBA", whole)  # what lies between the two is transparent, on a dark page as well
    canvas.paste(image)
    canvas.paste(over, (0, size[1] + GAP) if wide else (size[0] + GAP, 0))
    return canvas


def _encode(picture: Image.Image, quality: int) -> tuple[str, tuple[int, int]]:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3)
    return base64.b64encode(buffer.getvalue()).decode(), picture.size
