"""Write meta.json for KolektorSDD: one class, "electrical_commutators", plastic parts that may have a crack.

It lies at https://www.vicos.si/resources/kolektorsdd/ (licence CC BY-NC-SA 4.0). Expected:

    ROOT/KolektorSDD/kos01/Part0.jpg            500 x about 1250 pixels
    ROOT/KolektorSDD/kos01/Part0_label.bmp      its mask, black where the part is sound
    ROOT/KolektorSDD/kos02, ... kos50           the same

Images and masks are cut into an upper and a lower half, as for AnomalyCLIP:
ROOT/filo_images/kos01/Part0_1.png and Part0_2.png, masks of the same names in ROOT/filo_masks. A half is
anomalous if its mask has any value above 0. An image without mask is left out.

Splits: of the 399 x 2 halves 74 anomalous and 181 normal ones are published as test images, which is all
anomalous halves and a fourth of the others. Which fourth is not said. Here it is the first, fifth, ninth ...
of the normal halves, sorted by name; the rest is the train split, which can show the other half of a part
that is tested.

Also read is the set cut beforehand, in the form of MVTec AD that the published program wants:

    ROOT/electrical commutators/train/good/IMAGE              or electrical_commutators/
    ROOT/electrical commutators/test/KIND/IMAGE
    ROOT/electrical commutators/ground_truth/KIND/IMAGE

ROOT may also be KolektorSDD/ itself.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

import checks
import forms
import layouts

NAME = "electrical_commutators"
HALVES = 2
NORMAL_PER_TEST = 4  # of so many normal halves one is a test image


def find(walk: layouts.Walk) -> list[layouts.Item]:
    for folder in (walk.top / NAME, walk.top / NAME.replace("_", " ")):
        if forms.has_splits(folder):
            return forms.ClassFolder(walk, folder, NAME).items()
    halves = [half for folder in walk.matching("kos[0-9][0-9]") for half in halves_of(walk, folder)]
    normal = [half.image for half in halves if not half.anomaly]
    train = set(normal) - set(normal[::NORMAL_PER_TEST])
    return [replace(half, split="train") if half.image in train else half for half in halves]


def halves_of(walk: layouts.Walk, folder: Path) -> list[layouts.Item]:
    files = walk.images(folder, NAME)
    masks = [path for path in files if path.stem.endswith("_label")]
    halves = []
    for image, mask in walk.pair([path for path in files if path not in masks], masks, NAME).items():
        if mask:
            halves += cut(walk, image, mask)
        else:
            walk.problems.add("image without label", NAME, image)
    return halves


def cut(walk: layouts.Walk, image: Path, mask: Path) -> list[layouts.Item]:
    """The halves of one image, all of the test split; none where the mask cannot be read."""
    parts = [checks.Part(mask, index, HALVES) for index in range(HALVES)]
    try:
        with checks.limit_pixels(checks.LARGEST):
            defects = [draw(part).getextrema()[1] > 0 for part in parts]
    except Exception as error:  # damaged files raise nearly anything in Pillow's decoders
        walk.problems.add("unreadable mask", NAME, image, f"{mask.name}: {checks.reason(error)}")
        return []
    halves = []
    for part, is_defect in zip(parts, defects, strict=True):
        name = f"{image.parent.name}/{image.stem}_{part.index + 1}.png"
        half = layouts.Item("test", NAME, "good", 0, walk.root / layouts.DRAWN_IMAGES / name)
        if is_defect:
            drawn = walk.root / layouts.DRAWN_MASKS / name
            half = replace(half, specie_name="defect", anomaly=1, mask=drawn, draw=partial(draw, part))
        halves.append(replace(half, part=replace(part, source=image)))
    return halves


def draw(part: checks.Part, _: tuple[int, int] = (0, 0)) -> Image.Image:
    """A half of a mask in its own size, which is compared to that of its image later."""
    return part.read().convert("L")


LAYOUT = layouts.Layout(
    name="sdd",
    title="KolektorSDD",
    expected="kos01/Part0.jpg",
    source="https://www.vicos.si/resources/kolektorsdd/",
    find=find,
    counts=(181, 74),
    folders=("KolektorSDD", "SDD"),
    signs=("kos[0-9][0-9]", "electrical?commutators"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
