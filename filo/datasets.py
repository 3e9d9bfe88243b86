"""What a method is trained and tested on: one dataset class over any meta.json."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from filo.errors import InputError
from filo.meta import Entry, Meta
from filo.transforms import image_tensor, mask_tensor, mosaic, open_image, open_mask


class Sample(NamedTuple):
    """One item, ready for CLIP: image (3, S, S), mask (S, S) boolean."""

    image: Tensor
    mask: Tensor
    label: int
    index: int


class Batch(NamedTuple):
    """Several items, each of its own class: images (B, 3, S, S), masks (B, S, S) boolean, labels (B,)."""

    images: Tensor
    masks: Tensor
    labels: Tensor
    entries: list[Entry]

    @property
    def class_names(self) -> list[str]:
        return [entry.class_name for entry in self.entries]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in self[:3]), self.entries)


class AnomalyDataset(Dataset):
    """The images of one split, as tensors for a CLIP of the given image size, mean and standard deviation.

    With `aug_rate` above 0 an item is replaced, with that probability, by a 2x2 mosaic of four images of
    its class, each drawn by first choosing a kind, good ones included, and then an image of it (FiLo's
    augmentation for MVTec). A mosaic keeps the item's own label unless `mosaic_label` is `any`. What is
    drawn depends on seed, `epoch` and index alone, not on workers or order.
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
    ) -> None:
        if not 0 <= aug_rate <= 1:
            raise InputError(f"aug_rate {aug_rate}: wanted a probability between 0 and 1")
        self.meta, self.side, self.mean, self.std = meta, side, mean, std
        self.aug_rate, self.mosaic_label, self.seed = aug_rate, mosaic_label, seed
        self.epoch = 0
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
        else:
            (image, mask), label = self._open(entry), entry.label
        tensor = image_tensor(image, self.side, self.mean, self.std)
        return Sample(tensor, mask_tensor(mask, self.side), label, index)

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
        InputError: an image or mask cannot be read; the same line whatever process read it.
    """
    order = range(len(dataset)) if order is None else order
    loader = DataLoader(
        _Guarded(dataset), batch_size, sampler=order, num_workers=workers, collate_fn=list, pin_memory=False
    )
    for items in loader:
        samples = [_unwrap(item) for item in items]
        yield Batch(
            torch.stack([sample.image for sample in samples]),
            torch.stack([sample.mask for sample in samples]),
            torch.tensor([sample.label for sample in samples]),
            [dataset.entries[sample.index] for sample in samples],
        )


def shuffled(length: int, *key: int) -> list[int]:
    """Give a permutation of 0..length - 1 that depends on the numbers in `key` alone."""
    return np.random.default_rng(key).permutation(length).tolist()


class _Guarded(Dataset):
    """Hands a fault over as a value: a worker process would wrap the exception into its traceback."""

    def __init__(self, dataset: AnomalyDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | InputError:
        try:
            return self.dataset[index]
        except InputError as error:
            return error


def _unwrap(item: Sample | InputError) -> Sample:
    if isinstance(item, InputError):
        raise item
    return item
