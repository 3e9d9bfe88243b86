"""From a dataset folder to its meta.json: what the scripts beside this file share.

A script states where its images and masks lie (`Layout.find`); walking, pairing by name and the command stand
here, reading every file in checks.py, writing in meta.py. The schema of meta.json is in data/README.md.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import meta
from checks import LARGEST, Finding, Item, LayoutError, Problems, check

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Images as well, but the loader does not read them: named, where other files are passed over in silence.
OTHER_SUFFIXES = {".gif", ".jfif", ".jpe", ".jp2", ".heic", ".heif", ".avif"}
OTHER_SUFFIXES |= {".pgm", ".ppm", ".pbm", ".pnm", ".tga", ".dng", ".dcm"}
DRAWN_MASKS = "filo_masks"  # folder in the root for masks that a layout has to draw


class Walk:
    """Sorted, checked access to one dataset root; what is wrong goes to `problems`."""

    def __init__(self, root: Path):
        self.root = root
        self.true_root = root.resolve()
        self.problems = Problems(root)
        self.classes: set[str] = set()  # also those that turn out to be empty

    def folders(self, path: Path) -> list[Path]:
        """Visible folders in `path`, sorted; none if `path` is no folder."""
        return [child for child in self.visible(path) if child.is_dir() and child.name != "__MACOSX"]

    def images(self, path: Path, cls_name: str) -> list[Path]:
        """Image files in `path`, sorted; text files, Thumbs.db and the like are passed over."""
        found = []
        for child in self.visible(path):
            suffix = child.suffix.lower()
            if suffix in SUFFIXES and not child.is_dir():
                found.append(self.confined(child))
            elif suffix in OTHER_SUFFIXES and not child.is_dir():
                self.problems.add("unknown image suffix", cls_name, child)
        return found

    def visible(self, path: Path) -> list[Path]:
        if not path.is_dir():
            return []
        return sorted(child for child in path.iterdir() if not child.name.startswith("."))

    def confined(self, path: Path) -> Path:
        """Give `path` back, or raise where it (or a link on its way) leaves the root."""
        if not Path(os.path.realpath(path)).is_relative_to(self.true_root):
            raise LayoutError(f"{path} is a link that leaves the root; copy the files into {self.root}")
        return path

    def inside(self, folder: Path, name: str, where: str) -> Path:
        """The file that a list calls `name`, relative to `folder`; `where` says which line of which list."""
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise LayoutError(f"{where}: the path {name!r} leaves the root")
        return self.confined(folder / name)

    def pair(self, images: list[Path], masks: list[Path], cls_name: str) -> dict[Path, Path | None]:
        """Give each image the mask of its own name, STEM or STEM_mask; never one of the same position."""
        by_stem: dict[str, list[Path]] = {}
        for mask in masks:
            by_stem.setdefault(mask.stem, []).append(mask)
        pairs: dict[Path, Path | None] = {}
        used: set[Path] = set()
        for image in images:
            own = sorted(by_stem.get(image.stem, []) + by_stem.get(f"{image.stem}_mask", []))
            if len(own) > 1:
                names = ", ".join(mask.name for mask in own)
                self.problems.add("two masks for one image", cls_name, image, names)
            pairs[image] = own[0] if own else None
            used.update(own)
        for mask in masks:
            if mask not in used:
                self.problems.add("mask without image", cls_name, mask)
        return pairs


@dataclass(frozen=True)
class Layout:
    """What a dataset script states.

    `find` lists the images of a root; it raises LayoutError for a root that cannot be this dataset.
    """

    name: str  # value of test.py --dataset
    title: str
    expected: str  # the file or folder by which the root is known
    source: str
    find: Callable[[Walk], list[Item]]
    has_prompts: bool = True  # whether prompts/NAME.json is there


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
        return [Item(split, self.cls_name, kind.name, 1, image, mask) for image, mask in pairs.items()]

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


def arguments(about: str) -> argparse.ArgumentParser:
    """The flags of every dataset script; `about` is the script's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the dataset; meta.json is written there")
    parser.add_argument(
        "--out",
        type=Path,
        help="leave the root untouched and make a copy here: meta.json and every image and mask it names "
        "(copies, since links leaving the folder are refused by the loader); default: the root itself",
    )
    parser.add_argument("--quick", action="store_true", help="read only the headers of images, no pixels")
    parser.add_argument(
        "--largest_image",
        type=int,
        default=LARGEST,
        metavar="PIXELS",
        help=f"an image of more pixels is left out; each takes 4 bytes of memory (default: {LARGEST})",
    )
    return parser


def run(layout: Layout, args: argparse.Namespace) -> None:
    """Do what the command asks; whatever is wrong ends in one line on stderr and status 2."""
    try:
        build(layout, args.root, args.out or args.root, args.quick, args.largest_image)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except LayoutError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: cannot read {error.filename or args.root}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        sys.exit(130)


def build(layout: Layout, root: Path, base: Path, quick: bool, largest: int = LARGEST) -> None:
    """Walk `root`, check every file, write meta.json into `base`, print a summary and the next command."""
    base = check_folders(layout, root, base)
    walk = Walk(root)
    items = layout.find(walk)
    if not items:
        raise LayoutError(f"no {layout.expected} under {root}: is this the root of {layout.title}?")
    meta.make_writable(base)
    findings = check(items, walk.problems, quick, largest)
    content = meta.entries(findings, root)
    name_empty_classes(content, findings, walk)
    meta.write(content, findings, root, base)
    walk.problems.show()
    print(meta.summary(content, walk.problems))
    dataset = layout.name if layout.has_prompts else "NAME --prompts NAME.json"
    print(f"\nwrote {base / 'meta.json'}; next, with a checkpoint of yours:")
    print(f"python test.py --dataset {dataset} --data_path {shlex.quote(str(base))} --ckpt_path CKPT")


def check_folders(layout: Layout, root: Path, base: Path) -> Path:
    """Refuse a missing root and an --out within it; give the folder to write into."""
    if not root.is_dir():
        seen = "is not a folder" if root.exists() else "does not exist"
        raise LayoutError(f"{root} {seen}; --root wants {layout.title} ({layout.expected}): {layout.source}")
    if base.resolve() == root.resolve():
        return root
    if base.resolve().is_relative_to(root.resolve()):
        raise LayoutError(f"--out {base} lies within --root {root}, where the copy would be taken for data")
    return base


def name_empty_classes(content: dict, findings: list[Finding], walk: Walk) -> None:
    """Name classes without a usable test image; raise where no class has one."""
    if not content["test"]:
        bad = [finding for finding in findings if finding.kind]
        first = f"; the first: {bad[0].kind}: {bad[0].path} {bad[0].detail}".rstrip() if bad else ""
        raise LayoutError(f"none of {len(findings)} images under {walk.root} can be a test image{first}")
    classes = walk.classes | {finding.item.cls_name for finding in findings}
    for cls in sorted(classes - set(content["test"])):
        walk.problems.add("empty class", cls, walk.root / cls, "no test image")
