"""From a dataset folder to its meta.json: what the scripts beside this file share.

A script states where its images and masks lie (`Layout.find`); walking, pairing by name and the command stand
here, forms that several sets share in forms.py, reading every file in checks.py, writing in meta.py, telling
sets apart in fitting.py. The schema of meta.json is in data/README.md.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fitting
import meta
from checks import LARGEST, Finding, Item, LayoutError, Problems, check

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Images as well, but the loader does not read them: named, where other files are passed over in silence.
OTHER_SUFFIXES = {".gif", ".jfif", ".jpe", ".jp2", ".heic", ".heif", ".avif"}
OTHER_SUFFIXES |= {".pgm", ".ppm", ".pbm", ".pnm", ".tga", ".dng", ".dcm"}
DRAWN_MASKS = "filo_masks"  # folder in the root for masks that a layout has to draw
DRAWN_IMAGES = "filo_images"  # the same for images that are parts of published ones
MASK_ENDS = ("", "_mask", "_label", "_Segmentation")  # what the name of a mask has behind that of its image


class Walk:
    """Sorted, checked access to one dataset root; what is wrong goes to `problems`.

    `top` is where the set begins: the root, or a folder in it that has one of the names `folders`.
    """

    def __init__(self, root: Path, folders: Sequence[str] = ()):
        self.root = root
        self.true_root = root.resolve()
        self.problems = Problems(root)
        self.classes: set[str] = set()  # also those that turn out to be empty
        self.top = self.confined(fitting.top_of(root, folders))

    def folders(self, path: Path) -> list[Path]:
        """Visible folders in `path`, sorted; none if `path` is no folder."""
        return [child for child in self.visible(path) if child.is_dir() and child.name != "__MACOSX"]

    def matching(self, pattern: str) -> list[Path]:
        """Visible folders below `top` that the pattern names, sorted."""
        return [path for path in sorted(self.top.glob(pattern)) if path in self.folders(path.parent)]

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
        """Give each image the mask of its own name and one of `MASK_ENDS`; never one of the same position."""
        by_stem: dict[str, list[Path]] = {}
        for mask in masks:
            by_stem.setdefault(mask.stem, []).append(mask)
        pairs: dict[Path, Path | None] = {}
        used: set[Path] = set()
        for image in images:
            own = sorted(mask for end in MASK_ENDS for mask in by_stem.get(image.stem + end, []))
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
    counts: tuple[int, int] | None = None  # normal and anomalous test images, as published
    folders: tuple[str, ...] = ()  # what the set unpacks to: names of the root, or of a folder in it
    signs: tuple[str, ...] = ()  # files and folders (patterns) that no other set has; none: any root may fit


def arguments(about: str) -> argparse.ArgumentParser:
    """The flags of every dataset script; `about` is the script's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        type=Path,
        help="the dataset; meta.json is written there (default: a folder beside the script, called like it)",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check",
        action="store_true",
        help="write nothing; say whether there are as many normal and anomalous test images as published; "
        "status 1 if not",
    )
    instead.add_argument(
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
    """Do what the command asks; whatever is wrong ends in one line on stderr and status 2.

    Status 1 says that --check found other numbers of images than the published ones.
    """
    root = args.root or Path(__file__).parent / layout.name
    fits = True
    try:
        if args.check:
            fits = compare(layout, root, args.quick, args.largest_image)
        else:
            build(layout, root, args.out or root, args.quick, args.largest_image)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except LayoutError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: cannot read {error.filename or root}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        sys.exit(130)
    if not fits:
        sys.exit(1)


def compare(layout: Layout, root: Path, quick: bool, largest: int) -> bool:
    """Check every file of `root` and print whether there are as many test images as were published."""
    if not layout.counts:
        raise LayoutError(f"--check: no numbers of test images are published for {layout.title}")
    check_folders(layout, root, root)
    walk = Walk(root, layout.folders)
    findings = check(find_items(layout, walk), walk.problems, quick, largest)
    content = content_of(findings, walk)
    walk.problems.show()
    found = meta.totals(content)
    verdict = "ok" if found == layout.counts else "differs"
    print(meta.summary(content, walk.problems))
    print(f"\n{layout.name}: {verdict}: {meta.against_published(found, layout.counts)}")
    return found == layout.counts


def build(layout: Layout, root: Path, base: Path, quick: bool, largest: int) -> None:
    """Walk `root`, check every file, write meta.json into `base`, print a summary and the next command."""
    base = check_folders(layout, root, base)
    walk = Walk(root, layout.folders)
    items = find_items(layout, walk)
    meta.make_writable(base)
    findings = check(items, walk.problems, quick, largest)
    content = content_of(findings, walk)
    meta.write(content, findings, root, base)
    walk.problems.show()
    print(meta.summary(content, walk.problems) + "\n")
    found = meta.totals(content)
    if layout.counts and found != layout.counts:
        print(f"not as published: {meta.against_published(found, layout.counts)}")
    dataset = layout.name if layout.has_prompts else "NAME --prompts NAME.json"
    print(f"wrote {base / 'meta.json'}; next, with a checkpoint of yours:")
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


def find_items(layout: Layout, walk: Walk) -> list[Item]:
    """The images that the layout finds; raise for a root that is no such set, naming the script that fits."""
    other = fitting.another_set(layout, walk.root) if layout.signs else ""
    if other:
        raise LayoutError(other)
    items = layout.find(walk)
    if not items:
        raise LayoutError(f"no {layout.expected} under {walk.root}: is this the root of {layout.title}?")
    return items


def content_of(findings: list[Finding], walk: Walk) -> dict:
    """The content of meta.json; names classes without a usable test image, raises where no class has one."""
    content = meta.entries(findings, walk.root)
    if not content["test"]:
        bad = [finding for finding in findings if finding.kind]
        first = f"; the first: {bad[0].kind}: {bad[0].path} {bad[0].detail}".rstrip() if bad else ""
        raise LayoutError(f"none of {len(findings)} images under {walk.root} can be a test image{first}")
    classes = walk.classes | {finding.item.cls_name for finding in findings}
    for cls in sorted(classes - set(content["test"])):
        walk.problems.add("empty class", cls, walk.top / cls, "no test image")
    return content
