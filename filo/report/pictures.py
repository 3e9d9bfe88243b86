"""How a run's small pictures get into a page: image and overlays side by side, so small that all fit."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from filo.markup import Markup, tag
from filo.plots import Scale, overlay
from filo.records import Record, Small, fit, read_small
from filo.report.beside import Beside
from filo.report.run import Run

BUDGET = 22_000_000  # characters of all pictures of a page together
RUNGS = ((256, 80), (208, 72), (176, 64), (152, 56), (128, 46), (104, 36))  # longer side in pixels, quality
PROBES = 16  # pictures that tell how large the others will be
GAP = 4


class Album:
    """Turns records into pictures of one size for the whole page, as large as the budget allows.

    Where not even the smallest fit, the images with the highest scores of `records` have one. `others` have
    their overlays beside the run's own.
    """

    def __init__(
        self, run: Run, scale: Scale, records: Sequence[Record], others: Sequence[Beside] = ()
    ) -> None:
        self.run, self.scale, self.others = run, scale, others
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
        data, size = _encode(self._draw(record, small, self.rung[0]), self.rung[1])
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
            lengths = [len(_encode(self._draw(r, small, rung[0]), rung[1])[0]) for r, small in probes]
            mean = float(np.mean(lengths)) * 1.05 if lengths else 0.0
            if mean * len(records) <= BUDGET:
                break
        return rung, mean

    def _draw(self, record: Record, small: Small, side: int) -> Image.Image:
        """The image, its overlay, and those of the others; one that has no map of it leaves a gap."""
        image = small.image.resize(fit(small.image.size, side), Image.Resampling.LANCZOS)
        overlays = [_overlay(image, record, small, self.scale)]
        for other in self.others:
            own = other.record_of(record)
            theirs = own and read_small(other.run.folder, own)
            overlays.append(theirs and _overlay(image, own, theirs, other.scale))
        return _strip(image, overlays)


def _overlay(image: Image.Image, record: Record, small: Small, scale: Scale) -> Image.Image:
    factor = image.width / max(1, record.size[0])
    boxes = [{"corners": [factor * corner for corner in box["corners"]]} for box in record.boxes]
    return overlay(image, small.anomaly_map, scale, small.mask, boxes)


def _strip(image: Image.Image, overlays: Sequence[Image.Image | None]) -> Image.Image:
    """Put the image beside its overlays, or above them where it is wide."""
    (width, height), count = image.size, 1 + len(overlays)
    is_wide = width > 1.6 * height
    step = (0, height + GAP) if is_wide else (width + GAP, 0)
    whole = (width + (count - 1) * step[0], height + (count - 1) * step[1])
    canvas = Image.new("RGBA", whole)  # what lies between them is transparent, on a dark page as well
    for number, picture in enumerate([image, *overlays]):
        if picture is not None:
            canvas.paste(picture, (number * step[0], number * step[1]))
    return canvas


def _encode(picture: Image.Image, quality: int) -> tuple[str, tuple[int, int]]:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3)
    return base64.b64encode(buffer.getvalue()).decode(), picture.size
