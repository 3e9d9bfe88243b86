"""Write meta.json for DeepPCB: one class, "deep_pcb", bare circuit boards with boxes around their defects.

It lies at https://github.com/tangsanli5201/DeepPCB (licence MIT). Expected:

    ROOT/PCBData/trainval.txt, test.txt                     lines "group20085/20085/20085000.jpg BOXES.txt"
    ROOT/PCBData/group20085/20085/20085000_test.jpg         the tested board (lists write it without _test)
    ROOT/PCBData/group20085/20085/20085000_temp.jpg         its defect-free template, a normal image
    ROOT/PCBData/group20085/20085_not/20085000.txt          lines "x1 y1 x2 y2 type", types 1 to 6

Masks are drawn to ROOT/filo_masks/: each box is filled with 255 from x1, y1 up to, not including, x2, y2.
specie_name is the type of the boxes where a board has only one, else "mixed"; "good" for templates.

Splits: zero-shot methods train and test on a set's test split, so it holds every tested board of both lists,
the templates of test.txt and every second template of trainval.txt (sorted by name). The other templates of
trainval.txt are the train split, normal references for few-shot methods; a reference can be the template of a
tested board. No template is in both splits, and templates with equal content are in the same one.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import layouts

NAME = "deep_pcb"
TYPES = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}
Box = tuple[int, int, int, int, int]  # x1, y1, x2, y2 in pixels, type


class Board(NamedTuple):
    tested: Path
    template: Path
    boxes: Path


def find(walk: layouts.Walk) -> list[layouts.Item]:
    trainval, test = (read_list(walk, name) for name in ("trainval.txt", "test.txt"))
    name_unlisted(walk, trainval + test)
    return template_items(trainval, test) + [tested_item(walk, board) for board in trainval + test]


def read_list(walk: layouts.Walk, name: str) -> list[Board]:
    """The boards of one published list, sorted by name."""
    folder = walk.root / "PCBData"
    if not (folder / name).is_file():
        raise layouts.LayoutError(f"no PCBData/{name} under {walk.root}: is this the root of DeepPCB?")
    boards = []
    for number, line in read_lines(folder / name):
        where = f"{folder / name}:{number}"
        words = line.split()
        if len(words) != 2 or not words[0].endswith(".jpg"):
            raise layouts.LayoutError(f'{where}: wants "IMAGE.jpg BOXES.txt", has {line!r}')
        image, boxes = (walk.inside(folder, word, where) for word in words)
        tested, template = (walk.confined(image.with_stem(image.stem + end)) for end in ("_test", "_temp"))
        boards.append(Board(tested, template, boxes))
    return sorted(boards)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number, line) for each line that is not empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def name_unlisted(walk: layouts.Walk, boards: list[Board]) -> None:
    listed = {path for board in boards for path in board}
    for folder in sorted({board.tested.parent for board in boards}):
        for image in walk.images(folder, NAME):
            if image not in listed:
                walk.problems.add("image in no list", NAME, image)


def template_items(trainval: list[Board], test: list[Board]) -> list[layouts.Item]:
    """Templates as normal images; one of known content goes where the first of that content went."""
    split_of = {digest(board.template): "test" for board in test}
    items = [layouts.Item("test", NAME, "good", 0, board.template) for board in test]
    for i, board in enumerate(trainval):
        split = split_of.setdefault(digest(board.template), ("train", "test")[i % 2])
        items.append(layouts.Item(split, NAME, "good", 0, board.template))
    return items


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path)


def tested_item(walk: layouts.Walk, board: Board) -> layouts.Item:
    boxes = read_boxes(board.boxes) if board.boxes.is_file() else []
    types = {TYPES[box[4]] for box in boxes}
    kind = types.pop() if len(types) == 1 else "mixed"
    if not boxes:
        return layouts.Item("test", NAME, kind, 1, board.tested)
    name = board.tested.relative_to(walk.root / "PCBData").with_suffix(".png")
    mask = walk.root / layouts.DRAWN_MASKS / name
    return layouts.Item("test", NAME, kind, 1, board.tested, mask, draw=partial(draw, boxes))


def read_boxes(path: Path) -> list[Box]:
    """Boxes of one board; raise LayoutError with file and line for one that is not x1 < x2, y1 < y2, type."""
    boxes = []
    for number, line in read_lines(path):
        words = line.replace(",", " ").split()
        box = tuple(int(word) for word in words if word.isascii() and word.isdigit())
        is_box = len(words) == len(box) == 5
        if not (is_box and box[0] < box[2] and box[1] < box[3] and box[4] in TYPES):
            raise layouts.LayoutError(f'{path}:{number}: wants "x1 y1 x2 y2 type", type 1 to 6, has {line!r}')
        boxes.append(box)
    return boxes


def draw(boxes: list[Box], size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    for *corners, _ in boxes:
        mask.paste(255, tuple(corners))
    return mask


LAYOUT = layouts.Layout(
    name=NAME,
    title="DeepPCB",
    expected="PCBData/trainval.txt",
    source="https://github.com/tangsanli5201/DeepPCB",
    find=find,
    signs=("PCBData",),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
