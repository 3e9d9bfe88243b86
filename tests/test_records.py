"""What a run keeps of every image comes back as it was, and says the right things."""

import json

import numpy as np
import pytest
from PIL import Image

from filo.errors import InputError
from filo.grounding.boxes import PRESETS, Boxes
from filo.prompts import ClassTexts
from filo.records import (
    Record,
    describe_boxes,
    fit,
    rank_kinds,
    read_records,
    read_small,
    small_path,
    write_record,
    write_small,
)

TEXTS = ClassTexts(
    normal=("nut",),
    abnormal=(),
    positions=("left",),
    phrases=("damage", "rust"),
    states=("rust", "a dent", ""),
)


def record(index, **fields):
    given = {
        "image": f"{index}.png",
        "class_name": "nut",
        "size": (40, 30),
        "score": 0.25,
        "position": "left",
    }
    given |= {
        "normal_similarity": 0.5,
        "kinds": (("rust", 0.4),),
        "label": 1,
        "kind": "rust",
        "has_mask": True,
    }
    return Record(index, **given | fields)


def test_records_come_back_in_order_whatever_order_they_were_written_in(tmp_path):
    box = {"corners": [1.0, 2.0, 3.5, 4.0], "score": 0.9, "phrase": "rust"}
    given = [
        record(1, boxes=(box,)),
        record(0, image="a 'b' <i>ü\u2028\x85.png"),
        record(2, error="broken", threshold=0.5),
    ]
    for each in given:
        write_record(tmp_path, each)
    assert read_records(tmp_path) == sorted(given, key=lambda each: each.index)


def test_a_decision_needs_a_threshold_and_reaching_it_is_enough():
    assert record(0).is_anomalous is None
    assert record(0, threshold=0.25).is_anomalous is True
    assert record(0, threshold=0.2501).is_anomalous is False
    assert record(0, threshold=0.1, error="broken").is_anomalous is None


@pytest.mark.parametrize("line", ["{", "[]", '{"index": 1}', "null"])
def test_a_damaged_line_is_named(tmp_path, line):
    write_record(tmp_path, record(0))
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"predictions\.jsonl, line 2 is damaged"):
        read_records(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no predictions\.jsonl"):
        read_records(tmp_path)


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    write_record(tmp_path, record(0))
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}) + "\n")
    assert read_records(tmp_path) == [record(0)]


def test_kinds_are_ranked_and_the_general_state_is_none_of_them():
    assert rank_kinds(TEXTS, [0.9, 0.1, 0.2]) == (("a dent", 0.2), ("rust", 0.1))
    assert rank_kinds(ClassTexts((), (), (), states=("", "")), [0.9]) == ()


def test_boxes_are_those_that_speak_of_an_anomaly_in_pixels_of_the_image():
    boxes = Boxes(
        np.array([[0.5, 0.5, 0.5, 0.25], [0.9, 0.5, 0.4, 1.0], [0.2, 0.2, 0.1, 0.1]]),
        np.array([0.3, 0.8, 0.9]),
        ("some rust", "damage", "a bolt"),
    )
    found = describe_boxes(boxes, TEXTS, PRESETS["official"], (200, 100))
    assert [(box["phrase"], box["score"]) for box in found] == [("damage", 0.8), ("some rust", 0.3)]
    assert found[0]["corners"] == [140.0, 0.0, 200.0, 100.0]  # cut at the image's edge
    assert found[1]["corners"] == [50.0, 37.5, 150.0, 62.5]
    assert describe_boxes(None, TEXTS, PRESETS["official"], (200, 100)) == ()


def test_small_pictures_keep_what_is_seen(tmp_path):
    image = Image.new("RGB", (1024, 512), (200, 100, 50))
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[:32] = 0.75
    mask = np.zeros((512, 1024), bool)
    mask[100:104, 200:204] = True  # four pixels wide, one in the small image
    write_small(tmp_path, 3, image, anomaly_map, mask)
    small = read_small(tmp_path, record(3))
    assert small.image.size == (256, 128) and small.anomaly_map.shape == (64, 128)
    assert np.abs(np.asarray(small.image, int) - (200, 100, 50)).max() < 6
    assert small.anomaly_map[:30] == pytest.approx(0.75, abs=1e-4)
    assert small.anomaly_map[34:] == pytest.approx(0, abs=1e-4)
    assert small.mask.shape == (128, 256) and small.mask.sum() == 1 and small.mask[25, 50]


def test_a_map_smaller_than_its_picture_and_an_image_without_mask(tmp_path):
    write_small(tmp_path, 0, Image.new("RGB", (20, 30)), np.full((8, 8), 2.0))
    small = read_small(tmp_path, record(0))
    assert small.image.size == (20, 30) and small.mask is None
    assert small.anomaly_map.shape == (30, 20) and (small.anomaly_map == 1).all()  # cut to the natural range


def test_what_is_missing_or_damaged_is_no_picture(tmp_path):
    assert read_small(tmp_path, record(0)) is None
    write_small(tmp_path, 0, Image.new("RGB", (8, 8)), np.zeros((8, 8)))
    path = small_path(tmp_path, 0, "map")
    path.write_bytes(path.read_bytes()[:40])
    assert read_small(tmp_path, record(0)) is None


def test_a_line_says_the_decision_and_where_the_heatmap_is(tmp_path):
    for i, fields in enumerate(({}, {"threshold": 0.2}, {"threshold": 0.3})):
        write_record(tmp_path, record(i, **fields, heatmap=f"heatmaps/{i}.jpg" if i else ""))
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["is_anomalous"] for line in lines] == [None, True, False]
    read = read_records(tmp_path)
    for found in ([line["heatmap"] for line in lines], [each.heatmap for each in read]):
        assert found == ["", "heatmaps/1.jpg", "heatmaps/2.jpg"]
    assert [each.is_anomalous for each in read] == [None, True, False]


@pytest.mark.parametrize(
    ("size", "side", "wanted"),
    [((100, 50), 50, (50, 25)), ((30, 40), 50, (30, 40)), ((5000, 1), 50, (50, 1))],
)
def test_sizes_are_shrunk_and_never_grown(size, side, wanted):
    assert fit(size, side) == wanted
