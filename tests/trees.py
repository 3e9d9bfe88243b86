"""A small dataset on disk whose pictures tell where they stand in meta.json."""

import json

import numpy as np
import pytest
from PIL import Image

from filo.errors import InputError

KINDS = {
    "nut": ["good", "crack", "good", "crack", "dent"],
    "bolt": ["good", "good", "bent"],
}


def row(class_name, kind, number):
    anomaly = int(kind != "good")
    return {
        "img_path": f"{class_name}/{number}.png",
        "mask_path": f"{class_name}/{number}_mask.png" if anomaly else "",
        "cls_name": class_name,
        "specie_name": kind,
        "anomaly": anomaly,
    }


def make_root(root, kinds=KINDS):
    """Every image is of one colour of its own: its place in meta.json times 5; masks mark the left half."""
    content, place = {"test": {}}, 0
    for class_name, of_class in kinds.items():
        (root / class_name).mkdir(parents=True)
        for number, kind in enumerate(of_class):
            entry = row(class_name, kind, number)
            Image.new("RGB", (8, 6), (5 * place,) * 3).save(root / entry["img_path"])
            if entry["mask_path"]:
                mask = np.zeros((6, 8), dtype=np.uint8)
                mask[:, :4] = 1 + place
                Image.fromarray(mask).save(root / entry["mask_path"])
            content["test"].setdefault(class_name, []).append(entry)
            place += 1
    (root / "meta.json").write_text(json.dumps(content))
    return root


def rewrite(root, change):
    content = json.loads((root / "meta.json").read_text())
    changed = change(content)
    (root / "meta.json").write_text(json.dumps(content if changed is None else changed))


def complaint(call):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def put(content, path, value):
    """Give a JSON value with another one at the end of a way through its keys."""
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = put(content[path[0]] if len(path) > 1 else None, path[1:], value)
    return copy
