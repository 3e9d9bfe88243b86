"""Opening items, mosaics, batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from filo import datasets
from filo.datasets import AnomalyDataset, iterate, shuffled
from filo.meta import Entry, read_meta
from tests.trees import complaint, make_root, rewrite

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std that leave pixels in [0, 1]


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


def dataset_of(root, **options):
    return AnomalyDataset(read_meta(root, "test"), 8, *PLAIN, **options)


def colour(image):
    """The place in meta.json of the image that fills a tensor."""
    assert image.min() == image.max()
    return round(image.max().item() * 255 / 5)


def test_an_anomaly_without_a_mask_has_an_empty_one(root):
    rewrite(root, lambda content: content["test"]["nut"][1].update(mask_path=""))
    sample = dataset_of(root)[1]
    assert not sample.mask.any() and sample.label == 1


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
    flat = [item for batch in batches for item in zip(*batch[:4], strict=True)]
    for index, (image, mask, label, entry) in zip(order, flat, strict=True):
        assert torch.equal(image, dataset[index].image) and torch.equal(mask, dataset[index].mask)
        assert label == entry.label and entry is dataset.entries[index]


def test_without_an_order_the_files_order_is_kept(root):
    batches = list(iterate(dataset_of(root), 3))
    assert [colour(image) for batch in batches for image in batch.images] == list(range(8))
    assert batches[0].labels.dtype == torch.int64 and batches[0].masks.dtype == torch.bool


def test_worker_processes_give_the_same_tensors(root):
    dataset, order = dataset_of(root, aug_rate=0.5), np.random.default_rng(1).permutation(8).tolist()
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


def of_classes(*names):
    return [Entry(Path(f"{i}.png"), None, name, "good", 0) for i, name in enumerate(names)]


def test_shuffled_is_a_permutation_of_its_key_alone():
    entries = of_classes(*"ab" * 25)
    for size in (1, 4):
        first = shuffled(entries, size, 1, 2, 3)
        np.random.seed(1), torch.manual_seed(1)
        assert shuffled(entries, size, 1, 2, 3) == first != list(range(50))
        assert sorted(first) == list(range(50))
        others = [(1, 2, 4), (2, 2, 3), (1, 3, 3), (3, 2, 1)]
        assert all(shuffled(entries, size, *key) != first for key in others)
    assert shuffled([], 1, 1) == []


def test_images_of_a_class_share_a_batch_as_far_as_they_fill_one():
    entries = of_classes(*"a" * 11, *"b" * 6, *"c" * 4)
    for seed in range(5):
        order = shuffled(entries, 4, seed)
        assert sorted(order) == list(range(21))
        batches = [{entries[i].class_name for i in order[at : at + 4]} for at in range(0, 21, 4)]
        assert sum(len(classes) == 1 for classes in batches[:-1]) >= 4  # 2 of a, 1 of b, 1 of c
    kinds = [tuple(entries[i].class_name for i in shuffled(entries, 4, seed)[:4]) for seed in range(20)]
    assert len(set(kinds)) > 3  # batches do not come class by class


def test_an_image_whose_features_are_kept_is_not_read(root):
    dataset = dataset_of(root)
    dataset.kept = frozenset(entry.image for entry in dataset.entries if entry.class_name == "nut")
    batch = next(iterate(dataset, 8))
    assert batch.live == [i for i, entry in enumerate(batch.entries) if entry.class_name == "bolt"]
    assert len(batch.images) == 3 and len(batch.masks) == 8 and not batch.mosaics
    whole = next(iterate(dataset_of(root), 8))
    assert torch.equal(batch.masks, whole.masks) and torch.equal(batch.images, whole.images[batch.live])
    assert torch.equal(dataset.read_image(dataset.entries[0]), whole.images[0])
    dataset.kept = frozenset(entry.image for entry in dataset.entries)
    assert len(next(iterate(dataset, 8)).images) == 0


def test_mosaics_are_read_whatever_is_kept(root):
    dataset = dataset_of(root, aug_rate=1.0)
    dataset.kept = frozenset(entry.image for entry in dataset.entries)
    batch = next(iterate(dataset, 8))
    assert batch.live == list(range(8)) and batch.mosaics == set(range(8))
