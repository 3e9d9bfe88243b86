"""How an anomaly map becomes a picture.

Colours are those of inferno: their lightness rises evenly, so they keep their order for every kind of colour
vision and in grey. A whole run shares one `Scale`; a picture never gets its own, or a spotless part would
look as bad as a broken one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from filo.errors import InputError

STRONGEST = 0.8  # opacity of the highest value; the surface stays visible through it
BOX = (86, 180, 233)  # a blue that inferno has not
BINS = 1 << 16  # as many values as a run's small maps can hold
PAPER, INK = (255, 255, 255), (28, 27, 25)


@dataclass(frozen=True)
class Scale:
    """Which values get the first and the last colour, and where that comes from, in words.

    Raises:
        ValueError: `low` is not below `high`, or one of them is not finite.
    """

    low: float
    high: float
    origin: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a scale from {self.low} to {self.high}: wanted two rising numbers")

    def place(self, values: np.ndarray) -> np.ndarray:
        """Give where values lie on the scale, 0 to 1, those beyond its ends at the ends."""
        return ((np.asarray(values, np.float32) - self.low) / (self.high - self.low)).clip(0, 1)


NATURAL = Scale(0.0, 1.0, "the range a map can take")


def given_scale(ends: Sequence[float] | None) -> Scale | None:
    """Make the scale of the flag --scale, if it was given.

    Raises:
        InputError: it does not rise.
    """
    try:
        return None if ends is None else Scale(*ends, "given by --scale")
    except ValueError as error:
        raise InputError(f"--scale: {error}") from error


class MapValues:
    """Counts the values of many maps, in [0, 1], so that their quantiles can be told in little memory."""

    def __init__(self) -> None:
        self.counts, self.maps = np.zeros(BINS, np.int64), 0

    def add(self, anomaly_map: np.ndarray) -> None:
        levels = np.asarray(anomaly_map, np.float32).ravel().clip(0, 1) * (BINS - 1)
        self.counts += np.bincount(levels.round().astype(np.int64), minlength=BINS)
        self.maps += 1

    def quantile(self, share: float) -> float:
        """The value that `share` of all values do not exceed; 0 if there are none."""
        below = self.counts.cumsum()
        return int(np.searchsorted(below, share * below[-1])) / (BINS - 1)


def run_scale(maps: Iterable[np.ndarray]) -> Scale:
    """Choose the scale of a whole run from its maps, in [0, 1]: median to 99.9th percentile of all values.

    `NATURAL` if there are no maps or nearly all values are one.
    """
    values = MapValues()
    for anomaly_map in maps:
        values.add(anomaly_map)
    low, high = values.quantile(0.5), values.quantile(0.999)
    if low >= high:
        return NATURAL
    about = f"median and 99.9th percentile of all values in the {values.maps:,} maps of this run"
    return Scale(low, high, about)


def heatmap(anomaly_map: np.ndarray, scale: Scale) -> np.ndarray:
    """Colour a map (H, W): (H, W, 3) uint8 RGB."""
    return _inferno()[(scale.place(anomaly_map) * 255).round().astype(np.uint8)]


@cache
def _inferno() -> np.ndarray:
    """All 256 colours, RGB; OpenCV would make its table anew for every map."""
    return cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[0, :, ::-1].copy()


def overlay(
    image: Image.Image,
    anomaly_map: np.ndarray,
    scale: Scale,
    mask: np.ndarray | None = None,
    boxes: Sequence[dict] = (),
    caption: str = "",
) -> Image.Image:
    """Lay a map over an image (RGB): the higher a value, the more of its colour and the less of the image.

    Args:
        anomaly_map: of any height and width, resized to the image's
        mask: boolean, of any height and width; outlined in white and black
        boxes: with `corners`, XYXY in pixels of the image, and where they are to be told `score`, `phrase`
        caption: put below the image, which then is so much higher
    """
    values = cv2.resize(scale.place(anomaly_map), image.size, interpolation=cv2.INTER_LINEAR)
    opacity = STRONGEST * values[..., None]
    colours = heatmap(values, NATURAL)
    pixels = np.asarray(image.convert("RGB"), np.float32) * (1 - opacity) + colours * opacity
    pixels = np.ascontiguousarray(pixels.round().astype(np.uint8))
    if mask is not None:
        _outline(pixels, mask)
    picture = Image.fromarray(pixels)
    for box in reversed(boxes):  # the most likely on top
        _draw_box(picture, box)
    return _with_caption(picture, caption) if caption else picture


def with_bar(picture: Image.Image, scale: Scale) -> Image.Image:
    """Put a labelled colour bar beside a picture, and below it what the bar's ends are."""
    font = _font(picture)
    pad, bar = round(font.size * 0.8), font.size
    labels = [f"{scale.low + share * (scale.high - scale.low):.3g}" for share in (1, 0.5, 0)]
    wide = pad + bar + pad // 2 + math.ceil(max(font.getlength(label) for label in labels)) + pad
    canvas = Image.new("RGB", (picture.width + wide, picture.height), PAPER)
    canvas.paste(picture)
    height = max(1, picture.height - 2 * pad)
    ramp = heatmap(np.linspace(1, 0, height)[:, None].repeat(bar, 1), NATURAL)
    canvas.paste(Image.fromarray(ramp), (picture.width + pad, pad))
    draw, x = ImageDraw.Draw(canvas), picture.width + pad + bar + pad // 2
    for label, y, anchor in zip(
        labels, (pad, pad + height / 2, pad + height), ("la", "lm", "ld"), strict=True
    ):
        draw.text((x, y), label, INK, font, anchor)
    return _with_caption(canvas, f"colours: {scale.origin}", PAPER, INK)


def _outline(pixels: np.ndarray, mask: np.ndarray) -> None:
    """Draw a white line around what is masked and a black one around that: one of them is seen on any ground.

    Both lie outside, so that even a defect of a few pixels stays visible.
    """
    height, width = pixels.shape[:2]
    inner = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    thick = max(2, round(max(height, width) / 250))
    for colour, reach in ((255, thick), (0, thick // 2)):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        outer = cv2.dilate(inner, disc)
        pixels[outer > inner] = colour
        inner = outer


def _draw_box(picture: Image.Image, box: dict) -> None:
    draw, thin = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 300))
    left, top, right, bottom = (round(float(corner)) for corner in box["corners"])
    right, bottom = max(left, min(right, picture.width - 1)), max(top, min(bottom, picture.height - 1))
    draw.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=3 * thin)
    if right - left > 2 * thin and bottom - top > 2 * thin:
        draw.rectangle((left + thin, top + thin, right - thin, bottom - thin), outline=BOX, width=thin)
    label = " ".join(filter(None, [box.get("phrase", ""), f"{box['score']:.2f}" if "score" in box else ""]))
    if label:
        _label(draw, picture, (left, top), label)


def _label(draw: ImageDraw.ImageDraw, picture: Image.Image, corner: tuple[int, int], text: str) -> None:
    """Write on a dark plate above the corner, or below it at the upper edge, never beyond the right one."""
    font = _font(picture)
    text = _shorten(text, font, picture.width)
    wide, high = math.ceil(font.getlength(text)) + font.size // 2, round(font.size * 1.3)
    x = max(0, min(corner[0], picture.width - wide))
    y = corner[1] - high if corner[1] >= high else corner[1]
    draw.rectangle((x, y, x + wide, y + high), fill=INK)
    draw.text((x + font.size // 4, y + high / 2), text, BOX, font, "lm")


def _with_caption(picture: Image.Image, text: str, ground: tuple = INK, ink: tuple = PAPER) -> Image.Image:
    """Put text on a strip below, as many lines as it takes."""
    font = _font(picture)
    lines, step = _wrap(text, font, picture.width - font.size), round(1.35 * font.size)
    canvas = Image.new("RGB", (picture.width, picture.height + len(lines) * step + font.size // 2), ground)
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        y = picture.height + font.size / 4 + (number + 0.5) * step
        draw.text((font.size // 2, y), line, ink, font, "lm")
    return canvas


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(max(10, round(min(picture.size) / 36)))


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_shorten(line, font, width) for line in lines]


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
