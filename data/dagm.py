"""Write meta.json for DAGM 2007: ten classes of artificial textures, each with its own kind of defect.

It lies at https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007-competition-dataset-optical-inspection
(licence: see there). Expected:

    ROOT/DAGM_KaggleUpload/Class1/Train/0576.PNG
    ROOT/DAGM_KaggleUpload/Class1/Train/Label/0576_label.PNG     mask; only of an anomalous image
    ROOT/DAGM_KaggleUpload/Class1/Train/Label/Labels.txt         number, 1 if anomalous, image, ...
    ROOT/DAGM_KaggleUpload/Class1/Test                           the same
    ROOT/DAGM_KaggleUpload/Class2, ... Class10                   the same

ROOT may also be DAGM_KaggleUpload/ itself; a class may lie in another folder of its name,
Class1/Class1/Train. An image is anomalous if it has a mask or Labels.txt says so. Masks are ellipses around
the defects. Anomalous images of Train are left out, since a train split holds normal images only.
"""

from pathlib import Path

import layouts

CLASSES = tuple(f"Class{number}" for number in range(1, 11))
SPLITS = {"train": "Train", "test": "Test"}


def find(walk: layouts.Walk) -> list[layouts.Item]:
    found = {folder.name: folder for folder in walk.folders(walk.top)}
    items = []
    for cls_name in CLASSES:
        if cls_name not in found:
            walk.problems.add("missing folder", cls_name, walk.top / cls_name)
            continue
        inner = found[cls_name] / cls_name
        folder = inner if inner.is_dir() else found[cls_name]
        for split, name in SPLITS.items():
            items += items_of(walk, cls_name, split, folder / name)
    return items


def items_of(walk: layouts.Walk, cls_name: str, split: str, folder: Path) -> list[layouts.Item]:
    if not folder.is_dir():
        walk.problems.add("missing folder", cls_name, folder)
    listed = listed_defects(folder / "Label" / "Labels.txt")
    masks = walk.images(folder / "Label", cls_name)
    items = []
    for image, mask in walk.pair(walk.images(folder, cls_name), masks, cls_name).items():
        if not mask and image.name not in listed:
            items.append(layouts.Item(split, cls_name, "good", 0, image))
        elif split == "test":
            items.append(layouts.Item(split, cls_name, "defect", 1, image, mask))
    return items


def listed_defects(table: Path) -> set[str]:
    """Names of the images that Labels.txt marks by a 1; none without this file, which is not always there."""
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines() if table.is_file() else []
    rows = [line.split() for line in lines]
    return {row[2] for row in rows if len(row) > 2 and row[1] == "1"}


LAYOUT = layouts.Layout(
    name="dagm",
    title="DAGM 2007",
    expected="Class1/Test/IMAGE",
    source="https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007-competition-dataset-optical-inspection",
    find=find,
    counts=(6996, 1054),
    folders=("DAGM_KaggleUpload", "DAGM_anomaly_detection", "DAGM2007"),
    signs=("Class*/Test/Label", "Class*/Class*/Test/Label"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
