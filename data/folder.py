"""Write meta.json for your own images, sorted into folders by what they show.

    ROOT/screw/good/IMAGE                     normal
    ROOT/screw/scratch/IMAGE                  anomalous, one folder per kind of defect, named as you like
    ROOT/screw/ground_truth/scratch/IMAGE     masks, optional; or masks/scratch/; NAME.png or NAME_mask.png

or with a train and a test level, as in MVTec AD (train holds normal images only):

    ROOT/screw/train/good/IMAGE
    ROOT/screw/test/good/IMAGE
    ROOT/screw/test/scratch/IMAGE

Without that level all images are test images. A ROOT that itself holds good/, train/ or test/ is one class,
called like the folder or as --class_name says. A class without any mask is evaluated per image only.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import forms
import layouts

MASK_FOLDERS = ("ground_truth", "masks")


def find(walk: layouts.Walk, class_name: str | None, normal: str) -> list[layouts.Item]:
    if is_class(walk.root, normal):
        return items_of(walk, walk.root, class_name or walk.true_root.name, normal)
    folders = walk.folders(walk.root)
    if not any(is_class(folder, normal) for folder in folders):
        known_by = f"{normal}/, CLASS/{normal}/ or CLASS/test/"
        raise layouts.LayoutError(f"no {known_by} under {walk.root}: are the images in such folders?")
    if class_name:
        raise layouts.LayoutError(f"--class_name is for a root of one class; {walk.root} holds class folders")
    for image in walk.images(walk.root, ""):
        walk.problems.add("image outside a kind folder", "", image)
    return [item for folder in folders for item in items_of(walk, folder, folder.name, normal)]


def is_class(folder: Path, normal: str) -> bool:
    return any((folder / name).is_dir() for name in (normal, "train", "test"))


def items_of(walk: layouts.Walk, folder: Path, cls_name: str, normal: str) -> list[layouts.Item]:
    """Items of one class; where it has no mask at all, none is expected."""
    items = forms.ClassFolder(walk, folder, cls_name, normal, MASK_FOLDERS).items()
    has_masks = any(item.mask for item in items)
    return [replace(item, expects_mask=has_masks) for item in items]


def main() -> None:
    parser = layouts.arguments(__doc__)
    parser.add_argument("--class_name", help="name of the class, where the root is one class")
    parser.add_argument("--normal_folder", default="good", help="folder of the normal images (default: good)")
    args = parser.parse_args()
    layout = layouts.Layout(
        name="folder",
        title="your images",
        expected=f"CLASS/{args.normal_folder}/IMAGE",
        source="see --help for the folders",
        find=partial(find, class_name=args.class_name, normal=args.normal_folder),
        has_prompts=False,
    )
    layouts.run(layout, args)


if __name__ == "__main__":
    main()
