"""Frozen features are computed once, read back as they were, and never taken for those of something else."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from filo import weights
from filo.clip.vision import ImageFeatures, join
from filo.datasets import AnomalyDataset, iterate
from filo.errors import InputError
from filo.features import FeatureStore, FrozenFeatures, open_features
from filo.meta import read_meta
from tests.trees import complaint, make_root

ABOUT = {"clip": "c1", "image_size": 8, "features_list": (1, 2, 3)}
SIDE = 8


def features(seed=0, B=1):
    """Three ordinary taps of which the first is also every V-V tap, as with aliased taps."""
    g = torch.Generator().manual_seed(seed)
    vv, two, three = (torch.randn(B, 5, 4, generator=g) for _ in range(3))
    return ImageFeatures(torch.randn(B, 3, generator=g), (vv, two, three), (vv, vv))


def assert_same(one, other, exact=True):
    for a, b in zip(
        (one.image, *one.ordinary, *one.vv), (other.image, *other.ordinary, *other.vv), strict=True
    ):
        torch.testing.assert_close(a, b, atol=0 if exact else 2e-3, rtol=0)


def test_rows_and_joined_batches_share_what_was_shared():
    whole = features(B=3)
    back = join([whole.row(i) for i in range(3)])
    assert_same(back, whole)
    assert back.ordinary[0] is back.vv[0] is back.vv[1]
    assert len(back.distinct()[0]) == 3
    assert join([whole]) is whole


def test_features_come_back_bit_for_bit(tmp_path):
    store = FeatureStore(tmp_path, ABOUT)
    assert store.read("ab12", tapped=True) is None and not store.has("ab12")
    store.write("ab12", features())
    for fresh in (store, FeatureStore(tmp_path, ABOUT)):
        assert fresh.has("ab12")
        found = fresh.read("ab12", tapped=True)
        assert_same(found, features())
        assert found.ordinary[0] is found.vv[0] is found.vv[1]
        alone = fresh.read("ab12", tapped=False)
        assert torch.equal(alone.image, features().image) and alone.ordinary == alone.vv == ()


def test_each_distinct_tensor_is_written_once(tmp_path):
    FeatureStore(tmp_path, ABOUT).write("ab12", features())
    with safe_open(next(tmp_path.rglob("*.safetensors")), framework="pt") as file:
        assert sorted(file.keys()) == ["image", "tap0", "tap1", "tap2"]


def test_half_precision_takes_half_the_disk_and_rounds(tmp_path):
    sizes = []
    for name in ("fp32", "fp16"):
        store = FeatureStore(tmp_path / name, ABOUT, name)
        store.write("ab12", features().map(lambda t: t.repeat(*[1] * (t.ndim - 1), 100)))
        sizes.append(next((tmp_path / name).rglob("*.safetensors")).stat().st_size)
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.1)
    store.write("cd34", features())
    found = store.read("cd34", tapped=True)
    assert found.image.dtype == torch.float32
    assert_same(found, features(), exact=False)


def test_a_damaged_entry_is_noticed_wherever_the_damage_is(tmp_path):
    FeatureStore(tmp_path, ABOUT).write("ab12", features())
    path = next(tmp_path.rglob("*.safetensors"))
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        found = FeatureStore(tmp_path, ABOUT).read("ab12", tapped=True)
        if found is not None:
            assert_same(found, features())
    for length in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert FeatureStore(tmp_path, ABOUT).read("ab12", tapped=True) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": "c2"}, "clip c1 there, c2 here"),
        ({"image_size": 16}, "image_size 8 there, 16 here"),
        ({"features_list": (1, 2)}, "features_list [1, 2, 3] there, [1, 2] here"),
        ({"activation": "gelu"}, "activation None there, gelu here"),
    ],
)
def test_a_folder_of_something_else_is_refused_by_name(tmp_path, change, words):
    FeatureStore(tmp_path, ABOUT)
    FeatureStore(tmp_path, ABOUT)  # the same again
    assert words in complaint(lambda: FeatureStore(tmp_path, ABOUT | change))
    assert "numbers fp32 there, fp16 here" in complaint(lambda: FeatureStore(tmp_path, ABOUT, "fp16"))
    (tmp_path / "features.json").write_text("{")
    assert "not readable" in complaint(lambda: FeatureStore(tmp_path, ABOUT))


def test_the_size_is_said_beforehand_and_a_disk_too_small_is_refused(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, ABOUT)
    store.write("ab12", features())
    said = store.require_space(["ab12", "cd34", "cd34"], 250_000)
    assert "2 images of 1.0 MB" in said and "1 of them still to be written, 1.0 MB" in said
    usage = os.statvfs(tmp_path)
    free = usage.f_bavail * usage.f_frsize
    message = complaint(lambda: store.require_space(["cd34"], free // 2))
    assert "MB free" in message and "--cache_precision fp16" in message


def test_a_full_disk_names_what_was_being_written(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, ABOUT)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("filo.weights.save_file", full)
    assert "No space left" in complaint(lambda: store.write("ab12", features()))
    assert not store.has("ab12")


def test_global_features_in_memory_hold_no_file_open(tmp_path):
    store = FeatureStore(tmp_path, ABOUT)
    store.write("ab12", features())
    kept = [store.read("ab12", tapped) for tapped in (True, False)]
    del kept[0]
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert torch.equal(kept[0].image, features().image)


# ---- a dataset's features


class Tower:
    """Stands for the image tower: features that tell the pictures apart; counts what it is given."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images, tapped):
        self.seen += len(images)
        flat = images.flatten(1)
        vv = flat[:, :20].view(-1, 5, 4)
        taps = ((vv, flat[:, 20:40].view(-1, 5, 4)), (vv,)) if tapped else ((), ())
        return ImageFeatures(flat[:, 40:43], *taps)


@pytest.fixture
def dataset(tmp_path):
    return AnomalyDataset(read_meta(make_root(tmp_path / "data"), "test"), SIDE, (0, 0, 0), (1, 1, 1))


CPU = torch.device("cpu")


def run(frozen, tapped=True, batch_size=3):
    frozen.begin_epoch(1)
    return [frozen.of(batch, tapped, CPU) for batch in iterate(frozen.dataset, batch_size)]


def test_the_second_epoch_runs_no_tower_and_reads_no_image(dataset, tmp_path, monkeypatch):
    plain = run(FrozenFeatures(Tower(), dataset))
    tower = Tower()
    frozen = FrozenFeatures(tower, dataset, FeatureStore(tmp_path / "kept", ABOUT))
    first = run(frozen)
    assert tower.seen == len(dataset)
    monkeypatch.setattr("filo.datasets.open_image", lambda path: pytest.fail(f"{path} was read"))
    second = run(frozen)
    third = run(frozen, tapped=False)
    assert tower.seen == len(dataset)
    for wanted, *found in zip(plain, first, second, strict=True):
        for each in found:
            assert_same(each, wanted)
            assert each.ordinary[0] is each.vv[0]
    assert all(torch.equal(one.image, other.image) for one, other in zip(plain, third, strict=True))


def test_only_what_is_missing_or_damaged_is_computed_again(dataset, tmp_path):
    run(FrozenFeatures(Tower(), dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    paths = sorted((tmp_path / "kept").rglob("*.safetensors"))
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-4])
    tower = Tower()
    again = run(FrozenFeatures(tower, dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    assert tower.seen == 2
    for one, other in zip(again, run(FrozenFeatures(Tower(), dataset)), strict=True):
        assert_same(one, other)
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == len(paths)


def test_what_a_killed_process_left_half_written_goes_once_nobody_can_be_writing_it(tmp_path):
    FeatureStore(tmp_path / "kept", ABOUT)
    names = [f"{'ab' * 32}.safetensors", f".{'ab' * 32}.safetensors.0123abcd.tmp", ".mine.0123abcd.tmp"]
    names += [".mine.safetensors.tmp"]
    for within in ("ab", "old/ab"):
        (tmp_path / "kept" / within).mkdir(parents=True)
        for name in names:
            (tmp_path / "kept" / within / name).touch()
    FeatureStore(tmp_path / "kept", ABOUT)
    left = sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    for path in left:  # two days later
        os.utime(path, (path.stat().st_mtime - 2 * 24 * 3600,) * 2)
    with pytest.raises(InputError, match="something else"):
        FeatureStore(tmp_path / "kept", ABOUT | {"side": 1})
    assert sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file()) == left
    FeatureStore(tmp_path / "kept", ABOUT)
    gone = tmp_path / "kept" / "ab" / names[1]
    assert {*left} - {*(tmp_path / "kept").rglob("*")} == {gone}


def test_what_an_image_gives_does_not_depend_on_which_others_are_kept(dataset, tmp_path):
    seen = []

    def tower(images, tapped):
        seen.append(len(images))
        return Tower()(images, tapped)

    run(FrozenFeatures(tower, dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    for path in sorted((tmp_path / "kept").rglob("*.safetensors"))[::2]:
        path.unlink()  # as if the process had been killed in the middle of a batch
    run(FrozenFeatures(tower, dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    assert set(seen) == {1}


def test_when_the_disk_is_full_everything_is_computed_and_that_is_said_once(
    dataset, tmp_path, monkeypatch, capsys
):
    frozen = FrozenFeatures(Tower(), dataset, FeatureStore(tmp_path / "kept", ABOUT))
    save, written = weights.save_file, []

    def save_two(*args):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(1)
        save(*args)

    monkeypatch.setattr(weights, "save_file", save_two)
    first, second = run(frozen), run(frozen)
    for one, two, wanted in zip(first, second, run(FrozenFeatures(Tower(), dataset)), strict=True):
        assert_same(one, wanted)
        assert_same(two, wanted)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left" in err
    assert f"{len(dataset) - 2} images still wanted" in err


def test_other_processes_can_read_beside_it_however_they_start(dataset, tmp_path):
    frozen = FrozenFeatures(Tower(), dataset, FeatureStore(tmp_path / "kept", ABOUT))
    run(frozen)
    frozen.begin_epoch(2)
    again = pickle.loads(pickle.dumps(dataset))  # as spawn hands it over
    assert again[0].image is None and again.epoch == 2


def test_mosaics_are_computed_every_time_and_not_kept(dataset, tmp_path):
    dataset.aug_rate = 0.5
    tower, store = Tower(), FeatureStore(tmp_path / "kept", ABOUT)
    frozen = FrozenFeatures(tower, dataset, store)
    run(frozen)
    kept = len(list((tmp_path / "kept").rglob("*.safetensors")))
    assert 0 < kept < len(dataset)
    run(frozen)
    assert tower.seen == 2 * len(dataset) - kept
    plain = AnomalyDataset(dataset.meta, SIDE, (0, 0, 0), (1, 1, 1), aug_rate=0.5)
    for one, other in zip(run(frozen), run(FrozenFeatures(Tower(), plain)), strict=True):
        assert_same(one, other)


def test_without_taps_global_features_stay_in_memory(dataset, tmp_path):
    tower, store = Tower(), FeatureStore(tmp_path / "kept", ABOUT)
    frozen = FrozenFeatures(tower, dataset, store)
    first, second = run(frozen, tapped=False), run(frozen, tapped=False)
    assert tower.seen == len(dataset) and not list((tmp_path / "kept").rglob("*.safetensors"))
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, second, strict=True))


def test_equal_pictures_are_kept_once(tmp_path):
    root = make_root(tmp_path / "data")
    meta = json.loads((root / "meta.json").read_text())
    rows = [row for rows in meta["test"].values() for row in rows]
    (root / rows[1]["img_path"]).write_bytes((root / rows[0]["img_path"]).read_bytes())
    dataset = AnomalyDataset(read_meta(root, "test"), SIDE, (0, 0, 0), (1, 1, 1))
    run(FrozenFeatures(Tower(), dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == len(dataset) - 1


def test_a_methods_settings_stand_in_the_folder(tiny_clip, dataset, tmp_path, capsys):
    from dataclasses import replace

    from filo.methods.filo import FiLoModel
    from filo.methods.filo_config import PRESETS

    data = AnomalyDataset(dataset.meta, 56, tiny_clip.mean, tiny_clip.std)
    for preset, taps in (("official", 3), ("paper", 5)):
        config = replace(PRESETS[preset], features_list=(1, 2, 4), n_ctx=2, activation="gelu")
        method = FiLoModel(tiny_clip, config, {})
        frozen = open_features(method, data, tmp_path / preset)
        numbers = taps * 17 * tiny_clip.vision_width + tiny_clip.embed_dim
        assert method.frozen_numbers() == numbers
        assert f"{4 * numbers / 1e6:.1f} MB" in capsys.readouterr().out
        about = json.loads((tmp_path / preset / "features.json").read_text())
        assert about["clip"] == tiny_clip.sha256 and about["aliased_taps"] == (preset == "official")
        found = next(iter(run(frozen, batch_size=2)))
        assert len(found.distinct()[0]) == taps
        file = next((tmp_path / preset).rglob("*.safetensors"))
        assert file.stat().st_size == pytest.approx(4 * numbers, abs=1000)


def test_pictures_are_told_apart_by_content(dataset, tmp_path):
    tower = Tower()
    run(FrozenFeatures(tower, dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    path = dataset.entries[0].image
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)
    again = Tower()
    run(FrozenFeatures(again, dataset, FeatureStore(tmp_path / "kept", ABOUT)))
    assert again.seen == 1
