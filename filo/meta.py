"""What a dataset's meta.json says: which images there are, of what class and kind, with which masks."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from filo.errors import InputError
from filo.files import sha256_of

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


@dataclass(frozen=True)
class Meta:
    """One split of a dataset, class by class in the file's order; `sha256` is of the whole meta.json."""

    root: Path
    entries: tuple[Entry, ...]
    sha256: str

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(entry.class_name for entry in self.entries))

    def require_masks(self) -> None:
        """Raise `InputError` if an anomalous image has no mask, which training the maps needs."""
        bare = [entry.image for entry in self.entries if not entry.has_mask]
        if bare:
            raise InputError(
                f"{len(bare)} anomalous images of {self.root} have no mask, the first is {bare[0]}; "
                "training needs masks: add them and run the dataset's script again"
            )


def read_meta(root: Path, split: str) -> Meta:
    """Read one split of `<root>/meta.json`.

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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not in the expected form: wanted {split!r} -> class -> entries "
            f"({type(error).__name__}: {error}); make it anew by the dataset's script"
        ) from error
    if empty := [name for name, of_class in classes.items() if not of_class]:
        raise InputError(
            f"{path} lists no images of the class {empty[0]!r} under {split!r}; "
            "make it anew by the dataset's script, which leaves such a class out"
        )
    if not rows:
        raise InputError(f"{path} lists no images under {split!r}; make it anew by the dataset's script")
    entries = (_entry(path, root.resolve(), f"{split}/{name}[{i}]", name, row) for name, i, row in rows)
    return Meta(root, tuple(entries), sha256_of(path))


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
            f"{meta}, {where}: {name[:200]!r} is no path ({getattr(error, 'strerror', None) or error}); run "
            "the dataset's script again"
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
