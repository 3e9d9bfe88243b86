"""What a method is trained and tested on: one dataset class over any meta.json."""

import ctypes
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from filo import transforms
from filo.errors import InputError
from filo.meta import Entry, Meta
from filo.transforms import (
    image_size,
    mask_tensor,
    mosaic,
    open_image,
    open_mask,
)
from filo.views import Images, View, Whole, stack_images

PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


class Sample(NamedTuple):
    """One item: an image as the view has it, None if its features are kept; mask (S, S) boolean."""

    image: Images | None
    mask: Tensor
    label: int
    index: int
    is_mosaic: bool = False


class Batch(NamedTuple):
    """Several items, each of its own class: masks (B, S, S) boolean, labels (B,), B entries.

    `images`, (L, 3, S, S) or as another view has them, are those that were read, of the rows `live`: all of
    them, unless features are kept.
    `mosaics` are the rows that are put together of several images.
    """

    images: Images
    masks: Tensor
    labels: Tensor
    entries: list[Entry]
    live: list[int]
    mosaics: frozenset[int]

    @property
    def class_names(self) -> list[str]:
        return [entry.class_name for entry in self.entries]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in self[:3]), *self[3:])


class AnomalyDataset(Dataset):
    """The images of one split, as tensors for a CLIP of the given image size, mean and standard deviation.

    With `aug_rate` above 0 an item is replaced, with that probability, by a 2x2 mosaic of four images of
    its class, each drawn by first choosing a kind, good ones included, and then an image of it (FiLo's
    augmentation for MVTec). A mosaic keeps the item's own label unless `mosaic_label` is `any`. What is
    drawn depends on seed, `epoch` and index alone, not on workers or order.

    Images come as squares of the given side, as the masks do, or as `view` prepares them. `kept` are the
    images whose features are at hand, so that they need not be read; mosaics are.
    """

    def __init__(
        self,
        meta: Meta,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        aug_rate: float = 0.0,
        mosaic_label: str = "own",
        seed: int = 0,
        view: View | None = None,
    ) -> None:
        if not 0 <= aug_rate <= 1:
            raise InputError(f"aug_rate {aug_rate}: wanted a probability between 0 and 1")
        self.meta, self.side, self.mean, self.std = meta, side, mean, std
        self.view = view or Whole(side)
        self.aug_rate, self.mosaic_label, self.seed = aug_rate, mosaic_label, seed
        self.epoch = 0
        self.kept: frozenset[Path] = frozenset()
        self.entries = meta.entries
        self.kinds: dict[str, dict[str, list[Entry]]] = {}
        for entry in self.entries:
            self.kinds.setdefault(entry.class_name, {}).setdefault(entry.kind, []).append(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if self.aug_rate > 0 and rng.random() < self.aug_rate:
            image, mask, label = self._mosaic(entry, rng)
            return Sample(self._prepare(image), mask_tensor(mask, self.side), label, index, True)
        if entry.image in self.kept:
            return Sample(None, self.read_mask(entry), entry.label, index)
        image, mask = self._open(entry)
        return Sample(self._prepare(image), mask_tensor(mask, self.side), entry.label, index)

    def read_image(self, entry: Entry) -> Images:
        """Give an image of the dataset as it is, prepared."""
        return self._prepare(open_image(entry.image))

    def read_mask(self, entry: Entry) -> Tensor:
        """Give the mask of an image of the dataset, boolean (S, S), without reading the image."""
        mask = open_mask(entry.mask, image_size(entry.image)) if entry.mask else None
        return mask_tensor(mask, self.side)

    def _prepare(self, image: Image.Image) -> Images:
        return self.view(image, self.mean, self.std)

    def _open(self, entry: Entry) -> tuple[Image.Image, Image.Image | None]:
        image = open_image(entry.image)
        return image, open_mask(entry.mask, image.size) if entry.mask else None

    def _mosaic(self, entry: Entry, rng: np.random.Generator) -> tuple[Image.Image, Image.Image, int]:
        kinds = list(self.kinds[entry.class_name].values())
        chosen = []
        for _ in range(4):
            kind = kinds[rng.integers(len(kinds))]
            chosen.append(kind[rng.integers(len(kind))])
        image, mask = mosaic(*zip(*map(self._open, chosen), strict=True))
        label = entry.label if self.mosaic_label == "own" else max(part.label for part in chosen)
        return image, mask, label


def iterate(
    dataset: AnomalyDataset, batch_size: int, order: Sequence[int] | None = None, workers: int = 0
) -> Iterator[Batch]:
    """Give the dataset in batches, in meta.json's order or the one given; reading overlaps computing if
    workers > 0.

    Raises:
        InputError: an image or mask cannot be read, the same line whatever process read it; or such a
            process died.
    """
    order = range(len(dataset)) if order is None else order
    loader = DataLoader(
        _Guarded(dataset, transforms.LARGEST),
        batch_size,
        sampler=order,
        num_workers=workers,
        collate_fn=list,
        pin_memory=False,
        worker_init_fn=_follow_parent,
        generator=torch.Generator(),  # torch's own is left as it was, so that nothing depends on how often
    )
    for items in _survivors(loader):
        samples = [_unwrap(item) for item in items]
        live = [row for row, sample in enumerate(samples) if sample.image is not None]
        yield Batch(
            stack_images([samples[row].image for row in live]) if live else torch.empty(0),
            torch.stack([sample.mask for sample in samples]),
            torch.tensor([sample.label for sample in samples]),
            [dataset.entries[sample.index] for sample in samples],
            live,
            frozenset(row for row, sample in enumerate(samples) if sample.is_mosaic),
        )


def shuffled(entries: Sequence[Entry], batch_size: int, *key: int) -> list[int]:
    """Give an order of all indices that depends on the numbers in `key` alone.

    Taken in batches, images of one class come together as far as they fill one, since they share their texts;
    what remains of the classes is mixed.
    """
    rng = np.random.default_rng(key)
    order = rng.permutation(len(entries)).tolist()
    if batch_size == 1:
        return order
    of_class: dict[str, list[int]] = {}
    for index in order:
        of_class.setdefault(entries[index].class_name, []).append(index)
    full = [len(each) - len(each) % batch_size for each in of_class.values()]
    rest = [i for each, end in zip(of_class.values(), full, strict=True) for i in each[end:]]
    rest = [rest[i] for i in rng.permutation(len(rest))]
    grouped = [i for each, end in zip(of_class.values(), full, strict=True) for i in each[:end]] + rest
    batches = [grouped[i : i + batch_size] for i in range(0, len(grouped), batch_size)]
    last = [batches.pop()] if len(batches[-1]) < batch_size else []
    return [i for b in [batches[k] for k in rng.permutation(len(batches))] + last for i in b]


def _follow_parent(_: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach all processes of a job, to the one that started this one, and end
    with it: where it is killed, others wait until nobody holds its connections any longer.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(AttributeError, OSError):  # Linux only; elsewhere it takes some seconds
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _survivors(loader: DataLoader) -> Iterator[list]:
    """Give what the processes of a loader read, as long as they live."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that reads images died, most likely for want of memory: start again with fewer "
            f"--workers than {loader.num_workers}, 0 for none ({str(error).splitlines()[0]})"
        ) from error


class _Guarded(Dataset):
    """Hands a fault over as a value: a worker process would wrap the exception into its traceback.

    `largest` is the limit of images, which a process may have to be told.
    """

    def __init__(self, dataset: AnomalyDataset, largest: int) -> None:
        self.dataset, self.largest = dataset, largest

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | InputError:
        transforms.allow_pixels(self.largest)
        try:
            return self.dataset[index]
        except InputError as error:
            return error


def _unwrap(item: Sample | InputError) -> Sample:
    if isinstance(item, InputError):
        raise item
    return item
