"""Write boxes and phrases for fine-tuning the detector: masks of a dataset -> COCO and ODVG files.

python -m filo.grounding.annotations --meta data/visa/meta.json --out data/visa_boxes

Written are, in the forms that MMDetection's Grounding DINO configs read:

    odvg_grounding.jsonl   a line for each image: its caption, and for each box where the caption names it
    odvg_detection.jsonl   a line for each image: boxes with a label of label_map.json
    label_map.json         the labels of odvg_detection.jsonl
    coco.json              the same boxes and labels for CocoDataset and CocoMetric
    args.json              what all this was made from

Boxes: defect pixels at most --merge_distance of the image's shorter side apart get one box together, and so
do those that others join in a chain; what has fewer pixels than --min_area of the image is dropped, unless
nothing else is left of an image, which then keeps its largest. Masks are taken at the size of their images.

Phrases: the kind of defect as meta.json names it, "anomaly" where that tells nothing ("bad", "combined" ...).
The caption is what test.py gives the detector for that class, with the kinds of the class put in where they
are not in it yet. A box belongs to every place that names its kind, and to "anomaly" in any case: which boxes
count in test.py depends on the general words, so the detector must not learn to keep those for other things.

Normal images go in without boxes, so that the detector learns where nothing is. An anomalous image whose mask
is blank is left out and counted.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.ExifTags import Base
from tqdm import tqdm

from filo import options
from filo.errors import InputError, exit_clearly
from filo.files import sha256_of, write_json, write_text
from filo.grounding import forms
from filo.grounding.forms import Picture
from filo.grounding.regions import find_regions
from filo.meta import Entry, Meta, read_meta
from filo.prompts import PromptBook
from filo.transforms import open_image, open_mask

FILES = ("odvg_grounding.jsonl", "odvg_detection.jsonl", "label_map.json", "coco.json")


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.grounding.annotations"
    add = parser.add_argument_group("data: which masks, which words").add_argument
    add("--meta", type=Path, required=True, help="a dataset's meta.json, or the folder that holds it")
    add("--split", default="test", help="which part of it; FiLo trains on the test split")
    add("--dataset", help="picks prompts/<dataset>.json (default: the name of meta.json's folder)")
    options.add_prompt_option(add)

    # MMDetection trains on pictures with a shorter side of 480 to 800 pixels, seen in cells of 8 and more
    add = parser.add_argument_group("boxes: which defect pixels make one").add_argument
    near = "defects at most this share of the shorter side apart get one box; 0: only if they touch"
    add("--merge_distance", type=options.share, default=0.01, help=near)
    small = "what has fewer pixels than this share of the image gets no box, unless the image has no other"
    add("--min_area", type=options.share, default=2e-5, help=small)

    add = parser.add_argument_group("run: where the files go").add_argument
    add("--out", type=Path, required=True, help="folder for the files")
    add("--overwrite", action="store_true", help="replace the annotations that the folder holds")
    options.add_image_option(add)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    root = args.meta.parent if args.meta.name == "meta.json" else args.meta
    args.dataset = args.dataset or root.resolve().name
    meta, book = read_meta(root, args.split), options.read_prompts(args)
    meta.require_masks()
    phrases = {class_name: book.phrases(class_name) for class_name in meta.classes}
    general = book.templates["detector"]
    prepare_folder(args.out, args.overwrite)
    pictures, blank = [], []
    for entry in tqdm(meta.entries, desc="masks", unit="image", disable=None):
        picture = read_picture(meta, entry, general[0], args.min_area, args.merge_distance)
        (blank if entry.label and not picture.has_boxes else pictures).append(picture)
    if not any(picture.has_boxes for picture in pictures):
        raise InputError(f"{root / 'meta.json'} marks no defect under {args.split!r}: nothing to learn from")
    captions = forms.make_captions(pictures, general, phrases)
    write(args, meta, book, pictures, captions)
    report(args, pictures, blank)


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder, and complain before the work instead of after it.

    Raises:
        InputError: it holds annotations already, or cannot be written to.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(f"{folder} already holds {there[0]}: choose another --out, or add --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made ({error}); choose another --out") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {folder} cannot be written to; choose another --out")


def read_picture(meta: Meta, entry: Entry, general: str, min_area: float, merge_distance: float) -> Picture:
    """Find the boxes of one image.

    Raises:
        InputError: image or mask cannot be read, or the image asks to be turned before it is looked at.
    """
    image = open_image(entry.image)
    if image.getexif().get(Base.Orientation, 1) != 1:
        raise InputError(
            f"{entry.image} is stored turned (EXIF orientation): MMDetection turns it back, which its mask "
            "and boxes do not follow; save it upright"
        )
    mask = np.zeros((image.height, image.width), bool)
    if entry.mask is not None:
        mask = np.asarray(open_mask(entry.mask, image.size)) > 0
    name = entry.image.relative_to(meta.root.resolve()).as_posix()
    phrase = forms.name_kind(entry.kind, general)
    regions = find_regions(mask, min_area, merge_distance)
    return Picture(name, image.width, image.height, entry.class_name, phrase, regions)


def write(
    args: argparse.Namespace,
    meta: Meta,
    book: PromptBook,
    pictures: Sequence[Picture],
    captions: dict[str, str],
) -> None:
    labels = forms.list_labels(pictures)
    rule = {"merge_distance": args.merge_distance, "min_area": args.min_area}
    source = {"meta": str(meta.root / "meta.json"), "meta_sha256": meta.sha256, "split": args.split}
    prompts = {str(path): sha256_of(path) for path in book.files}
    write_json(args.out / "args.json", source | {"prompts": prompts} | rule)
    general = book.templates["detector"][0]
    lines = [forms.to_grounding(p, captions[p.class_name], general) for p in pictures]
    write_lines(args.out / "odvg_grounding.jsonl", lines)
    write_lines(args.out / "odvg_detection.jsonl", [forms.to_detection(p, labels) for p in pictures])
    write_lines(args.out / "label_map.json", [forms.to_label_map(labels)])
    about = f"{args.dataset}, {args.split}: boxes around what its masks mark ({rule})"
    write_lines(args.out / "coco.json", [forms.to_coco(pictures, labels, about)])


def write_lines(path: Path, lines: Sequence[dict]) -> None:
    """Write one JSON object a line, in ASCII, since MMDetection reads it in the machine's own encoding."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def report(args: argparse.Namespace, pictures: Sequence[Picture], blank: Sequence[Picture]) -> None:
    """Say what was found, dropped and left out, and where the files are."""
    marked = [picture for picture in pictures if picture.has_boxes]
    boxes = Counter()
    for picture in marked:
        boxes[picture.phrase] += len(picture.regions.boxes)
    dropped = sum(picture.regions.dropped for picture in marked)
    print(f"{len(marked)} images with {boxes.total()} boxes, {len(pictures) - len(marked)} without")
    print("boxes: " + ", ".join(f"{phrase} {count}" for phrase, count in boxes.most_common()))
    if dropped:
        print(f"dropped: {dropped} specks smaller than {args.min_area:g} of their image")
    if blank:
        print(f"left out: {len(blank)} anomalous images with a blank mask, the first is {blank[0].name}")
    print(f"wrote {', '.join(FILES)} to {args.out}; README.md, Fine-tuning the detector, says how to go on")


if __name__ == "__main__":
    exit_clearly(main)
