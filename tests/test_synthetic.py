"""The demo sets: right files, exact masks, the same bytes each time, and nothing foreign overwritten."""

import csv
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filo.errors import InputError
from filo.synthetic import DATASETS, draw_picture, folders, make_demo
from filo.synthetic.defects import DEFECTS

SMALL = {"side": 64, "normal": 2, "anomalous": 5, "train": 1}
EVERY_DEFECT = [
    (name, spec, kind) for name, specs in DATASETS.items() for spec in specs for kind in spec.kinds
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "demo"
    assert make_demo(out, seed=3, **SMALL) == {"mvtec": out / "mvtec", "visa": out / "visa"}
    return out


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_mvtec_tree_is_that_of_the_real_set(demo):
    wanted = set()
    for spec in DATASETS["mvtec"]:
        first, *others = spec.kinds  # five pictures of four kinds: the first kind comes twice
        assert len(others) == 3
        names = ["train/good/000.png", "test/good/000.png", "test/good/001.png"]
        for kind, number in [(first, "000"), (first, "001"), *((kind, "000") for kind in others)]:
            names += [f"test/{kind}/{number}.png", f"ground_truth/{kind}/{number}_mask.png"]
        wanted |= {f"{spec.name}/{name}" for name in names}
    assert set(files(demo / "mvtec")) == wanted


def test_the_visa_tree_and_table_are_those_of_the_real_set(demo):
    wanted, rows = {"split_csv/1cls.csv"}, [["object", "split", "label", "image", "mask"]]
    for name in [spec.name for spec in DATASETS["visa"]]:
        for number, split in enumerate(("train", "test", "test")):
            rows.append([name, split, "normal", f"{name}/Data/Images/Normal/000{number}.JPG", ""])
        for number in range(5):
            image, mask = (f"{name}/Data/{part}/Anomaly/000{number}" for part in ("Images", "Masks"))
            rows.append([name, "test", "anomaly", f"{image}.JPG", f"{mask}.png"])
    wanted |= {path for row in rows[1:] for path in row[3:] if path}
    with open(demo / "visa" / "split_csv" / "1cls.csv", newline="") as file:
        assert list(csv.reader(file)) == rows
    assert set(files(demo / "visa")) == wanted


def test_mvtec_masks_are_0_and_255_in_the_size_of_the_picture(demo):
    for path in (demo / "mvtec").rglob("*_mask.png"):
        mask = pixels(path)
        assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}


def test_visa_masks_hold_the_number_of_the_kind_in_the_size_of_the_picture(demo):
    for spec in DATASETS["visa"]:
        for number, value in enumerate((1, 2, 3, 4, 1)):
            mask = pixels(demo / "visa" / spec.name / "Data/Masks/Anomaly" / f"{number:04d}.png")
            image = pixels(demo / "visa" / spec.name / "Data/Images/Anomaly" / f"{number:04d}.JPG")
            assert mask.shape == image.shape[:2] == (64, 64) and image.shape[2] == 3
            assert set(np.unique(mask)) == {0, value}


def test_a_file_holds_the_picture_that_the_python_function_draws(demo):
    spec = DATASETS["mvtec"][0]
    picture = draw_picture("mvtec", spec, "test", spec.kinds[0], 1, seed=3, side=64)
    folder = demo / "mvtec" / spec.name
    assert (pixels(folder / "test" / spec.kinds[0] / "001.png") == picture.image).all()
    mask = pixels(folder / "ground_truth" / spec.kinds[0] / "001_mask.png")
    assert ((mask == 255) == picture.mask).all()


@pytest.mark.parametrize("dataset, spec, kind", EVERY_DEFECT, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("side", [64, 97])
def test_the_mask_is_exactly_what_was_changed(dataset, spec, kind, side):
    for index in range(3):
        picture = draw_picture(dataset, spec, "test", kind, index, side=side)
        differs = (picture.image != picture.twin).any(axis=-1)
        assert not (differs & ~picture.mask).any()
        assert 0 < picture.mask.mean() < 0.6
        assert differs[picture.mask].mean() > 0.9  # a pixel may by chance come out as it was


@pytest.mark.parametrize("dataset, spec, kind", EVERY_DEFECT, ids=lambda value: getattr(value, "name", value))
def test_a_defect_can_be_seen(dataset, spec, kind):
    picture = draw_picture(dataset, spec, "test", kind, 0)
    change = np.abs(picture.image.astype(int) - picture.twin).max(axis=-1)
    assert np.median(change[picture.mask]) > 8  # of 255; the noise of the camera is the same in both


def test_every_scene_is_what_the_defects_expect():
    for spec in (spec for specs in DATASETS.values() for spec in specs):
        scene = spec.draw(np.random.default_rng(0), 80, **spec.look)
        assert scene.image.shape == scene.bare.shape == (80, 80, 3)
        assert scene.image.dtype == scene.bare.dtype == np.float32  # in float64 the masks would not be exact
        assert scene.image.min() >= 0 and scene.image.max() <= 1
        assert scene.body.dtype == bool and scene.parts.dtype == np.int32 and scene.parts.max() >= 1
        assert scene.has_background or not {"bent", "missing_part"} & set(spec.kinds)


def test_normal_pictures_have_no_mask_and_differ_from_each_other():
    for dataset, specs in DATASETS.items():
        for spec in specs:
            first, second = (draw_picture(dataset, spec, "train", "good", index, side=64) for index in (0, 1))
            assert not first.mask.any() and (first.image == first.twin).all()
            assert np.abs(first.image.astype(int) - second.image).mean() > 4


def test_train_and_test_pictures_of_the_same_number_differ():
    spec = DATASETS["visa"][0]
    train, test = (draw_picture("visa", spec, split, "good", 0, side=64).image for split in ("train", "test"))
    assert (train != test).any()


def test_the_sets_share_no_class_and_use_every_kind_of_defect():
    names = [spec.name for specs in DATASETS.values() for spec in specs]
    objects = [spec.draw for specs in DATASETS.values() for spec in specs]
    assert len(set(names)) == len(set(objects)) == len(names)
    assert len({len(specs) for specs in DATASETS.values()}) == 1  # both sets weigh the same
    assert all(len(set(spec.kinds)) >= 3 for specs in DATASETS.values() for spec in specs)
    assert {kind for _, _, kind in EVERY_DEFECT} == set(DEFECTS)
    assert len(DEFECTS) == 10


def test_a_second_run_in_another_folder_writes_the_same_bytes(demo, tmp_path):
    make_demo(tmp_path / "again", seed=3, **SMALL)
    assert files(tmp_path / "again") == files(demo)


def test_another_seed_draws_other_pictures():
    for dataset, specs in DATASETS.items():
        first, second = (
            draw_picture(dataset, specs[0], "test", "good", 0, seed=seed, side=64) for seed in (0, 1)
        )
        assert (first.image != second.image).mean() > 0.5


def test_a_larger_set_begins_with_the_pictures_of_the_smaller(demo, tmp_path, monkeypatch):
    one_class = {name: specs[:1] for name, specs in DATASETS.items()}  # other classes change nothing either
    monkeypatch.setattr(folders, "DATASETS", one_class)
    make_demo(tmp_path / "more", seed=3, side=64, normal=3, anomalous=6, train=1)
    spec = DATASETS["mvtec"][0]
    small, large = files(demo / "mvtec" / spec.name), files(tmp_path / "more" / "mvtec" / spec.name)
    assert small == {name: large[name] for name in small} and len(large) == len(small) + 3


def test_a_finished_set_is_kept_as_it_is(demo, monkeypatch):
    monkeypatch.setattr(folders, "write_sets", lambda out, plan: pytest.fail("drawn again"))
    make_demo(demo, seed=3, **SMALL)


def test_a_set_of_other_arguments_is_refused(demo):
    with pytest.raises(InputError, match=r'demo set of .*"seed": 3.* not of .*"seed": 4'):
        make_demo(demo, seed=4, **SMALL)


def test_a_set_that_lost_a_folder_is_refused(tmp_path):
    plan = folders.Plan(seed=0, **SMALL)
    (tmp_path / "synthetic.json").write_text(json.dumps(folders.stamp_of(plan)))
    with pytest.raises(InputError, match="lost its folder mvtec"):
        make_demo(tmp_path, **SMALL)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))} is not a demo set .*letters"):
        make_demo(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        make_demo(tmp_path / "demo", **SMALL)


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, pixels):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "save", full)
    with pytest.raises(InputError, match="cannot write the demo sets there: No space left on device"):
        make_demo(tmp_path / "demo", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"side": 8}, {"normal": 0}, {"anomalous": 1001}, {"train": 0}, {"seed": -1}]
)
def test_numbers_that_make_no_set_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="wanted"):
        make_demo(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_the_command_says_that_a_set_is_kept_and_refuses_a_foreign_folder(demo, tmp_path):
    command = [sys.executable, "-m", "filo.synthetic", "--seed=3", "--side=64", "--normal=2", "--anomalous=5"]
    command += ["--train=1", "--out"]
    root = Path(folders.__file__).parents[2]
    kept = subprocess.run([*command, str(demo)], cwd=root, capture_output=True, text=True)
    assert kept.returncode == 0 and kept.stdout.count("kept as it is") == 2
    (tmp_path / "letter.txt").write_text("dear")
    refused = subprocess.run([*command, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path}") and refused.stderr.count("\n") == 1


def test_the_prompt_files_name_the_classes_of_the_sets():
    prompts = Path(folders.__file__).parents[2] / "prompts"
    for dataset, specs in DATASETS.items():
        content = json.loads((prompts / f"demo_{dataset}.json").read_text(encoding="utf-8"))
        assert content["dataset"] == f"demo_{dataset}"
        assert list(content["classes"]) == [spec.name for spec in specs]


def test_overwrite_draws_other_and_damaged_sets_anew_but_touches_nothing_else(tmp_path):
    out, small = tmp_path / "demo", {"side": 64, "normal": 1, "anomalous": 1, "train": 1}
    make_demo(out, **small)
    wanted = files(out)
    (out / "mvtec").rename(tmp_path / "gone")
    (out / ".DS_Store").write_text("")
    make_demo(out, **small, overwrite=True)
    assert files(out) == wanted
    make_demo(out, **small, seed=1, overwrite=True)
    assert files(out).keys() == wanted.keys() and files(out) != wanted
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError):
        make_demo(out, **small, overwrite=True)
    assert (out / "notes.txt").exists() and (out / "mvtec").is_dir()


def test_overwrite_leaves_real_datasets_of_the_same_names_alone(tmp_path):
    for name in ("mvtec", "visa"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "real.png").write_text("mine")
    for stamp in (None, "{", "{}", '{"version": 1}'):
        if stamp:
            (tmp_path / "synthetic.json").write_text(stamp)
        with pytest.raises(InputError):
            make_demo(tmp_path, **SMALL, overwrite=True)
        assert (tmp_path / "mvtec/real.png").exists() and (tmp_path / "visa/real.png").exists()
