"""Write meta.json for the magnetic tile defect set: one class, "magnetic_tile", five kinds of defects.

It lies at https://github.com/abin24/Magnetic-tile-defect-datasets. (with the dot). Expected:

    ROOT/MT_Blowhole/Imgs/exp1_num_108719.jpg
    ROOT/MT_Blowhole/Imgs/exp1_num_108719.png     mask of the same name, grey
    ROOT/MT_Break, MT_Crack, MT_Fray, MT_Uneven   the same
    ROOT/MT_Free/Imgs/exp0_num_743.jpg            normal; its black masks are not used

Masks: nearly all have small values such as 3 along their borders, which a loader that takes "> 0" as defect
would count. So all defect masks are written anew to ROOT/filo_masks/MT_KIND/NAME.png: 255 where the published
value is above 127, else 0. All and not only some, so that one rule holds for the whole set.

Splits: none is published. Every defect image is a test image; of the normal ones, sorted by name, the first,
third, fifth ... go to train and the others to test. The set shows some tiles under several exposures, so
a train image and a test image can show the same tile.
"""

from functools import partial
from pathlib import Path

from PIL import Image

import checks
import layouts

NAME = "magnetic_tile"
DEFECTS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")


def find(walk: layouts.Walk) -> list[layouts.Item]:
    normal = list(pairs_of(walk, "Free"))
    items = [layouts.Item(("train", "test")[i % 2], NAME, "good", 0, image) for i, image in enumerate(normal)]
    for kind in DEFECTS:
        items += [defect_item(walk, kind, image, mask) for image, mask in pairs_of(walk, kind).items()]
    return items


def pairs_of(walk: layouts.Walk, kind: str) -> dict[Path, Path | None]:
    folder = walk.root / f"MT_{kind}" / "Imgs"
    if not folder.is_dir():
        walk.problems.add("missing folder", NAME, folder)
    files = walk.images(folder, NAME)
    masks = [path for path in files if path.suffix.lower() == ".png"]
    return walk.pair([path for path in files if path not in masks], masks, NAME)


def defect_item(walk: layouts.Walk, kind: str, image: Path, mask: Path | None) -> layouts.Item:
    if mask is None:
        return layouts.Item("test", NAME, kind, 1, image)
    written = walk.root / layouts.DRAWN_MASKS / f"MT_{kind}" / f"{mask.stem}.png"
    return layouts.Item("test", NAME, kind, 1, image, written, draw=partial(clean, mask))


def clean(mask: Path, size: tuple[int, int]) -> Image.Image:
    """The published mask with values 0 and 255 only, in its own size: that is compared to `size` later."""
    return checks.read_image(mask).convert("L").point(lambda value: 255 if value > 127 else 0)


LAYOUT = layouts.Layout(
    name=NAME,
    title="the magnetic tile set",
    expected="MT_KIND/Imgs/IMAGE.jpg",
    source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    find=find,
    signs=tuple(f"MT_{kind}" for kind in ("Free", *DEFECTS)),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
