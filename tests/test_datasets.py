"""Reading meta.json strictly, opening items, mosaics, batches."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from filo import datasets
from filo.datasets import AnomalyDataset, iterate, read_meta, shuffled
from filo.errors import InputError

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std that leave pixels in [0, 1]
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


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


def dataset_of(root, **options):
    return AnomalyDataset(root, "test", 8, *PLAIN, **options)


def colour(image):
    """The place in meta.json of the image that fills a tensor."""
    assert image.min() == image.max()
    return round(image.max().item() * 255 / 5)


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


# meta.json


def test_entries_come_in_the_files_order(root):
    entries = read_meta(root, "test")
    places = [f"{entry.class_name}/{entry.image.stem}" for entry in entries]
    assert places == ["nut/0", "nut/1", "nut/2", "nut/3", "nut/4", "bolt/0", "bolt/1", "bolt/2"]
    assert [entry.kind for entry in entries] == KINDS["nut"] + KINDS["bolt"]
    assert [entry.label for entry in entries] == [0, 1, 0, 1, 1, 0, 0, 1]
    assert [entry.mask is not None for entry in entries] == [entry.label == 1 for entry in entries]
    assert all(entry.has_mask for entry in entries)


def test_classes_keep_the_order_of_the_file_too(root):
    assert dataset_of(root).classes == ["nut", "bolt"]


def test_a_mask_of_a_normal_image_is_not_looked_at(root):
    rewrite(root, lambda meta: meta["test"]["nut"][0].update(mask_path="nut/nowhere.png"))
    assert read_meta(root, "test")[0].mask is None


def test_true_counts_as_one(root):
    rewrite(root, lambda meta: meta["test"]["nut"][1].update(anomaly=True))
    assert type(read_meta(root, "test")[1].label) is int


def test_a_root_that_is_a_link_is_followed(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert len(read_meta(tmp_path / "link", "test")) == 8


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
    "an empty class": (lambda meta: {"test": {"nut": []}}, "no images under 'test'"),
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


@pytest.mark.parametrize("text", ["", "{", "\ufeff{}", "[1, 2", "NaN", "\xff"])
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
    dataset = dataset_of(root)
    assert [entry.has_mask for entry in dataset.entries] == [True, False] + [True] * 6
    assert not dataset[1].mask.any() and dataset[1].label == 1
    message = complaint(dataset.require_masks)
    assert "1 anomalous" in message and str(dataset.entries[1].image) in message
    dataset_of(make_root(root.parent / "whole")).require_masks()


# items


def test_an_item_is_its_image_mask_label_and_index(root):
    dataset = dataset_of(root)
    for index, entry in enumerate(dataset.entries):
        sample = dataset[index]
        assert sample.image.shape == (3, 8, 8) and colour(sample.image) == index == sample.index
        left = torch.zeros(8, 8, dtype=torch.bool)
        left[:, :4] = bool(entry.label)
        assert torch.equal(sample.mask, left) and sample.label == entry.label


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(root, rate):
    assert "probability" in complaint(lambda: dataset_of(root, aug_rate=rate))


# mosaics


@pytest.fixture
def drawn(monkeypatch):
    """Records, in place of drawing them, which images make up each mosaic, by their place in meta.json."""
    record = []

    def record_mosaic(images, masks):
        record.append([image.getpixel((0, 0))[0] // 5 for image in images])
        return images[0], masks[0]

    monkeypatch.setattr(datasets, "mosaic", record_mosaic)
    return record


def draw(dataset, drawn, epoch, indices=range(8)):
    """Which four images each index is made of; None where it is itself."""
    dataset.epoch, found = epoch, []
    for index in indices:
        drawn.clear()
        dataset[index]
        found.append(tuple(drawn[0]) if drawn else None)
    return found


def test_rate_zero_makes_none_and_rate_one_makes_only_mosaics(root, drawn):
    assert draw(dataset_of(root, aug_rate=0.0), drawn, 1) == [None] * 8
    assert None not in draw(dataset_of(root, aug_rate=1.0), drawn, 1)


def test_a_draw_depends_on_seed_epoch_and_index_alone(root, drawn):
    dataset = dataset_of(root, aug_rate=0.7, seed=3)
    first = draw(dataset, drawn, 1)
    np.random.seed(9), torch.manual_seed(9)
    again = draw(dataset_of(root, aug_rate=0.7, seed=3), drawn, 1, range(7, -1, -1))
    assert first == again[::-1]
    assert draw(dataset, drawn, 2) != first
    assert draw(dataset_of(root, aug_rate=0.7, seed=4), drawn, 1) != first


def test_the_share_of_mosaics_is_the_rate(root, drawn):
    dataset = dataset_of(root, aug_rate=0.2)
    found = [one for epoch in range(250) for one in draw(dataset, drawn, epoch)]
    assert abs(np.mean([one is not None for one in found]) - 0.2) < 0.03  # 2000 draws: sigma 0.009


def test_a_kind_is_drawn_first_and_then_an_image_of_it(root, drawn):
    dataset = dataset_of(root, aug_rate=1.0)
    found = [draw(dataset, drawn, epoch, [0])[0] for epoch in range(400)]
    counts = Counter(place for four in found for place in four)
    assert set(counts) == {0, 1, 2, 3, 4}  # its own class only
    shares = [counts[place] / 1600 for place in range(5)]
    expected = [1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3]  # two good, two cracked, one dented: a third each
    assert np.abs(np.subtract(shares, expected)).max() < 0.05


def test_a_mosaic_keeps_its_own_label_or_is_anomalous_if_any_part_is(root, drawn):
    own = dataset_of(root, aug_rate=1.0)
    either = dataset_of(root, aug_rate=1.0, mosaic_label="any")
    seen = set()
    for epoch in range(30):
        for index in range(8):
            drawn.clear()
            own.epoch = either.epoch = epoch
            label = own[index].label
            assert label == own.entries[index].label
            parts = max(own.entries[place].label for place in drawn[0])
            assert either[index].label == parts
            seen.add((label, parts))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_mosaic_reaches_the_tensors_with_its_mask(root):
    dataset = dataset_of(root, aug_rate=1.0)
    dataset.epoch = 1
    rng = np.random.default_rng((0, 1, 1))
    rng.random()
    sample, kinds = dataset[1], list(dataset.kinds["nut"].values())
    for i in range(4):
        kind = kinds[rng.integers(len(kinds))]
        entry = kind[rng.integers(len(kind))]
        rows, columns = slice(4 * (i // 2), 4 * (i // 2) + 4), slice(4 * (i % 2), 4 * (i % 2) + 4)
        inner = sample.image[:, rows, columns][:, 1:3, 1:3]  # bicubic blends across the seams
        assert colour(inner) == dataset.entries.index(entry)
        assert sample.mask[rows, columns].float().mean() == 0.5 * entry.label


# batches


def test_each_image_of_a_batch_carries_its_own_class_mask_and_label(root):
    dataset, order = dataset_of(root), [5, 1, 7, 0, 4]
    batches = list(iterate(dataset, 3, order))
    assert [batch.class_names for batch in batches] == [["bolt", "nut", "bolt"], ["nut", "nut"]]
    assert [len(batch.images) for batch in batches] == [3, 2]
    flat = [item for batch in batches for item in zip(*batch, strict=True)]
    for index, (image, mask, label, entry) in zip(order, flat, strict=True):
        assert torch.equal(image, dataset[index].image) and torch.equal(mask, dataset[index].mask)
        assert label == entry.label and entry is dataset.entries[index]


def test_without_an_order_the_files_order_is_kept(root):
    batches = list(iterate(dataset_of(root), 3))
    assert [colour(image) for batch in batches for image in batch.images] == list(range(8))
    assert batches[0].labels.dtype == torch.int64 and batches[0].masks.dtype == torch.bool


def test_worker_processes_give_the_same_tensors(root):
    dataset, order = dataset_of(root, aug_rate=0.5), shuffled(8, 1, 2)
    dataset.epoch = 4
    alone, helped = list(iterate(dataset, 3, order)), list(iterate(dataset, 3, order, workers=2))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
        assert one.entries == other.entries


def test_a_broken_image_is_the_same_line_whoever_reads_it(root):
    dataset = dataset_of(root)
    dataset.entries[4].image.write_bytes(b"broken")
    lines = {complaint(lambda n=n: list(iterate(dataset, 2, workers=n))) for n in (0, 2)}
    assert len(lines) == 1 and str(dataset.entries[4].image) in lines.pop()


def test_a_batch_moves_its_tensors_and_keeps_its_entries(root):
    batch = next(iterate(dataset_of(root), 2))
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in moved[:3]} == {"meta"} and moved.entries is batch.entries


def test_shuffled_is_a_permutation_of_its_key_alone():
    first = shuffled(50, 1, 2, 3)
    np.random.seed(1), torch.manual_seed(1)
    assert shuffled(50, 1, 2, 3) == first != list(range(50))
    assert sorted(first) == list(range(50))
    assert all(shuffled(50, *key) != first for key in [(1, 2, 4), (2, 2, 3), (1, 3, 3), (3, 2, 1)])
    assert shuffled(0, 1) == []
