"""What a run leaves about every image it looked at; reports and thresholds are made from these files.

RUN/predictions.jsonl     one line for each image, see `Record`
RUN/small/000012.jpg      the image, its longer side at most 256 pixels
RUN/small/000012_map.png  its anomaly map at most 128 pixels wide and high, 16 bits: 0 to 65535 is 0 to 1
RUN/small/000012_mask.png where a mask is known, in the small image's size
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import get_origin

import numpy as np
from PIL import Image

from filo.errors import InputError
from filo.files import append_line, encode, json_line, write_atomically, write_lines
from filo.grounding.boxes import Boxes, BoxRules, counts, to_corners
from filo.kinds import DAMAGES
from filo.prompts import ClassTexts
from filo.run_folder import HEATMAPS, LINES, SMALL

IMAGE_SIDE, MAP_SIDE = 256, 128
LEVELS = 65535
ELSEWHERE = re.compile(rf"(shard_\d+_of_\d+/{SMALL}/\d{{6,}})?", re.ASCII)
HEATMAP = re.compile(rf"((shard_\d+_of_\d+/)?{HEATMAPS}/[\w.-]+\.jpg)?")  # see `worklist.stem_of`
CHUNK = 1 << 16  # bytes that are read at a time


@dataclass(frozen=True)
class Record:
    """One image of a run.

    Attributes:
        index: its number in the run, from 0
        image: its path; in a run over a dataset relative to the dataset's root
        size: width and height in pixels
        score: higher is more anomalous
        position: where the anomaly lies, if there is one, such as "top left"
        normal_similarity: cosine of the image's global feature with what is normal
        kinds: descriptions of the class and their cosines, the most likely first; empty where nobody
            described it
        boxes: of the detector, those that speak of an anomaly, the most likely first: `corners` XYXY in
            pixels of the image, `score`, `phrase`
        label, kind, has_mask: what the dataset says, None, "" and False where there is none
        threshold: at which a score is anomalous; None where nobody calibrated it
        is_anomalous: the decision; None without a threshold
        heatmap: its file, relative to the run; "" where none was drawn
        small: how the names of its small pictures begin, relative to the run, where that is another than
            its index says: in a folder of one shard of the run
        error: why there is nothing else to say, "" if there is
    """

    index: int
    image: str
    class_name: str
    size: tuple[int, int] = (0, 0)
    score: float = 0.0
    position: str = ""
    normal_similarity: float = 0.0
    kinds: tuple[tuple[str, float], ...] = ()
    boxes: tuple[dict, ...] = ()
    label: int | None = None
    kind: str = ""
    has_mask: bool = False
    threshold: float | None = None
    heatmap: str = ""
    error: str = ""
    small: str = ""

    @property
    def is_anomalous(self) -> bool | None:
        return None if self.threshold is None or self.error else self.score >= self.threshold


def rank_kinds(texts: ClassTexts, similarities: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Order a class's descriptions by their cosines with an image, which follow the one of normal texts."""
    pairs = zip(texts.kinds, map(_rounded, similarities[1:]), strict=True)
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


def describe_boxes(
    boxes: Boxes | None, texts: ClassTexts, rules: BoxRules, size: tuple[int, int]
) -> tuple[dict, ...]:
    """Give the boxes that speak of an anomaly in pixels of an image of `size` (width, height)."""
    if boxes is None:
        return ()
    corners = to_corners(boxes.boxes, 1) * np.array([*size, *size])
    corners = corners.clip(0, [*size, *size])
    found = [
        {"corners": [round(float(c), 1) for c in box], "score": _rounded(score), "phrase": phrase}
        for box, score, phrase in zip(corners, boxes.scores, boxes.phrases, strict=True)
        if counts(phrase, texts.phrases, rules)
    ]
    return tuple(sorted(found, key=lambda box: -box["score"]))


def _rounded(value: float) -> float:
    return round(float(value), 6)


def write_record(run: Path, record: Record) -> None:
    """Append a record to the run, with its decision.

    Raises:
        InputError: the disk is full.
    """
    append_line(run / LINES, _to_row(record))


def write_records(run: Path, records: Iterable[Record]) -> None:
    """Write all records of a run at once.

    Raises:
        InputError: the disk is full; the old file stands then.
    """
    write_lines(run / LINES, (encode(json_line(_to_row(record))) for record in records))


def _to_row(record: Record) -> dict:
    row = asdict(record) | {"is_anomalous": record.is_anomalous}
    if not record.small:
        del row["small"]  # where it lies elsewhere is told after a merge alone
    return row


def read_records(run: Path) -> list[Record]:
    """Read all records of a run, in order.

    Raises:
        InputError: there are none, or a line is damaged.
    """
    return sorted(iterate_records(run), key=lambda record: record.index)


def iterate_records(run: Path) -> Iterator[Record]:
    """Read the records of a run one by one, as they stand there, however many they are.

    Raises:
        InputError: there is no such file, or a line is damaged.
    """
    path, number = run / LINES, 0
    if not path.is_file():
        raise InputError(f"{run} holds no {LINES}: name a folder that test.py or filo.predict wrote")
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            record = _to_record(line.decode(errors="replace"))
        except DAMAGES as error:
            raise InputError(
                f"{path}, line {number} is damaged ({type(error).__name__}); run again what wrote it"
            ) from error
        yield record


def _to_record(line: str) -> Record:
    """Read a line of a run; raise one of several errors if no run writes it."""
    row = json.loads(line)
    row |= {"size": tuple(row["size"]), "boxes": tuple(row["boxes"])}
    row["kinds"] = tuple((str(kind), float(value)) for kind, value in row["kinds"])
    record = Record(**{each.name: row[each.name] for each in fields(Record) if each.name in row})
    _check(record)
    return record


def _read_lines(path: Path) -> Iterator[bytes]:
    """Give lines without keeping the file open: those of hundreds are read at the same time."""
    place = 0
    while True:
        with path.open("rb") as file:
            file.seek(place)
            lines = file.readlines(CHUNK)
            place = file.tell()
        if not lines:
            return
        yield from lines


def cut_records(run: Path, count: int) -> None:
    """Leave the first `count` records of a run.

    Raises:
        InputError: it cannot be written to.
    """
    end = max((end for end, _ in islice(leading_records(run), count)), default=0)
    try:
        with (run / LINES).open("ab") as file:
            file.truncate(end)
    except OSError as error:
        raise InputError(f"cannot write to {run / LINES}: {error.strerror or error}") from error


def leading_records(run: Path) -> Iterator[tuple[int, Record]]:
    """Give a run's records, as far as they are whole and in order from the first image on, each with where it
    ends in the file.
    """
    end = 0
    with suppress(*DAMAGES):
        for number, line in enumerate(_read_lines(run / LINES)):
            record = _to_record(line.decode())
            if not line.endswith(b"\n") or record.index != number:
                return
            end += len(line)
            yield end, record


def _check(record: Record) -> None:
    """Raise `TypeError` if a value is of another kind than a run writes."""
    for each in fields(record):
        value = getattr(record, each.name)
        is_whole = isinstance(value, int) and each.type in (float, float | None)  # as JSON has it
        if get_origin(each.type) is not tuple and not (is_whole or isinstance(value, each.type)):
            raise TypeError(f"{each.name} is {value!r}")
    if not (ELSEWHERE.fullmatch(record.small) and HEATMAP.fullmatch(record.heatmap)):
        raise TypeError("its pictures lie where no run puts them")
    numbers = [*record.size, *(corner for box in record.boxes for corner in box["corners"])]
    if len(record.size) != 2 or not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError("a size or a corner is no number")


# small pictures


@dataclass(frozen=True)
class Small:
    """An image as a run keeps it, RGB (h, w), its map (h', w') in [0, 1], its mask (h, w) boolean."""

    image: Image.Image
    anomaly_map: np.ndarray
    mask: np.ndarray | None = None


def small_path(run: Path, index: int, what: str = "") -> Path:
    """Where the small image is kept, or its `map` or `mask`."""
    return _named(run / small_name(index), what)


def small_name(index: int) -> str:
    """How the names of an image's small pictures begin, relative to the run."""
    return f"{SMALL}/{index:06d}"


def _named(begin: Path, what: str) -> Path:
    return begin.with_name(f"{begin.name}_{what}.png" if what else f"{begin.name}.jpg")


def write_small(
    run: Path, index: int, image: Image.Image, anomaly_map: np.ndarray, mask: np.ndarray | None = None
) -> None:
    """Keep an image (RGB), its map (any shape, [0, 1]) and its mask (any shape, boolean) in small.

    Raises:
        InputError: the disk is full.
    """
    size = fit(image.size, IMAGE_SIDE)
    _save(small_path(run, index), image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0), quality=85)
    values = np.asarray(_resized(np.asarray(anomaly_map, np.float32), fit(image.size, MAP_SIDE)))
    levels = (values.clip(0, 1) * LEVELS).round().astype(np.uint16)
    _save(small_path(run, index, "map"), Image.fromarray(levels))
    if mask is not None:
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        # so that a defect of few pixels is still seen
        _save(small_path(run, index, "mask"), grey.point(lambda value: 255 if value > 25 else 0))


def _resized(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Bring a map (H, W) to (width, height): the mean of what falls together."""
    image = Image.fromarray(values)
    grows = image.width < size[0] or image.height < size[1]
    return image.resize(size, Image.Resampling.BILINEAR if grows else Image.Resampling.BOX)


def read_small(run: Path, record: Record) -> Small | None:
    """Read what `write_small` kept of an image; None if it is not there or damaged."""
    begin = run / (record.small or small_name(record.index))
    try:
        image = Image.open(_named(begin, "")).convert("RGB")
        values = np.asarray(Image.open(_named(begin, "map")), np.float32) / LEVELS
        path = _named(begin, "mask")
        mask = np.asarray(Image.open(path).convert("L")) > 127 if path.is_file() else None
        return Small(image, values, mask)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Shrink (width, height) so that neither is above `side`."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _save(path: Path, image: Image.Image, **options: int) -> None:
    content = io.BytesIO()
    image.save(content, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    write_atomically(path, lambda temporary: temporary.write_bytes(content.getvalue()))
