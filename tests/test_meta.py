"""Reading meta.json strictly."""

import pytest

from filo.meta import read_meta
from tests.trees import KINDS, complaint, make_root, rewrite, row


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


def test_entries_come_in_the_files_order(root):
    entries = read_meta(root, "test").entries
    places = [f"{entry.class_name}/{entry.image.stem}" for entry in entries]
    assert places == ["nut/0", "nut/1", "nut/2", "nut/3", "nut/4", "bolt/0", "bolt/1", "bolt/2"]
    assert [entry.kind for entry in entries] == KINDS["nut"] + KINDS["bolt"]
    assert [entry.label for entry in entries] == [0, 1, 0, 1, 1, 0, 0, 1]
    assert [entry.mask is not None for entry in entries] == [entry.label == 1 for entry in entries]
    assert all(entry.has_mask for entry in entries)


def test_classes_keep_the_order_of_the_file_too(root):
    assert read_meta(root, "test").classes == ["nut", "bolt"]


def test_a_mask_of_a_normal_image_is_not_looked_at(root):
    rewrite(root, lambda meta: meta["test"]["nut"][0].update(mask_path="nut/nowhere.png"))
    assert read_meta(root, "test").entries[0].mask is None


def test_true_counts_as_one(root):
    rewrite(root, lambda meta: meta["test"]["nut"][1].update(anomaly=True))
    assert type(read_meta(root, "test").entries[1].label) is int


def test_a_root_that_is_a_link_is_followed(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert len(read_meta(tmp_path / "link", "test").entries) == 8


def change_row(**values):
    return lambda meta: meta["test"]["nut"][1].update(values)


def drop(field):
    return lambda meta: meta["test"]["nut"][1].pop(field) and None


BAD_CONTENT = {
    "a list": (lambda meta: [meta], "expected form"),
    "no such split": (lambda meta: {"train": {}}, "'test'"),
    "a split that is a list": (lambda meta: {"test": [1]}, "expected form"),
    "a class that is null": (lambda meta: {"test": {"nut": None}}, "expected form"),
    "a class that is a text": (lambda meta: {"test": {"nut": "abc"}}, "test/nut[0]"),
    "an entry that is a list": (lambda meta: {"test": {"nut": [[]]}}, "test/nut[0]"),
    "an empty split": (lambda meta: {"test": {}}, "no images under 'test'"),
    "an empty class": (lambda meta: {"test": {"nut": []}}, "no images of the class 'nut' under 'test'"),
    "an anomaly of 2": (change_row(anomaly=2), "anomaly is 2"),
    "an anomaly of -1": (change_row(anomaly=-1), "anomaly is -1"),
    "an anomaly that is a text": (change_row(anomaly="1"), "anomaly (int)"),
    "an anomaly with a point": (change_row(anomaly=1.0), "anomaly (int)"),
    "a path that is a number": (change_row(img_path=3), "img_path (str)"),
    "a mask that is null": (change_row(mask_path=None), "mask_path (str)"),
    "an empty path": (change_row(img_path=""), "does not exist"),
    "a folder as image": (change_row(img_path="nut"), "does not exist"),
    "an absolute path": (change_row(img_path="/etc/passwd"), "absolute"),
    "an absolute path of Windows": (change_row(img_path="C:\\data\\1.png"), "absolute"),
    "a network path of Windows": (change_row(img_path="\\\\host\\share\\1.png"), "absolute"),
    "a way out": (change_row(img_path="../outside.png"), "leads out"),
    "a hidden way out": (change_row(mask_path="nut/../../outside.png"), "leads out"),
    "a link out": (change_row(img_path="nut/link.png"), "leads out"),
    "a ring of links": (change_row(img_path="nut/ring.png"), "ring.png"),
    "an image that is not there": (change_row(img_path="nut/77.png"), "77.png' does not exist"),
    "a mask that is not there": (change_row(mask_path="nut/77.png"), "77.png' does not exist"),
    "a null byte": (change_row(img_path="nut/\0.png"), "no path"),
    "a name too long": (change_row(img_path="n" * 5000), "no path"),
    "a line break": (change_row(img_path="nut/1\n.png"), "does not exist"),
    "the class of another key": (change_row(cls_name="bolt"), "cls_name is 'bolt', its key 'nut'"),
    **{f"no {field}": (drop(field), f"{field} (") for field in row("nut", "good", 0)},
}


@pytest.mark.parametrize(("change", "words"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_one_line_that_names_file_and_fault(root, change, words):
    (root.parent / "outside.png").write_bytes(b"")
    (root / "nut" / "link.png").symlink_to(root.parent / "outside.png")
    (root / "nut" / "ring.png").symlink_to("ring.png")
    rewrite(root, change)
    message = complaint(lambda: read_meta(root, "test"))
    assert str(root / "meta.json") in message and words in message
    assert any(advice in message for advice in ("dataset's script", "wanted 0 or 1", "must be"))


@pytest.mark.parametrize("text", ["", "{", "\ufeff{}", "[1, 2", "NaN", "\xff", "[" * 100_000])
def test_what_is_no_json_object_is_one_line(root, text):
    (root / "meta.json").write_bytes(text.encode("latin-1" if text == "\xff" else "utf-8"))
    message = complaint(lambda: read_meta(root, "test"))
    assert str(root / "meta.json") in message and "make it anew" in message


def test_a_missing_folder_and_a_missing_file_say_what_to_do(root):
    assert "data/README.md" in complaint(lambda: read_meta(root / "elsewhere", "test"))
    (root / "meta.json").unlink()
    message = complaint(lambda: read_meta(root, "test"))
    assert str(root / "meta.json") in message and f"--root {root}" in message


def test_anomalies_without_masks_may_be_tested_but_not_trained_on(root):
    rewrite(root, change_row(mask_path=""))
    meta = read_meta(root, "test")
    assert [entry.has_mask for entry in meta.entries] == [True, False] + [True] * 6
    message = complaint(meta.require_masks)
    assert "1 anomalous" in message and str(meta.entries[1].image) in message
    read_meta(make_root(root.parent / "whole"), "test").require_masks()
