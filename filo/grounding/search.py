"""How a whole dataset gets its boxes: from the cache where they are, from the detector where not."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from filo.errors import ImageError, InputError
from filo.grounding.boxes import Boxes, Detection, Thresholds, select
from filo.grounding.cache import BoxCache, request_key
from filo.grounding.detector import GroundingDino, target_size, to_caption

READ_AT_ONCE = 16  # images in memory before they are detected


class Request(NamedTuple):
    """An image and what to look for in it."""

    image: Path
    phrases: tuple[str, ...]


@dataclass
class Found:
    """The boxes of every request, in order; how many the detector was run for, and how long it took."""

    boxes: list[Boxes]
    detected: int
    seconds: float


def find_boxes(
    requests: Sequence[Request],
    thresholds: Thresholds,
    cache: BoxCache,
    load: Callable[[], GroundingDino] | None,
    open_image: Callable[[Path], Image.Image],
    batch_size: int = 1,
    has_bar: bool = True,
) -> Found:
    """Answer every request; `load` is called if there is something to detect, None forbids it.

    Without `has_bar` no progress is shown, for a caller who shows it.

    Raises:
        ImageError: an image cannot be read, or the detector cannot look at it.
        InputError: something is not in the cache and may not be detected.
    """
    started = time.perf_counter()
    keys: list[str] = []
    boxes: dict[str, Boxes] = {}
    missing: dict[str, Request] = {}
    disable = None if has_bar else True  # None: where nobody sees it
    for request in tqdm(requests, desc="boxes looked up", unit="image", disable=disable):
        key = request_key(request.image, to_caption(request.phrases))
        keys.append(key)
        if key in boxes or key in missing:
            continue
        answer = cache.get(key)
        if answer is None:
            missing[key] = request
        else:
            boxes[key] = select(answer, thresholds)
    if missing and load is None:
        raise InputError(
            f"{len(missing)} of {len(requests)} images have no boxes in {cache.folder}, the first is "
            f"{next(iter(missing.values())).image}: run once with --detector groundingdino"
        )
    for key, answer in _detect(missing, cache, load, open_image, batch_size, disable):
        boxes[key] = select(answer, thresholds)
    return Found([boxes[key] for key in keys], len(missing), time.perf_counter() - started)


def _detect(
    requests: dict[str, Request],
    cache: BoxCache,
    load: Callable[[], GroundingDino],
    open_image: Callable[[Path], Image.Image],
    batch_size: int,
    disable: bool | None,
) -> Iterator[tuple[str, Detection]]:
    """Run the detector in batches of one caption and one size, and keep every answer as it comes."""
    if not requests:
        return
    detector = load()
    with tqdm(total=len(requests), desc="boxes detected", unit="image", disable=disable) as bar:
        for phrases, keys, images in _batches(requests, detector, open_image, batch_size):
            for key, answer in zip(keys, detector.detect(images, phrases), strict=True):
                cache.put(key, answer)
                yield key, answer
            bar.update(len(keys))


def _batches(
    requests: dict[str, Request],
    detector: GroundingDino,
    open_image: Callable[[Path], Image.Image],
    batch_size: int,
) -> Iterator[tuple[tuple[str, ...], list[str], list[Image.Image]]]:
    """Group requests by caption, then by size: phrases, keys and images of one batch after the other.

    Where sizes are many, batches stay small: no more than `READ_AT_ONCE` images wait for their like.
    """
    for phrases in dict.fromkeys(request.phrases for request in requests.values()):
        of_caption = {key: r.image for key, r in requests.items() if r.phrases == phrases}
        waiting: dict[tuple[int, int], list[tuple[str, Image.Image]]] = {}
        for key, image in _read(of_caption, open_image):
            if misfit := detector.explain_misfit(image.size):
                raise ImageError(f"{of_caption[key]}: {misfit}")
            size = target_size(image.size, detector.side)
            waiting.setdefault(size, []).append((key, image))
            if len(waiting[size]) == batch_size:
                yield phrases, *_unzip(waiting.pop(size))
            elif sum(map(len, waiting.values())) > READ_AT_ONCE:
                fullest = max(waiting, key=lambda size: len(waiting[size]))
                yield phrases, *_unzip(waiting.pop(fullest))
        for batch in waiting.values():
            yield phrases, *_unzip(batch)


def _unzip(batch: list[tuple[str, Image.Image]]) -> tuple[list[str], list[Image.Image]]:
    return [key for key, _ in batch], [image for _, image in batch]


def _read(
    paths: dict[str, Path], open_image: Callable[[Path], Image.Image]
) -> Iterator[tuple[str, Image.Image]]:
    """Open images in order, some at once by several threads."""
    keys = list(paths)
    with ThreadPoolExecutor() as readers:
        for start in range(0, len(keys), READ_AT_ONCE):
            chunk = keys[start : start + READ_AT_ONCE]
            yield from zip(chunk, readers.map(open_image, [paths[key] for key in chunk]), strict=True)
