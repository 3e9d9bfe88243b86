"""Thresholds in a file beside the checkpoint: kept, merged, and used only where they belong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from filo.decisions import (
    Decision,
    Decisions,
    decisions_path,
    describe_scoring,
    hash_texts,
    of_class,
    read_decisions,
    write_decisions,
)
from filo.methods.filo_config import PRESETS
from filo.plots import Scale
from filo.prompts import ClassTexts
from tests.trees import complaint

TEXTS = {name: ClassTexts((name,), (f"broken {name}",), ("top",), (name,)) for name in ("nut", "bolt")}


def scoring(**changes):
    values = {
        "checkpoint_sha256": "a" * 64,
        "config": PRESETS["official"],
        "image_size": 518,
        "precision": "fp32",
        "without": ["shapes", "position"],
        "detector": {"kind": "none"},
        "texts": TEXTS,
    }
    return describe_scoring(**values | changes)


def decision(name, threshold=0.5, **changes):
    return Decision(
        threshold, "f1", None, 3, 4, {"f1": 1.0}, {"run": "r"}, "2026", of_class(scoring(**changes), name)
    )


def test_what_scores_depend_on_is_fit_for_json_and_in_one_order():
    about = scoring()
    assert json.loads(json.dumps(about)) == about
    assert about["without"] == ["position", "shapes"] and about["features_list"] == [6, 12, 18, 24]


def test_a_detector_counts_by_what_it_is_and_not_by_how_its_answers_came():
    record = {"identity": "x", "thresholds": {"box": 0.25}, "seconds": 3.0, "detected": 7, "config": "c.py"}
    run, cached = (scoring(detector=record | {"kind": kind}) for kind in ("groundingdino", "cached"))
    assert run == cached == scoring(detector=record | {"kind": "cached", "detected": 0})
    assert run != scoring() and run != scoring(detector=record | {"kind": "cached", "thresholds": {}})


def test_texts_count_by_what_is_read():
    texts = TEXTS["nut"]
    assert hash_texts(texts) == hash_texts(replace(texts, states=("other",)))
    for change in ({"normal": ("nuts",)}, {"abnormal": ()}, {"phrases": ("dent",)}):
        assert hash_texts(texts) != hash_texts(replace(texts, **change))


def test_they_lie_beside_the_checkpoint():
    assert decisions_path(Path("a/filo.v2.safetensors")) == Path("a/filo.v2.decisions.json")


def test_they_come_back_as_they_were(tmp_path):
    made = Decisions(tmp_path / "d.json", {"nut": decision("nut", -0.125)}, Scale(0.1, 0.7, "x"), {"a": [1]})
    write_decisions(made)
    assert read_decisions(tmp_path / "d.json") == made
    assert read_decisions(tmp_path / "none.json") == Decisions(tmp_path / "none.json")


def test_merging_keeps_the_other_classes_and_the_scale_where_there_is_no_new_one(tmp_path):
    path = tmp_path / "d.json"
    old = Decisions(
        path, {"nut": decision("nut", 0.1), "bolt": decision("bolt", 0.2)}, Scale(0, 1, "old"), {}
    )
    merged = old.merged(Decisions(path, {"nut": decision("nut", 0.3)}))
    assert {name: each.threshold for name, each in merged.classes.items()} == {"nut": 0.3, "bolt": 0.2}
    assert merged.scale.origin == "old"
    newer = old.merged(Decisions(path, {}, Scale(0, 0.5, "new"), {"a": 1}))
    assert newer.scale.origin == "new" and newer.scale_settings == {"a": 1}


def test_a_threshold_is_found_where_everything_agrees(tmp_path):
    found = Decisions(tmp_path / "d.json", {"nut": decision("nut", 0.3)})
    assert found.find("nut", scoring()) == (0.3, "")
    assert found.find("nut", scoring(texts={"nut": TEXTS["nut"]})) == (0.3, "")  # other classes do not count


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checkpoint_sha256": "b" * 64}, "another checkpoint"),
        ({"image_size": 336}, "image_size 518, not 336"),
        ({"precision": "fp16"}, "precision fp32, not fp16"),
        ({"without": []}, "without [position, shapes], not []"),
        ({"texts": {"nut": TEXTS["bolt"]}}, "other texts of the class"),
        ({"detector": {"kind": "cached", "identity": "x"}}, "detector none, not {identity: x"),
    ],
)
def test_otherwise_it_says_what_differs(tmp_path, changes, reason):
    found = Decisions(
        tmp_path / "d.json", {"nut": decision("nut")}, Scale(0, 1, "x"), of_class(scoring(), None)
    )
    threshold, why = found.find("nut", scoring(**changes))
    assert threshold is None and reason in why and len(why.splitlines()) == 1
    assert (found.find_scale(scoring(**changes)) is None) == ("texts" not in changes)


def test_a_class_without_a_threshold_is_told_which_have_one(tmp_path):
    found = Decisions(tmp_path / "d.json", {"nut": decision("nut")})
    assert found.find("bolt", scoring())[1].endswith("has a threshold for nut only")
    assert "filo.calibrate" in Decisions(tmp_path / "d.json").find("bolt", scoring())[1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "filo-decisions-9", "classes": {}}',
        '{"format": "filo-decisions-1", "scale": null, "classes": {"nut": {"threshold": "high"}}}',
        '{"format": "filo-decisions-1", "scale": null, "classes": {"nut": {"threshold": 1}}}',
        '{"format": "filo-decisions-1", "scale": {"low": 1, "high": 0, "origin": ""}, "classes": {}}',
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "d.json"
    path.write_text(content)
    assert str(path) in complaint(lambda: read_decisions(path))
