"""Write meta.json for HeadCT: one class, "brain", CT slices with and without a bleeding; there are no masks.

It lies at https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage (licence: see there). Expected:

    ROOT/labels.csv                 titles, then for each image its number and 1 for a bleeding, else 0
    ROOT/head_ct/head_ct/000.png    number 0; the images may also lie in head_ct/, or beside labels.csv

or, as the published program wants it, folders by what the images show:

    ROOT/brain/test/good/IMAGE
    ROOT/brain/test/hemorrhage/IMAGE      any name but good

ROOT may also be the folder around HeadCT_anomaly_detection/. All images are test images.
"""

from pathlib import Path

import forms
import layouts

NAME = "brain"
KINDS = {"0": "good", "1": "hemorrhage"}


def find(walk: layouts.Walk) -> list[layouts.Item]:
    if forms.has_splits(walk.top / NAME):
        return forms.ClassFolder(walk, walk.top / NAME, NAME, expects_mask=False).items()
    places = (walk.top / "head_ct" / "head_ct", walk.top / "head_ct", walk.top)
    images = next(filter(None, (walk.images(place, NAME) for place in places)), [])
    tables = [place / "labels.csv" for place in places if (place / "labels.csv").is_file()]
    if images and not tables:
        raise layouts.LayoutError(f"no labels.csv under {walk.top}: it says which image shows a bleeding")
    return items_of(walk, images, read_labels(walk.confined(tables[0]))) if images else []


def items_of(walk: layouts.Walk, images: list[Path], kinds: dict[str, str]) -> list[layouts.Item]:
    """Images with the kinds that the table gives their numbers; names what only one of the two has."""
    items = []
    for image in images:
        kind = kinds.pop(image.stem.lstrip("0") or "0", "")
        if kind:
            items.append(layouts.Item("test", NAME, kind, int(kind != "good"), image, expects_mask=False))
        else:
            walk.problems.add("image in no list", NAME, image)
    for number in kinds:
        walk.problems.add("missing file", NAME, images[0].with_stem(number.zfill(3)))
    return items


def read_labels(table: Path) -> dict[str, str]:
    """Kind of each image by its number; raise LayoutError for a line that is not a number and 0 or 1."""
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    kinds = {}
    for line, text in enumerate(lines, 1):
        words = text.replace(",", " ").split()
        if len(words) == 2 and words[0].isdecimal() and words[1] in KINDS:
            kinds[words[0].lstrip("0") or "0"] = KINDS[words[1]]
        elif words and line > 1:  # the first has the titles
            raise layouts.LayoutError(f"{table}:{line}: wants a number and 0 or 1, has {text!r}")
    return kinds


LAYOUT = layouts.Layout(
    name="headct",
    title="HeadCT",
    expected="head_ct/head_ct/IMAGE",
    source="https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage",
    find=find,
    counts=(100, 100),
    folders=("HeadCT_anomaly_detection", "HeadCT"),
    signs=("head_ct", "brain/test"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
