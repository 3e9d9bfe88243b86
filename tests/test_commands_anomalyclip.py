"""AnomalyCLIP as a user runs it: published flags and files, resume, cached features, mistakes."""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from filo.metrics import COLUMNS, IMAGE_COLUMNS, PIXEL_COLUMNS
from tests.commands import ROOT, flags, run
from tests.conftest import TINY

# of the published shell scripts, with smaller numbers
PUBLISHED = {"features_list": 4, "image_size": 56, "batch_size": 8, "print_freq": 1, "epoch": 2}
PUBLISHED |= {"save_freq": 1, "depth": 3, "n_ctx": 5, "t_n_ctx": 2, "feature_map_layer": [0, 1, 2, 3]}
T = TINY["text_cfg"]["width"]


@pytest.fixture(scope="module")
def clip_flags(tiny_config):
    return {"clip_model": tiny_config, "clip_pretrained": "drawn:0"}


@pytest.fixture(scope="module")
def anomalyclip_flags(data, clip_flags):
    about = {"method": "anomalyclip", "dataset": "demo_visa", "train_data_path": data["visa"]}
    return about | clip_flags | PUBLISHED | {"device": "cpu"}


@pytest.fixture(scope="module")
def prompts(anomalyclip_flags, tmp_path_factory):
    """The folder of one finished run."""
    folder = tmp_path_factory.mktemp("run") / "anomalyclip"
    command = [sys.executable, "train.py", *flags(**anomalyclip_flags, save_path=folder)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def evaluation(data, prompts, tmp_path):
    about = {"dataset": "demo_mvtec", "data_path": data["mvtec"], "save_path": tmp_path / "results"}
    return about | {"checkpoint_path": prompts / "anomalyclip.safetensors", "device": "cpu"}


@pytest.fixture
def published(tmp_path):
    """A file in the published program's form, with what it keeps and never uses."""
    g = torch.Generator().manual_seed(3)
    state = {f"ctx_{side}": 0.02 * torch.randn(1, 1, 5, T, generator=g) for side in ("pos", "neg")}
    for k in range(2):
        state[f"compound_prompts_text.{k}"] = 0.02 * torch.randn(2, T, generator=g)
        state[f"compound_prompt_projections.{k}.weight"] = torch.zeros(896, T)
        state[f"compound_prompt_projections.{k}.bias"] = torch.zeros(896)
    for side in ("pos", "neg"):
        state[f"token_prefix_{side}"] = torch.zeros(1, 1, 1, T)
        state[f"token_suffix_{side}"] = torch.zeros(1, 1, 71, T)
        state[f"tokenized_prompts_{side}"] = torch.zeros(1, 1, 77, dtype=torch.long)
    folder = tmp_path / "9_12_4_multiscale"
    folder.mkdir()
    torch.save({"prompt_learner": state}, folder / "epoch_15.pth")
    return folder / "epoch_15.pth"


def test_a_run_leaves_log_curve_and_prompts(prompts):
    names = {"args.json", "log.jsonl", "loss.png", "anomalyclip.safetensors"}
    names |= {f"stage1_epoch_0{epoch}.safetensors" for epoch in (1, 2)}
    assert {path.name for path in prompts.iterdir()} == names
    state = load_file(prompts / "anomalyclip.safetensors")
    shapes = {name: tuple(t.shape) for name, t in state.items()}
    deep = {f"compound_prompts_text.{k}": (2, T) for k in range(2)}
    assert shapes == {"ctx_pos": (1, 1, 5, T), "ctx_neg": (1, 1, 5, T)} | deep


def test_cached_features_and_a_resumed_run_end_with_the_same_weights(
    anomalyclip_flags, prompts, tmp_path, monkeypatch, capfd
):
    wanted = load_file(prompts / "anomalyclip.safetensors")
    cached = anomalyclip_flags | {"cache_features": tmp_path / "features", "save_path": tmp_path / "cached"}
    assert run(monkeypatch, capfd, "train.py", *flags(**cached))[0] == 0
    one = load_file(tmp_path / "cached" / "anomalyclip.safetensors")
    assert all(torch.allclose(one[name], wanted[name], atol=2e-4) for name in wanted)  # one image at a time

    stopped = anomalyclip_flags | {"save_path": tmp_path / "stopped"}
    killed = [sys.executable, "-c", KILLED_AFTER_ONE_EPOCH, *flags(**stopped)]
    done = subprocess.run(killed, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == 9 and (tmp_path / "stopped" / "state.safetensors").exists()
    status, out, err = run(monkeypatch, capfd, "train.py", *flags(**stopped))
    assert status == 0 and "going on from stage 1, epoch 1" in out, err
    other = load_file(tmp_path / "stopped" / "anomalyclip.safetensors")
    assert all(torch.equal(other[name], wanted[name]) for name in wanted)


KILLED_AFTER_ONE_EPOCH = """
import os, runpy, sys
from filo.progress import Progress
end = Progress.end_epoch
def end_epoch(self, line):
    end(self, line)
    os._exit(9)
Progress.end_epoch = end_epoch
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def test_evaluation_takes_the_method_from_the_checkpoint(evaluation, monkeypatch, capfd):
    same = {name: PUBLISHED[name] for name in ("features_list", "image_size", "depth", "n_ctx", "t_n_ctx")}
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**evaluation | same, sigma=2))
    assert (status, err) == (0, "")
    results = json.loads((evaluation["save_path"] / "results.json").read_text())
    assert results["method"] == "anomalyclip" and results["config"]["sigma"] == 2.0
    assert results["mean"].keys() == set(COLUMNS) and results["hashes"]["prompts"] == {}
    assert results["scoring"]["sigma"] == 2.0 and "wood" in out


@pytest.mark.parametrize("metrics", ["image-level", "pixel-level"])
def test_one_level_of_metrics_is_computed_alone(metrics, evaluation, monkeypatch, capfd):
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**evaluation, metrics=metrics))
    assert (status, err) == (0, "")
    mean = json.loads((evaluation["save_path"] / "results.json").read_text())["mean"]
    order = 1 if metrics == "image-level" else -1
    shown, hidden = (IMAGE_COLUMNS, PIXEL_COLUMNS)[::order]
    assert all(mean[name] is not None for name in shown) and all(mean[name] is None for name in hidden)
    head = [cell.strip() for cell in out.splitlines()[0].strip("|").split("|")]
    assert head == ["objects", *shown] and "n/a" not in out


def test_a_published_file_is_used_as_it_is(published, evaluation, clip_flags, monkeypatch, capfd):
    asked = evaluation | clip_flags | {"checkpoint_path": published, "image_size": 56, "features_list": 4}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 0, err
    assert "compound_prompt_projections.0.weight and 9 more play no part in the method" in err
    results = json.loads((evaluation["save_path"] / "results.json").read_text())
    assert results["trained"]["dataset"] == "visa"  # by its folder's name in the program's repository
    assert (results["config"]["depth"], results["config"]["n_ctx"], results["config"]["t_n_ctx"]) == (3, 5, 2)
    status, out, _ = run(monkeypatch, capfd, "filo/checkpoint.py", "inspect", published)
    assert status == 0 and "published AnomalyCLIP prompts" in out and "10 tensors" in out


def test_a_published_file_with_another_tensor_is_refused(published, evaluation, monkeypatch, capfd):
    state = torch.load(published, weights_only=True)["prompt_learner"]
    del state["compound_prompts_text.0"]
    torch.save({"prompt_learner": state}, published)
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**evaluation | {"checkpoint_path": published}))
    assert status == 2 and len(err.splitlines()) == 1
    assert "looks like a published AnomalyCLIP file, but compound_prompts_text.0 is missing" in err


def test_prompts_of_another_width_are_refused(published, evaluation, clip_flags, monkeypatch, capfd):
    state = torch.load(published, weights_only=True)["prompt_learner"]
    for name in ("ctx_pos", "ctx_neg"):
        state[name] = torch.zeros(1, 1, 5, T + 1)
    for k in range(2):
        state[f"compound_prompts_text.{k}"] = torch.zeros(2, T + 1)
    torch.save({"prompt_learner": state}, published)
    asked = evaluation | clip_flags | {"checkpoint_path": published, "image_size": 56, "features_list": 4}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**asked))
    assert status == 2 and "belong to another architecture" in err.splitlines()[-1]


def test_prediction_of_own_images(prompts, data, tmp_path, monkeypatch, capfd):
    asked = {"ckpt_path": prompts / "anomalyclip.safetensors", "out": tmp_path / "out", "class": "metal nut"}
    images = data["mvtec"] / "hex_nut" / "test"
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", images, *flags(**asked, device="cpu"))
    assert status == 0, err
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == 6 and all(0 < float(row["score"]) < 1 and row["position"] for row in rows)
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["method"] == "anomalyclip"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"method": "filo"}, "holds an AnomalyCLIP, not a FiLo"),
        ({"depth": 4}, "was trained with depth 3, not 4"),
        ({"n_ctx": 12}, "was trained with n_ctx 5, not 12"),
        ({"features_list": [1, 4]}, r"was trained with features_list (4,), not (1, 4)"),
        ({"without": ["shapes"]}, "--without shapes: these are parts of FiLo, and this is AnomalyCLIP"),
    ],
)
def test_what_the_checkpoint_is_not_is_one_line(change, wanted, evaluation, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**evaluation | change))
    assert status == 2 and len(err.splitlines()) == 1 and wanted in err


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"method": "anomalyclip"}, "holds a FiLo, not an AnomalyCLIP"),
        ({"depth": 9}, "holds a FiLo, which has no depth"),
        ({"sigma": 4}, "holds a FiLo, which has no sigma"),
    ],
)
def test_a_filo_is_not_taken_for_an_anomalyclip(change, wanted, test_flags, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**test_flags | change))
    assert status == 2 and len(err.splitlines()) == 1 and wanted in err


def test_prompts_are_no_clip(prompts, train_flags, tmp_path, monkeypatch, capfd):
    asked = train_flags | {"clip_pretrained": prompts / "anomalyclip.safetensors"}
    asked |= {"save_path": tmp_path / "run"}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**asked))
    assert status == 2 and "holds an AnomalyCLIP, which belongs to --ckpt_path" in err


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            {"adapter_epoch": 5},
            "unrecognized arguments: --adapter_epoch 5 (--adapter_epoch belongs to --method filo)",
        ),
        ({"depht": 5}, "unrecognized arguments: --depht 5"),
        ({"preset": "paper"}, "unrecognized arguments: --preset"),
        ({"t_n_ctx": 6}, "t_n_ctx 6: wanted"),
        ({"feature_map_layer": 1}, "feature_map_layer 1: wanted"),
        ({"features_list": 5}, "features_list [5]: wanted rising layer numbers between 1 and 4"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(change, wanted, anomalyclip_flags, tmp_path, monkeypatch, capfd):
    asked = flags(**anomalyclip_flags | change, save_path=tmp_path / "run")
    status, _, err = run(monkeypatch, capfd, "train.py", *asked)
    assert status == 2 and wanted in err.splitlines()[-1]
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("*.safetensors"))


def test_a_published_command_without_the_method_is_told_what_it_lacks(monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "train.py", "--dataset", "visa", "--print_freq", 1, "--depth", 9)
    assert status == 2
    assert (
        "unrecognized arguments: --print_freq 1 --depth 9 (--print_freq belongs to --method anomalyclip)"
        in err
    )


def test_help_explains_the_flags_of_the_method_that_is_asked_for(monkeypatch, capfd):
    for method, own, foreign in (
        ("filo", "--adapter_epoch", "--t_n_ctx"),
        ("anomalyclip", "--t_n_ctx", "--adapter_epoch"),
    ):
        status, out, _ = run(monkeypatch, capfd, "train.py", "--method", method, "--help")
        assert status == 0 and own in out and foreign not in out
