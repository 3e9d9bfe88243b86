"""Write meta.json for VisA: 12 classes of electronic boards, food and small parts.

Its address is linked from https://github.com/amazon-science/spot-diff (licence CC BY 4.0). Expected:

    ROOT/split_csv/1cls.csv       columns object, split, label, image, mask; paths relative to ROOT
    ROOT/candle/Data/Images/Normal/0000.JPG
    ROOT/candle/Data/Images/Anomaly/000.JPG
    ROOT/candle/Data/Masks/Anomaly/000.png

The table does not name kinds of defects: specie_name is "good" or "anomaly".
"""

import csv
from pathlib import Path

import layouts

TABLE = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
LABELS = {"normal": 0, "anomaly": 1}


def find(walk: layouts.Walk) -> list[layouts.Item]:
    table = walk.top / TABLE
    if not table.is_file():
        raise layouts.LayoutError(f"no {TABLE} under {walk.root}: is this the root of VisA?")
    return [item_of(walk, row, f"{table}:{line}") for line, row in read_rows(table)]


def read_rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, row) for each row of the table; raise LayoutError for one that lacks a column."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                seen = ", ".join(reader.fieldnames or ()) or "nothing"
                wanted = ", ".join(COLUMNS)
                raise layouts.LayoutError(f"{table}: wants the columns {wanted}; its head has {seen}")
            return [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise layouts.LayoutError(f"{table}: not a readable table: {error}") from error


def item_of(walk: layouts.Walk, row: dict[str, str | None], where: str) -> layouts.Item:
    if row["split"] not in ("train", "test") or row["label"] not in LABELS:
        wanted = f"split train or test and label {' or '.join(LABELS)}"
        raise layouts.LayoutError(f"{where}: wants {wanted}; has {row['split']!r} and {row['label']!r}")
    if not row["object"] or not row["image"]:
        raise layouts.LayoutError(f"{where}: object or image is empty")
    anomaly = LABELS[row["label"]]
    mask = walk.inside(walk.top, row["mask"], where) if anomaly and row["mask"] else None
    image = walk.inside(walk.top, row["image"], where)
    return layouts.Item(row["split"], row["object"], "anomaly" if anomaly else "good", anomaly, image, mask)


LAYOUT = layouts.Layout(
    name="visa",
    title="VisA",
    expected=TABLE,
    source="https://github.com/amazon-science/spot-diff",
    find=find,
    counts=(962, 1200),
    folders=("VisA_20220922", "VisA"),
    signs=(TABLE, "split_csv"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
