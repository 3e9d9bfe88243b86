"""Few-shot testing and prediction as commands: references, seeds, every method, mistakes."""

import csv
import json
import shutil
import signal
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from PIL import Image

from filo.compare import compare
from filo.errors import InputError
from filo.few_shot import References, choose_references, find_references
from filo.methods.fade import FADEModel
from filo.methods.few_shot import FewShot
from filo.methods.winclip import WinCLIPModel
from filo.metrics import COLUMNS, percent
from filo.references import draw
from filo.report import write_report
from tests.commands import flags, run

SMALL = {"classification_img_size": 42, "segmentation_img_sizes": "42,56", "eval_img_size": 42}


@pytest.fixture(scope="module")
def few(data, tmp_path_factory):
    """The demo-MVTec's wood with three normal training images."""
    root = tmp_path_factory.mktemp("few") / "data"
    shutil.copytree(data["mvtec"] / "wood", root / "wood")
    first = next((root / "wood" / "train" / "good").iterdir())
    for i in (1, 2):
        shutil.copy(sorted((root / "wood" / "test" / "good").iterdir())[i - 1], first.with_stem(f"90{i}"))
    meta = json.loads((data["mvtec"] / "meta.json").read_text())
    rows = meta["train"]["wood"][:1]
    rows += [rows[0] | {"img_path": f"wood/train/good/90{i}{first.suffix}"} for i in (1, 2)]
    one = {"train": {"wood": rows}, "test": {"wood": meta["test"]["wood"]}}
    (root / "meta.json").write_text(json.dumps(one))
    return root


@pytest.fixture
def free_flags(few, tiny_config, tmp_path):
    """Flags of test.py for a method that is not trained."""
    about = {"dataset": "demo_mvtec", "data_path": few, "clip_model": tiny_config}
    return about | {"clip_pretrained": "drawn:0", "save_path": tmp_path / "results", "device": "cpu"}


@pytest.fixture
def trained_flags(few, test_flags):
    return test_flags | {"data_path": few}


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("method", ["winclip", "fade"])
@pytest.mark.parametrize("shots", [0, 2])
def test_a_method_without_training_needs_no_checkpoint(method, shots, free_flags, monkeypatch, capfd):
    own = SMALL if method == "fade" else {}
    preset = {"preset": "zero-shot" if not shots else "few-shot"} if method == "fade" else {}
    asked = free_flags | own | preset | {"method": method, "shots": shots}
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 0, err
    found = results_of(free_flags["save_path"])
    assert found["method"] == method and found["mean"].keys() == set(COLUMNS) and "| wood" in out
    assert len(found["references"].get("wood", [])) == shots
    assert all(name.startswith("wood/train/good/") for name in found["references"].get("wood", []))
    assert any("ensembles" in path for path in found["hashes"]["prompts"])


def test_clip_lmfa_is_another_name_and_published_spellings_are_taken(free_flags, monkeypatch, capfd):
    given = {"method": "clip-lmfa", "shots": 1, "dataset-name": "demo_mvtec"}
    given |= {"dataset-source": free_flags["data_path"], "model-name": free_flags["clip_model"]}
    given |= {"pretrained": "drawn:0", "save_path": free_flags["save_path"], "device": "cpu"}
    given |= {"classification-mode": "both", "segmentation-mode": "both", "vision-feature": "clip"}
    given |= {"language-classification-feature": "clip", "language-segmentation-feature": "gem"}
    given |= {"vision-segmentation-multiplier": 3.5, "vision-segmentation-weight": 0.85, "square": True}
    given |= {"classification-img-size": 42, "segmentation-img-sizes": "42,56", "eval-img-size": 42}
    given |= {"text-model-type": "average", "no-use-query-img-in-vision-memory-bank": True, "seed": 0}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**given))
    assert status == 0, err
    found = results_of(free_flags["save_path"])
    assert found["method"] == "fade" and found["config"]["segmentation_img_sizes"] == [42, 56]
    assert found["config"]["use_query_img_in_vision_memory_bank"] is False


def test_several_seeds_give_means_and_deviations(free_flags, monkeypatch, capfd):
    asked = free_flags | {"method": "winclip", "shots": 1, "seed": [0, 1, 2], "report": True}
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 0, err
    folder = free_flags["save_path"]
    each = [results_of(folder / f"seed_{seed}") for seed in (0, 1, 2)]
    whole = results_of(folder)
    for column in COLUMNS:
        values = [one["mean"][column] for one in each]
        assert whole["mean"][column] == pytest.approx(mean(values))
        assert whole["std"]["mean"][column] == pytest.approx(stdev(values))
        assert whole["classes"]["wood"][column] == pytest.approx(mean(values))  # the one class there is
    assert whole["seeds"] == [0, 1, 2] and "3 seeds, means and standard deviations" in out and "±" in out
    assert whole["references"] == {str(seed): each[seed]["references"] for seed in (0, 1, 2)}
    chosen = [draw(3, 1, seed)[0] for seed in (0, 1, 2)]
    files = [one["references"]["wood"][0] for one in each]
    assert [files[i] == files[0] for i in range(3)] == [number == chosen[0] for number in chosen]
    assert run(monkeypatch, capfd, "test.py", *flags(**asked))[0] == 0  # and once more into the same folder
    assert results_of(folder)["mean"] == whole["mean"]
    page = (folder / "report.html").read_text()
    assert f"{percent(mean(e['mean']['auroc_px'] for e in each))} ± " in page
    assert all(f'href="seed_{seed}/report.html"' in page and files[seed] in page for seed in (0, 1, 2))
    row = compare([("all", folder)]).splitlines()[2]
    assert percent(whole["mean"]["auroc_px"], whole["std"]["mean"]["auroc_px"]) in row
    status, out, _ = run(monkeypatch, capfd, "filo/overview.py", folder)
    assert status == 0 and percent(whole["mean"]["auroc_px"], whole["std"]["mean"]["auroc_px"]) in out
    assert run(monkeypatch, capfd, "filo/report/__main__.py", folder)[0] == 0
    assert (folder / "report.html").read_text() == page
    (folder / "results.json").write_text(json.dumps(whole | {"std": {}}))
    status, _, err = run(monkeypatch, capfd, "filo/report/__main__.py", folder)
    assert status == 2 and "results.json is damaged" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("method", ["winclip", "fade", "filo"])
def test_seeds_are_tested_together_as_each_by_itself(
    method, free_flags, trained_flags, monkeypatch, capfd, tmp_path
):
    models = {"winclip": WinCLIPModel, "fade": FADEModel, "filo": FewShot}
    own = {"winclip": {}, "fade": SMALL, "filo": None}[method]
    asked = trained_flags if own is None else free_flags | {"method": method} | own
    asked = asked | {"shots": 1, "batch_size": 2}
    looks, look = [], models[method].look
    monkeypatch.setattr(models[method], "look", lambda *given: looks.append(1) or look(*given))
    both = asked | {"seed": [0, 3], "save_path": tmp_path / "both"}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**both))
    assert status == 0, err
    count = len(looks)
    for seed in (0, 3):
        alone = asked | {"seed": seed, "save_path": tmp_path / f"alone_{seed}"}
        assert run(monkeypatch, capfd, "test.py", *flags(**alone))[0] == 0
        one, other = (results_of(tmp_path / each) for each in (f"alone_{seed}", f"both/seed_{seed}"))
        assert all(one[key] == other[key] for key in ("classes", "mean", "references", "scoring"))
    images = results_of(tmp_path / "both")["images"]
    assert len(looks) - count - count == -(-images // 2)  # references are looked at in each, images once less


def test_long_pictures_are_cut_in_testing_and_predicting(few, free_flags, tmp_path, monkeypatch, capfd):
    """The dataset's square pictures are made twice as wide; WinCLIP's own words are the paper's then."""
    root = shutil.copytree(few, tmp_path / "long")
    for path in root.rglob("*.png"):
        with Image.open(path) as file:
            file.resize((2 * file.width, file.height), Image.Resampling.NEAREST).save(path)
    asked = free_flags | {"method": "winclip", "preset": "paper", "data_path": root, "shots": 1}
    seen = []
    for batch, folder in ((1, "one"), (3, "three")):
        given = asked | {"save_path": tmp_path / folder, "batch_size": batch}
        status, _, err = run(monkeypatch, capfd, "test.py", *flags(**given))
        assert status == 0, err
        seen.append(results_of(tmp_path / folder))
    assert seen[0]["classes"] == seen[1]["classes"] and seen[0]["config"]["tiling"]
    assert [Path(path).name for path in seen[0]["hashes"]["prompts"]] == ["winclip.json"]
    picture = next((root / "wood" / "test" / "good").iterdir())
    given = {"class": "wood", "references": root / "wood" / "train" / "good", "out": tmp_path / "out"}
    given |= {key: asked[key] for key in ("method", "preset", "clip_model", "clip_pretrained", "device")}
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", picture, *flags(**given))
    assert status == 0, err
    with Image.open(next((tmp_path / "out" / "heatmaps").iterdir())) as heatmap, Image.open(picture) as file:
        assert file.width == 2 * file.height and heatmap.width > heatmap.height


def test_seeds_that_were_stopped_go_on_together(free_flags, monkeypatch, capfd):
    look, looks = WinCLIPModel.look, []

    def stop(model, images):
        looks.append(len(images))
        if len(looks) == stop_at:
            signal.raise_signal(signal.SIGINT)
        return look(model, images)

    monkeypatch.setattr(WinCLIPModel, "look", stop)
    asked = flags(**free_flags | {"method": "winclip", "shots": 1, "seed": [0, 1], "batch_size": 1})
    stop_at = 3
    assert run(monkeypatch, capfd, "test.py", *asked)[0] == 130
    first = free_flags["save_path"] / "seed_0" / "unfinished"
    shutil.rmtree(first)  # one of them must begin anew
    stop_at = None
    status, out, err = run(monkeypatch, capfd, "test.py", *asked)
    assert status == 0 and "going on: 2 of" in out, err
    done = [results_of(free_flags["save_path"] / f"seed_{seed}")["images_computed"] for seed in (0, 1)]
    images = results_of(free_flags["save_path"])["images"]
    assert done == [images, images - 2]


@pytest.mark.parametrize("kind", ["filo", "anomalyclip"])
def test_references_change_what_a_trained_method_says(
    kind, trained_flags, train_flags, tmp_path, monkeypatch, capfd
):
    if kind == "anomalyclip":
        shared = ("dataset", "train_data_path", "clip_model", "clip_pretrained", "image_size", "device")
        asked = {name: train_flags[name] for name in shared} | {"method": kind, "features_list": 4}
        asked |= {"epoch": 1, "depth": 2, "save_path": tmp_path / "run"}
        assert run(monkeypatch, capfd, "train.py", *flags(**asked))[0] == 0
        trained_flags = trained_flags | {"ckpt_path": tmp_path / "run" / "anomalyclip.safetensors"}
    means = []
    for shots in (0, 2):
        asked = trained_flags | {"shots": shots, "save_path": tmp_path / f"shots{shots}", "batch_size": 2}
        status, _, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
        assert status == 0, err
        means.append(results_of(tmp_path / f"shots{shots}")["mean"])
    assert means[0] != means[1]
    alone = trained_flags | {"shots": 2, "save_path": tmp_path / "alone", "batch_size": 1}
    assert run(monkeypatch, capfd, "test.py", *flags(**alone))[0] == 0
    assert results_of(tmp_path / "alone")["mean"]["auroc_px"] == pytest.approx(means[1]["auroc_px"], abs=1e-4)


@pytest.mark.parametrize("fusion", ["fixed", "adaptive"])
def test_adaptive_fusion_weighs_by_the_references(fusion, free_flags, monkeypatch, capfd):
    asked = free_flags | SMALL | {"method": "fade", "shots": 2, "fusion": fusion}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 0, err
    assert results_of(free_flags["save_path"])["config"]["fusion"] == fusion


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"method": "winclip", "shots": 4}, "lists 3 normal training images of the class 'wood', wanted 4"),
        ({"method": "fade"}, "a mode of vision with 0 shots has nothing to compare with"),
        ({"method": "winclip", "seed": [0, 1]}, "several --seed draw several references"),
        ({"method": "winclip", "image_size": 28}, "a window needs 3 x 3: wanted at least 42"),
        ({"method": "fade", "shots": 1, "image_size": 56}, "FADE's sizes are --classification_img_size"),
        ({"method": "fade", "shots": 1, "segmentation_img_sizes": "13"}, "13 is below the 14 pixels"),
        (
            {"method": "fade", "classification_mode": "none", "segmentation_mode": "none"},
            "segmentation_mode 'none': wanted a mode other than none",
        ),
        ({"method": "winclip", "image_prompts": "nowhere"}, "no ensemble 'nowhere'"),
        ({"method": "winclip", "ckpt_path": "x.safetensors"}, "is not trained: leave --ckpt_path out"),
        ({}, "--ckpt_path is missing"),
    ],
)
def test_what_cannot_be_is_one_line(change, wanted, free_flags, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**free_flags | change))
    assert status == 2 and len(err.splitlines()) == 1 and wanted in err, err


def test_a_class_without_training_images_is_named(few, free_flags, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(few, tmp_path / "copy")
    content = json.loads((root / "meta.json").read_text())
    content["train"] = {"oak": [row | {"cls_name": "oak"} for row in content["train"]["wood"]]}
    (root / "meta.json").write_text(json.dumps(content))
    asked = free_flags | {"method": "winclip", "shots": 1, "data_path": root}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 2 and "lists 0 normal training images of the class 'wood'" in err


@pytest.mark.parametrize("method", ["winclip", "fade", "filo"])
def test_prediction_takes_a_folder_of_references(
    method, few, free_flags, trained, tmp_path, monkeypatch, capfd
):
    asked = {"class": "wood", "references": few / "wood" / "train" / "good", "out": tmp_path / "out"}
    if method == "filo":
        asked |= {"ckpt_path": trained / "filo.safetensors"}
    else:
        asked |= {"method": method, "clip_model": free_flags["clip_model"], "clip_pretrained": "drawn:0"}
        asked |= SMALL if method == "fade" else {}
    images = few / "wood" / "test"
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", images, *flags(**asked, device="cpu"))
    assert status == 0, err
    about = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert about["method"] == method and len(about["references"]["wood"]) == 3
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == 6 and len({row["score"] for row in rows}) > 1
    assert write_report(tmp_path / "out").is_file()


def test_references_of_another_class_are_named(few, free_flags, tmp_path, monkeypatch, capfd):
    (tmp_path / "shown" / "bolt").mkdir(parents=True)
    shutil.copy(next((few / "wood" / "train" / "good").iterdir()), tmp_path / "shown" / "bolt" / "0.png")
    asked = {"class": "wood", "method": "winclip", "references": tmp_path / "shown", "out": tmp_path / "out"}
    asked |= {"clip_model": free_flags["clip_model"], "clip_pretrained": "drawn:0", "device": "cpu"}
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", few / "wood" / "test", *flags(**asked))
    assert status == 2 and "has no references of the class 'wood' (there are folders of bolt)" in err


# the modules behind


def test_the_draw_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = draw(20, 4, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn)) == 4 and drawn == draw(20, 4, seed=3) != draw(20, 4, seed=2)
    assert draw(20, 2, seed=3) == drawn[:2] and draw(3, 0, seed=0) == []


def test_each_class_has_references_of_its_own(tmp_path):
    train = {
        "nut": [tmp_path / f"nut{i}" for i in range(5)],
        "bolt": [tmp_path / f"bolt{i}" for i in range(3)],
    }
    chosen = choose_references(tmp_path, train, ["nut", "bolt"], 2, seed=1)
    assert [path.name for path in chosen["nut"]] == [f"nut{i}" for i in draw(5, 2, 1)]
    assert [path.name for path in chosen["bolt"]] == [f"bolt{i}" for i in draw(3, 2, 1)]
    with pytest.raises(InputError, match="lists 3 normal training images of the class 'bolt', wanted 4"):
        choose_references(tmp_path, train, ["bolt"], 4, seed=1)


def test_a_users_folder_has_one_class_in_itself_or_several_in_folders(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in References(tmp_path).find("nut")] == ["a.JPG", "b.png"]
    assert [path.name for path in References(tmp_path, shots=1).find("nut")] == ["a.JPG"]
    with pytest.raises(InputError, match="holds 2 images, wanted 3 references"):
        References(tmp_path, shots=3).find("nut")
    with pytest.raises(InputError, match=r"has no references of the class 'nut' \(it has no folders\)"):
        References(tmp_path, is_single=False).find("nut")
    (tmp_path / "metal_nut").mkdir()
    (tmp_path / "metal_nut" / "1.png").write_bytes(b"")
    found = find_references(tmp_path, ["metal nut"], is_single=False)
    assert [path.name for path in found["metal nut"]] == ["1.png"]
    with pytest.raises(InputError, match="no such folder of references"):
        References(tmp_path / "nowhere").find("nut")
