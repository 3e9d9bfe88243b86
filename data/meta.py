"""Write meta.json, the masks a layout had to draw and, with --out, a copy of the images; sum it all up."""

import filecmp
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from checks import Finding, Item, LayoutError, Problems, as_png


def entries(findings: list[Finding], root: Path) -> dict[str, dict[str, list[dict]]]:
    """The content of meta.json: split -> class -> entries sorted by image path; only kept images."""
    content: dict[str, dict[str, list[dict]]] = {"train": {}, "test": {}}
    kept = [finding.item for finding in findings if finding.is_kept]
    for item in sorted(kept, key=lambda item: (item.cls_name, item.image.relative_to(root).as_posix())):
        content[item.split].setdefault(item.cls_name, []).append(entry(item, root))
    return content


def entry(item: Item, root: Path) -> dict:
    return {
        "img_path": item.image.relative_to(root).as_posix(),
        "mask_path": item.mask.relative_to(root).as_posix() if item.mask else "",
        "cls_name": item.cls_name,
        "specie_name": item.specie_name,
        "anomaly": item.anomaly,
    }


def make_writable(base: Path) -> None:
    """Create `base` if need be; raise LayoutError now rather than after minutes of reading images."""
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LayoutError(f"cannot create the folder {base}: {error.strerror}") from error
    if not os.access(base, os.W_OK | os.X_OK):
        raise LayoutError(f"cannot write into {base}; give --out DIR to put meta.json and a copy elsewhere")


def write(content: dict, findings: list[Finding], root: Path, base: Path) -> None:
    """Write masks and copies first and meta.json last: where it lies, all that it names lies too."""
    kept = [finding for finding in findings if finding.is_kept]
    try:
        if base != root:
            copy_files(kept, root, base)
        made = [finding for finding in kept if finding.drawn is not None or finding.item.part]
        for finding in tqdm(made, "drawing", unit="image", disable=None):
            write_made(finding, root, base)
        write_bytes(base / "meta.json", (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise LayoutError(f"cannot write under {base}: {error.strerror or error}") from error


def write_made(finding: Finding, root: Path, base: Path) -> None:
    """Write what the published set does not hold as a file of its own: a drawn mask, a part of an image."""
    item = finding.item
    if finding.drawn is not None:
        write_bytes(inside(base, base / item.mask.relative_to(root)), finding.drawn)
    if item.part:  # read once more, since all parts of a set at once would fill the memory
        write_bytes(inside(base, base / item.image.relative_to(root)), as_png(item.part.read()))


def copy_files(kept: list[Finding], root: Path, base: Path) -> None:
    paths = {finding.item.image for finding in kept if not finding.item.part}
    paths |= {finding.item.mask for finding in kept if finding.item.mask and finding.drawn is None}
    for path in tqdm(sorted(paths), "copying", unit="file", disable=None):
        target = inside(base, base / path.relative_to(root))
        if not (target.is_file() and filecmp.cmp(path, target)):
            replace_file(target, lambda temporary, path=path: shutil.copy2(path, temporary))


def inside(base: Path, target: Path) -> Path:
    """Give `target` back, or raise where a link on its way, as a downloaded set may hold, leaves `base`."""
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(base)):
        raise LayoutError(f"{target.parent} leads out of {base} by a link: remove it, and run this again")
    return target


def write_bytes(target: Path, data: bytes) -> None:
    replace_file(target, lambda temporary: temporary.write_bytes(data))


def replace_file(target: Path, fill: Callable[[Path], object]) -> None:
    """Fill a temporary file beside `target`, then rename it: readers see the old file or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # not to be written through, if it is a link
        fill(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def summary(content: dict, problems: Problems) -> str:
    """A table with one row per class, and a sum where there are several."""
    classes = {cls for split in content.values() for cls in split} | {cls for _, cls, _ in problems.found}
    rows = [[cls or "(no class)", *counts(content, problems, cls)] for cls in sorted(classes)]
    if len(rows) > 1:
        rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    headers = ["class", "train normal", "test normal", "test anomalous", "masks", "problems"]
    return tabulate(rows, headers, disable_numparse=[0])


def counts(content: dict, problems: Problems, cls: str) -> list[int]:
    train, test = (content[split].get(cls, []) for split in ("train", "test"))
    anomalous = sum(entry["anomaly"] for entry in test)
    masks = sum(entry["mask_path"] != "" for entry in train + test)
    return [len(train), len(test) - anomalous, anomalous, masks, problems.count(cls)]


def totals(content: dict) -> tuple[int, int]:
    """How many normal and how many anomalous test images all classes have together."""
    labels = [entry["anomaly"] for entries in content["test"].values() for entry in entries]
    return labels.count(0), labels.count(1)


def against_published(found: tuple[int, int], published: tuple[int, int]) -> str:
    """Compare (normal, anomalous) test images with the published numbers, in words."""
    kinds = ("normal", "anomalous")
    return "; ".join(difference(*each) for each in zip(kinds, found, published, strict=True))


def difference(kind: str, found: int, published: int) -> str:
    if found == published:
        return f"{found} {kind} test images, as published"
    word = "fewer" if found < published else "more"
    return f"{found} {kind} test images, {abs(found - published)} {word} than the {published} published"
