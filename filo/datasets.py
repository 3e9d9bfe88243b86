"""What a method is trained and tested on: one dataset class over any meta.json."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from filo.errors import InputError
from filo.files import sha256_of
from filo.transforms import image_tensor, mask_tensor, mosaic, open_image, open_mask

FIELDS = {"img_path": str, "mask_path": str, "cls_name": str, "specie_name": str, "anomaly": int}


@dataclass(frozen=True)
class Entry:
    """One image of a dataset; `label` is 1 for an anomaly, `mask` None where there is none on disk."""

    image: Path
    mask: Path | None
    class_name: str
    kind: str
    label: int

    @property
    def has_mask(self) -> bool:
        """Whether the true pixels are known: from a file, or because the image is normal."""
        return self.mask is not None or self.label == 0


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


def read_meta(root: Path, split: str) -> list[Entry]:
    """Read one split of `<root>/meta.json`, class by class in the file's order.

    Raises:
        InputError: file or split missing, another schema, a path that leaves the root, an image that is not
            there.
    """
    path = root / "meta.json"
    if not root.is_dir():
        raise InputError(f"{root}: no such dataset folder; data/README.md says where datasets come from")
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: make it by the dataset's script, "
            f"such as `python data/mvtec.py --root {root}`"
        )
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))[split]
        rows = [(name, i, row) for name, rows in classes.items() for i, row in enumerate(rows)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not in the expected form: wanted {split!r} -> class -> entries "
            f"({type(error).__name__}: {error}); make it anew by the dataset's script"
        ) from error
    if not rows:
        raise InputError(f"{path} lists no images under {split!r}; make it anew by the dataset's script")
    return [_entry(path, root.resolve(), f"{split}/{name}[{i}]", name, row) for name, i, row in rows]


def _entry(meta: Path, root: Path, where: str, key: str, row: object) -> Entry:
    if not isinstance(row, dict) or any(not isinstance(row.get(k), t) for k, t in FIELDS.items()):
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        raise InputError(f"{meta}, {where}: wanted the fields {wanted}; make it anew by the dataset's script")
    if row["anomaly"] not in (0, 1):
        raise InputError(f"{meta}, {where}: anomaly is {row['anomaly']}, wanted 0 or 1")
    if row["cls_name"] != key:
        raise InputError(
            f"{meta}, {where}: cls_name is {row['cls_name']!r}, its key {key!r}; they must be equal"
        )
    image = _inside(meta, root, where, row["img_path"])
    mask = _inside(meta, root, where, row["mask_path"]) if row["mask_path"] and row["anomaly"] else None
    return Entry(image, mask, row["cls_name"], row["specie_name"], int(row["anomaly"]))


def _inside(meta: Path, root: Path, where: str, name: str) -> Path:
    """Resolve a path of meta.json; it must be an existing file and may not leave the root, by links
    neither.
    """
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise InputError(
            f"{meta}, {where}: {name!r} is absolute; paths must be relative to the dataset's root"
        )
    try:
        path = (root / name).resolve()
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a null byte, links in a ring
        raise InputError(
            f"{meta}, {where}: {name[:200]!r} is no path ({error}); run the dataset's script again"
        ) from error
    if not path.is_relative_to(root):
        raise InputError(
            f"{meta}, {where}: {name!r} leads out of the dataset's root {root}; paths must be inside it"
        )
    if not is_file:
        raise InputError(
            f"{meta}, {where}: {str(root / name)!r} does not exist; run the dataset's script again"
        )
    return path


class AnomalyDataset(Dataset):
    """The images of one split, as tensors for a CLIP of the given image size, mean and standard deviation.

    With `aug_rate` above 0 an item is replaced, with that probability, by a 2x2 mosaic of four images of
    its class, each drawn by first choosing a kind, good ones included, and then an image of it (FiLo's
    augmentation for MVTec). A mosaic keeps the item's own label unless `mosaic_label` is `any`. What is
    drawn depends on seed, `epoch` and index alone, not on workers or order.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        aug_rate: float = 0.0,
        mosaic_label: str = "own",
        seed: int = 0,
    ) -> None:
        if not 0 <= aug_rate <= 1:
            raise InputError(f"aug_rate {aug_rate}: wanted a probability between 0 and 1")
        self.root, self.side, self.mean, self.std = root, side, mean, std
        self.aug_rate, self.mosaic_label, self.seed = aug_rate, mosaic_label, seed
        self.epoch = 0
        self.entries = read_meta(root, split)
        self.meta_sha256 = sha256_of(root / "meta.json")
        self.classes = list(dict.fromkeys(entry.class_name for entry in self.entries))
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

    def require_masks(self) -> None:
        """Raise `InputError` if an anomalous image has no mask, which training the maps needs."""
        bare = [entry.image for entry in self.entries if not entry.has_mask]
        if bare:
            raise InputError(
                f"{len(bare)} anomalous images of {self.root} have no mask, the first is {bare[0]}; "
                "training needs masks: add them and run the dataset's script again"
            )

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
