"""Is every image and mask of a dataset sound? Read them all with a thread pool and name each fault."""

import io
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

SHOWN = 20  # lines per kind of problem; a broken download would otherwise scroll the summary away

# The formats and the limit of the loader, `filo.transforms`; these scripts run without it.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 16384**2

# Every kind of problem and what becomes of the image.
KINDS = {
    "missing file": "left out",
    "missing folder": "its images are not in meta.json",
    "unreadable image": "left out",
    "unreadable mask": "image left out",
    "mask of another size": "image left out",
    "image listed twice": "the second left out",
    "image in no list": "left out",
    "image outside a kind folder": "left out",
    "anomalous image in train": "left out",
    "unknown image suffix": "left out",
    "image without label": "left out, being neither normal nor anomalous for certain",
    "folder not used": "left out",
    "kind folder without images": "nothing to use",
    "empty class": "left out",
    "anomalous image without mask": "kept, for image-level evaluation only",
    "mask claimed by two images": "images kept without it",
    "two masks for one image": "the first by name is used",
    "mask without image": "not used",
    "blank mask of an anomalous image": "kept as published",
}
LEFT_OUT = {"missing file", "unreadable image", "unreadable mask", "mask of another size"}


class LayoutError(Exception):
    """The dataset or a flag is wrong; the message is one line that says what was wanted."""


@dataclass(frozen=True)
class Part:
    """A band of a picture over its whole width: of `count` of equal height the `index`-th from the top."""

    source: Path
    index: int
    count: int

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) within a picture of `size`, (width, height)."""
        width, height = size
        return 0, self.index * height // self.count, width, (self.index + 1) * height // self.count

    def read(self) -> Image.Image:
        picture = read_image(self.source)
        return picture.crop(self.box(picture.size))


@dataclass(frozen=True)
class Item:
    """One image as a layout names it; both paths lie under the root.

    With `part` the image does not exist yet: it is cut out of a picture and written to `image`.
    With `draw` the mask does not exist yet: `draw((width, height))` gives it and it is written to `mask`.
    An anomalous image without mask is a problem unless `expects_mask` is False.
    """

    split: str
    cls_name: str
    specie_name: str
    anomaly: int
    image: Path
    mask: Path | None = None
    draw: Callable[[tuple[int, int]], Image.Image] | None = None
    expects_mask: bool = True
    part: Part | None = None

    @property
    def source(self) -> Path:
        """The published file that shows the image."""
        return self.part.source if self.part else self.image


@dataclass(frozen=True)
class Finding:
    """What reading one item showed: `kind` is a key of `KINDS`, or '' for a sound image."""

    item: Item
    kind: str = ""
    path: Path | None = None
    detail: str = ""
    drawn: bytes | None = None

    @property
    def is_kept(self) -> bool:
        return self.kind not in LEFT_OUT


class Problems:
    """Everything wrong with a dataset, counted per class and printed once at the end."""

    def __init__(self, root: Path):
        self.root = root
        self.found: list[tuple[str, str, str]] = []  # (kind, class, line)

    def add(self, kind: str, cls_name: str, path: Path, detail: str = "") -> None:
        if kind not in KINDS:
            raise KeyError(f"unknown kind of problem: {kind}")
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        self.found.append((kind, cls_name, f"{name} ({detail})" if detail else name))

    def count(self, cls_name: str) -> int:
        return sum(cls == cls_name for _, cls, _ in self.found)

    def show(self) -> None:
        """Print one line each on stderr, sorted, at most `SHOWN` of a kind and then their number."""
        for kind, fate in KINDS.items():
            lines = sorted(line for found, _, line in self.found if found == kind)
            for line in lines[:SHOWN]:
                print(f"{kind}: {line} - {fate}", file=sys.stderr)
            if len(lines) > SHOWN:
                print(f"{kind}: ... and {len(lines) - SHOWN} more, {len(lines)} in all", file=sys.stderr)


def check(items: list[Item], problems: Problems, quick: bool, largest: int = LARGEST) -> list[Finding]:
    """Read every image and mask; the findings keep the order of the items.

    `quick` reads only headers: sizes are still compared, damaged or blank pixels go unseen. An image of more
    than `largest` pixels counts as unreadable.
    """
    items = without_shared_masks(without_strays(items, problems), problems)
    # Pillow decodes outside the interpreter lock
    with limit_pixels(largest), ThreadPoolExecutor() as pool:
        work = pool.map(partial(inspect, quick=quick), items)
        findings = list(tqdm(work, "checking", len(items), unit="image", disable=None))
    for finding in findings:
        if finding.kind:
            problems.add(finding.kind, finding.item.cls_name, finding.path, finding.detail)
    return findings


@contextmanager
def limit_pixels(largest: int) -> Iterator[None]:
    """Let Pillow open no image of more pixels; otherwise its limit is a number of its own, and twice that."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = largest
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def without_strays(items: list[Item], problems: Problems) -> list[Item]:
    """Drop images listed twice and defects in train, where only normal images belong."""
    once: dict[Path, Item] = {}
    for item in items:
        if item.split == "train" and item.anomaly:
            problems.add("anomalous image in train", item.cls_name, item.image)
        elif item.image in once:
            problems.add("image listed twice", item.cls_name, item.image)
        else:
            once[item.image] = item
    return list(once.values())


def without_shared_masks(items: list[Item], problems: Problems) -> list[Item]:
    """Take away a mask that two images claim: nobody knows whose it is."""
    claims = Counter(item.mask for item in items if item.mask)
    clear = []
    for item in items:
        if item.mask and claims[item.mask] > 1:
            problems.add("mask claimed by two images", item.cls_name, item.image, item.mask.name)
            item = replace(item, mask=None, draw=None, expects_mask=False)  # named once is enough
        clear.append(item)
    return clear


def inspect(item: Item, quick: bool) -> Finding:
    try:
        size = size_of(item, quick)
    except FileNotFoundError:
        return Finding(item, "missing file", item.source)
    except Exception as error:  # damaged files raise nearly anything in Pillow's decoders
        return Finding(item, "unreadable image", item.source, reason(error))
    if item.mask:
        return inspect_mask(item, size, quick)
    if item.anomaly and item.expects_mask:
        return Finding(item, "anomalous image without mask", item.source)
    return Finding(item)


def size_of(item: Item, quick: bool) -> tuple[int, int]:
    """(width, height) of the image, cut out or not."""
    size = read_image(item.source, quick).size
    if not item.part:
        return size
    left, top, right, bottom = item.part.box(size)
    return right - left, bottom - top


def inspect_mask(item: Item, size: tuple[int, int], quick: bool) -> Finding:
    try:
        mask = item.draw(size) if item.draw else read_image(item.mask, quick)
    except FileNotFoundError:
        missing = f"no {item.mask.name}"
        return Finding(replace(item, mask=None), "anomalous image without mask", item.source, missing)
    except Exception as error:  # as above
        return Finding(item, "unreadable mask", item.source, f"{item.mask.name}: {reason(error)}")
    if mask.size != size:
        sizes = "mask {}x{}, image {}x{}".format(*mask.size, *size)
        return Finding(item, "mask of another size", item.source, sizes)
    drawn = as_png(mask) if item.draw else None
    if (item.draw or not quick) and mask.convert("L").getextrema()[1] == 0:
        return Finding(item, "blank mask of an anomalous image", item.source, drawn=drawn)
    return Finding(item, drawn=drawn)


def read_image(path: Path, quick: bool = False) -> Image.Image:
    """Open and decode fully, so that a truncated file shows itself now and not in the middle of a run."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError("it is no file")
    with Image.open(path, formats=FORMATS) as image:
        if not quick:
            image.load()
        return image


def as_png(mask: Image.Image) -> bytes:
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return "too large: raise the limit by --largest_image, or make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the path, which the line already names
    return str(error).splitlines()[0] if str(error) else type(error).__name__
