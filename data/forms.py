"""The forms in which several sets come: folders of MVTec AD, images beside masks, a folder for each kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from layouts import Item, Walk

POLYP_SETS = ("Polyp DataSet", "Polyp_DataSet", "TestDataset")  # in these they come together


@dataclass(frozen=True)
class ClassFolder:
    """One class: `path/[train|test]/KIND/image`, masks in `path/MASK_FOLDER/KIND`.

    Without a train or test level the kinds lie in `path` itself and all are test images.
    """

    walk: Walk
    path: Path
    cls_name: str
    normal: str = "good"
    mask_folders: tuple[str, ...] = ("ground_truth",)
    expects_mask: bool = True

    @property
    def levels(self) -> dict[str, Path]:
        """Split -> folder that holds its kinds."""
        levels = {name: self.path / name for name in ("train", "test") if (self.path / name).is_dir()}
        return levels or {"test": self.path}

    def items(self) -> list[Item]:
        """All images of the class; names what the folder holds beside them."""
        self.walk.classes.add(self.cls_name)
        self.name_leftovers()
        kinds = [(split, kind) for split in self.levels for kind in self.kinds(split)]
        return [item for split, kind in kinds for item in self.kind_items(split, kind)]

    def kinds(self, split: str) -> list[Path]:
        folders = self.walk.folders(self.levels[split]) if split in self.levels else []
        return [folder for folder in folders if folder.name not in self.mask_folders]

    def kind_items(self, split: str, kind: Path) -> list[Item]:
        images = self.walk.images(kind, self.cls_name)
        if kind.name == self.normal:
            return [Item(split, self.cls_name, "good", 0, image) for image in images]
        if not images:
            self.walk.problems.add("kind folder without images", self.cls_name, kind)
        masks = self.masks(kind.name) if split == "test" else []
        pairs = self.walk.pair(images, masks, self.cls_name)
        anomalous = partial(Item, split, self.cls_name, kind.name, 1, expects_mask=self.expects_mask)
        return [anomalous(image, mask) for image, mask in pairs.items()]

    def masks(self, kind: str) -> list[Path]:
        folders = [self.path / name / kind for name in self.mask_folders]
        return [mask for folder in folders for mask in self.walk.images(folder, self.cls_name)]

    def name_leftovers(self) -> None:
        problems = self.walk.problems
        mask_folders = [self.path / name for name in self.mask_folders]
        for place in {self.path, *self.levels.values(), *mask_folders}:
            for image in self.walk.images(place, self.cls_name):
                problems.add("image outside a kind folder", self.cls_name, image)
        mask_kinds = {kind.name for folder in mask_folders for kind in self.walk.folders(folder)}
        for kind in mask_kinds - {kind.name for kind in self.kinds("test")}:
            for mask in self.masks(kind):
                problems.add("mask without image", self.cls_name, mask)
        expected = (*self.levels, *self.mask_folders)
        for folder in self.walk.folders(self.path) if self.path not in self.levels.values() else []:
            if folder.name not in expected:
                problems.add("folder not used", self.cls_name, folder)


def class_folders(walk: Walk, names: Sequence[str] = (), normal: str = "good") -> list[Item]:
    """The form of MVTec AD, a folder for each class of these names; without names every folder is a class."""
    folders = {folder.name: folder for folder in walk.folders(walk.top)}
    for name in names:
        if name not in folders:
            walk.problems.add("missing folder", name, walk.top / name)
    items = []
    for name, folder in folders.items():
        if names and name not in names:
            walk.problems.add("folder not used", "", folder)
        elif has_splits(folder):
            items += ClassFolder(walk, folder, name, normal).items()
        else:
            walk.classes.add(name)  # becomes an "empty class" in the summary
    return items


def has_splits(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def image_and_mask(
    walk: Walk, cls_name: str, kind: str, places: Sequence[tuple[str, str]] = (("images", "masks"),)
) -> list[Item]:
    """Test images of one class, each with a mask: folders of images, a folder of masks.

    `places` are pairs of such folders below the top, of which the first counts whose images are there; images
    may lie in several, named by a pattern. All show the defect `kind`, except those in a folder "good".
    """
    for images, masks in places:
        folders = [folder for folder in walk.matching(images) if folder != walk.top / masks]
        if folders:
            return pairs_of(walk, cls_name, kind, folders, walk.top / masks)
    return []


def pairs_of(walk: Walk, cls_name: str, kind: str, folders: Sequence[Path], masks: Path) -> list[Item]:
    if not masks.is_dir():
        walk.problems.add("missing folder", cls_name, masks)
    images = [image for folder in folders for image in walk.images(folder, cls_name)]
    items = []
    for image, mask in walk.pair(images, walk.images(masks, cls_name), cls_name).items():
        if image.parent.name == "good":
            items.append(Item("test", cls_name, "good", 0, image))
        else:
            items.append(Item("test", cls_name, kind, 1, image, mask))
    return items


def folder_of_each_kind(
    walk: Walk, cls_name: str, kinds: Mapping[str, Sequence[str]], unused: Sequence[str] = ()
) -> list[Item]:
    """Test images of one class without masks: a folder for each kind, images in it or in its folder `images`.

    `kinds` gives the names that the folder of a kind may have, small and capital letters being the same;
    "good" is the normal kind. Other folders are named, except those `unused`, which the set is known to have.
    """
    folders = {folder.name.lower(): folder for folder in walk.folders(walk.top)}
    items = []
    for kind, names in kinds.items():
        folder = next((folders.pop(name.lower()) for name in names if name.lower() in folders), None)
        if folder is None:
            walk.problems.add("missing folder", cls_name, walk.top / names[0])
            continue
        place = folder / "images" if (folder / "images").is_dir() else folder
        label = int(kind != "good")
        for image in walk.images(place, cls_name):
            items.append(Item("test", cls_name, kind, label, image, expects_mask=False))
    for folder in folders.values():
        if folder.name not in unused:
            walk.problems.add("folder not used", cls_name, folder)
    return items


def polyp_folders(*names: str) -> tuple[str, ...]:
    """Where a set of polyps of one of these names may lie: by itself, or together with others."""
    return (*names, *(f"{around}/{name}" for around in POLYP_SETS for name in names))
