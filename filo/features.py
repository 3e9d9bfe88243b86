"""What the frozen image tower gives is kept on disk, so that it runs once for an image however often it is
trained on.

    FOLDER/features.json                what they belong to: CLIP, size, taps, number format
    FOLDER/ab/<image>.safetensors       global feature and the distinct patch tensors of one image

An image is known by the hash of its bytes. Files are mapped, not read in; every tensor has a checksum.
"""

import json
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from filo.clip.vision import ImageFeatures, join
from filo.datasets import AnomalyDataset, Batch
from filo.errors import InputError
from filo.files import sha256_of, sweep_old, write_json
from filo.meta import Entry
from filo.method import Method
from filo.processes import ALONE, Processes
from filo.weights import write_tensors

ABOUT = "features.json"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class FeatureStore:
    """Features of one dataset's images under one CLIP and its taps; several processes may use them at once.

    Raises:
        InputError: the folder holds those of another CLIP, size or taps, or cannot be written to.
    """

    def __init__(self, folder: Path, about: dict, dtype: str = "fp32") -> None:
        self.folder, self.dtype = folder, DTYPES[dtype]
        self._images: dict[str, Tensor] = {}  # global features stay in memory
        about = json.loads(json.dumps(about | {"numbers": dtype}))
        path = folder / ABOUT
        if not path.exists():
            write_json(path, about)
        elif differing := _differences(path, about):
            raise InputError(
                f"{folder} holds features of something else: {differing}; choose another --cache_features, "
                "or remove that folder"
            )
        sweep_old(folder, ".safetensors")

    def has(self, key: str) -> bool:
        return key in self._images or self._path(key).is_file()

    def read(self, key: str, tapped: bool) -> ImageFeatures | None:
        """Give an image's features in float32, (1, D) and (1, 1 + N, C); None if they are missing or damaged.

        Without `tapped` the global feature alone, as `VisionTower` gives it without taps.
        """
        if not tapped and key in self._images:
            return ImageFeatures(self._images[key], (), ())
        try:
            with safe_open(self._path(key), framework="pt") as file:
                metadata = file.metadata()
                names = [name for name in file.keys() if tapped or name == "image"]  # noqa: SIM118, no dict
                tensors = {name: file.get_tensor(name) for name in names}
            if any(_checksum(t) != metadata[name] for name, t in tensors.items()):
                return None
            layout = json.loads(metadata["layout"])
            tensors = {name: t[None].float() for name, t in tensors.items()}
            taps = [tuple(tensors[f"tap{i}"] for i in side) for side in layout] if tapped else [(), ()]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None
        self._images[key] = tensors["image"].clone()  # a view would keep the whole file mapped
        return ImageFeatures(self._images[key], *taps)

    def write(self, key: str, features: ImageFeatures) -> None:
        """Keep one image's features, (1, D) and (1, 1 + N, C), each distinct tensor once.

        Raises:
            InputError: the disk is full.
        """
        distinct, layout = features.distinct()
        tensors = {f"tap{i}": tap for i, tap in enumerate(distinct)} | {"image": features.image}
        tensors = {name: t[0].detach().cpu().to(self.dtype).contiguous() for name, t in tensors.items()}
        metadata = {name: _checksum(t) for name, t in tensors.items()} | {"layout": json.dumps(layout)}
        write_tensors(self._path(key), tensors, metadata)

    def remember(self, key: str, features: ImageFeatures) -> ImageFeatures:
        """Keep a global feature in memory alone, and give it as it will be read again."""
        self._images[key] = features.image.detach().cpu().to(self.dtype).float()
        return ImageFeatures(self._images[key], (), ())

    def require_space(self, keys: Sequence[str], size: int) -> str:
        """Say what is there and what is missing, `size` numbers an image.

        Raises:
            InputError: the disk has no room for what is missing.
        """
        each = size * self.dtype.itemsize
        missing = sum(not self.has(key) for key in set(keys))
        free = shutil.disk_usage(self.folder).free
        said = (
            f"features: {len(set(keys))} images of {_size(size, self.dtype)} in {self.folder}, {missing} of "
            f"them still to be written, {_size(missing * size, self.dtype)} ({free / 1e6:,.0f} MB free)"
        )
        if missing * each > free:
            raise InputError(f"{said}: make room, choose another --cache_features, or --cache_precision fp16")
        return said

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def _differences(path: Path, about: dict) -> str:
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        return f"{path} is not readable ({error})"
    names = [name for name in {**there, **about} if there.get(name) != about.get(name)]
    return ", ".join(f"{name} {there.get(name)} there, {about.get(name)} here" for name in names)


def _checksum(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.numpy()):08x}"


class FrozenFeatures:
    """Gives the image features of batches: from the store where they are, from the tower where not.

    Without a store everything is computed. Mosaics are never kept, as they do not come again. Several
    processes may fill one store at once.
    """

    def __init__(
        self,
        tower: Callable[[Tensor, bool], ImageFeatures],
        dataset: AnomalyDataset,
        store: FeatureStore | None = None,
        us: Processes = ALONE,
    ) -> None:
        self.tower, self.dataset, self.store = tower, dataset, store
        self.is_full = False  # whether the disk is: then nothing more is written
        self.keys: dict[Path, str] = {}
        if store is not None:
            paths = sorted({entry.image for entry in dataset.entries})
            hashing = tqdm(us.share(paths), desc="images looked up", unit="image", disable=None)
            self.keys = dict(zip(paths, us.collect([_hash(path) for path in hashing]), strict=True))

    def begin_epoch(self, number: int) -> None:
        """Tell the dataset which epoch it is, and which images need not be read in it."""
        self.dataset.epoch = number
        self.dataset.kept = frozenset(path for path, key in self.keys.items() if self.store.has(key))

    def of(self, batch: Batch, tapped: bool, device: torch.device) -> ImageFeatures:
        """Give a batch's features, with or without taps.

        Raises:
            InputError: an image cannot be read, or the disk is full.
        """
        if self.store is None:
            return self.tower(batch.images.to(device), tapped)
        # one by one: what an image gives must not depend on which others of its batch are kept already
        images = [batch.images[i : i + 1].to(device) for i in range(len(batch.live))]
        rows = {row: self.tower(image, tapped) for row, image in zip(batch.live, images, strict=True)}
        for row, features in rows.items():
            if row not in batch.mosaics:
                rows[row] = self._keep(batch.entries[row], features, tapped)
        for row, entry in enumerate(batch.entries):
            if row not in rows:
                kept = self.store.read(self.keys[entry.image], tapped)
                rows[row] = self._compute(entry, tapped, device) if kept is None else kept
        return join([rows[row].to(device) for row in range(len(batch.entries))])

    def _compute(self, entry: Entry, tapped: bool, device: torch.device) -> ImageFeatures:
        image = self.dataset.read_image(entry)[None].to(device)
        return self._keep(entry, self.tower(image, tapped), tapped)

    def _keep(self, entry: Entry, features: ImageFeatures, tapped: bool) -> ImageFeatures:
        """Keep what was computed; give it as it will be read again."""
        key = self.keys[entry.image]
        if not tapped:
            return self.store.remember(key, features)
        self._write(key, features)
        return features.map(lambda tensor: tensor.to(self.store.dtype).float())

    def _write(self, key: str, features: ImageFeatures) -> None:
        """Write unless the disk is full; then training goes on without, so that nothing is lost."""
        if self.is_full:
            return
        try:
            self.store.write(key, features)
        except InputError as error:
            self.is_full = True
            missing = sum(not self.store.has(key) for key in set(self.keys.values()))
            size = sum(t.numel() for t in (*features.distinct()[0], features.image))
            print(
                f"warning: {error}; {missing} images still wanted {_size(missing * size, self.store.dtype)} "
                "there, their features are computed again from now on",
                file=sys.stderr,
            )


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); in a dataset: run its script again"
        ) from error


def _size(numbers: int, dtype: torch.dtype) -> str:
    return f"{numbers * dtype.itemsize / 1e6:,.1f} MB"


def open_features(
    method: Method,
    dataset: AnomalyDataset,
    folder: Path | None = None,
    precision: str = "fp32",
    us: Processes = ALONE,
) -> FrozenFeatures:
    """Make the features of a dataset for training a method, kept in `folder` if there is one.

    Raises:
        InputError: the folder holds others, or the disk has no room for them.
    """
    if folder is None:
        return FrozenFeatures(method.image_features, dataset)
    store = FeatureStore(folder, method.frozen_settings(), precision)
    features = FrozenFeatures(method.image_features, dataset, store, us)
    print(store.require_space(list(features.keys.values()), method.frozen_numbers()))
    return features
