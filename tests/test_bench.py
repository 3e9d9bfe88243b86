"""The benchmark's two ways agree, and the command writes what it measured."""

import json

import numpy as np
import pytest
import torch

from filo.bench import machine, of_memory, setting
from filo.bench.cases import CASES
from filo.bench.machine import matrix_rate, tower_operations
from filo.bench.setting import Bench, Place
from filo.bench.worker import Worker
from filo.methods.fade import FADEModel
from filo.methods.fade_config import FADEConfig
from tests.commands import run

CPU = torch.device("cpu")
TINY = Place("tiny", CPU)
AGREEMENT = {"image_bf16": 2e-2, "tower_bf16": 5e-2}  # all others are exact but for rounding


SLOW = ("fade_1", "winclip_4", "anomalyclip_epoch")  # others are like them


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)
def test_our_way_gives_what_the_plain_way_gives(name):
    ways = CASES[name].make(TINY)
    ways.prepare_plainly()
    plainly = ways.plainly()
    ways = CASES[name].make(TINY)
    ways.prepare()
    ours = ways.ours()
    assert len(ours) == len(plainly)
    for one, other in zip(ours, plainly, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < AGREEMENT.get(name, 1e-4)
    assert any(np.abs(array).max() > 1e-3 for array in ours)
    assert not any((array == 1).all() for array in ours)  # cut to one value there is nothing to compare


@pytest.mark.parametrize("name", ["metrics", "memory", "memory_one"])
def test_what_needs_no_model_builds_none(name, monkeypatch):
    monkeypatch.setattr(setting, "load_clip", lambda *_, **__: pytest.fail("a CLIP was built"))
    CASES[name].make(TINY)


def test_fade_is_measured_with_whole_ensembles(monkeypatch):
    asked = []
    monkeypatch.setattr(FADEModel, "text_model", lambda model, prompts: asked.append(prompts))
    CASES["fade_language"].make(TINY).prepare()
    counts = [[sum(label == side for _, label in prompts) for side in (0, 1)] for prompts in asked]
    assert counts[0] == [154, 88] and min(counts[1]) > 500


def test_references_and_their_number_change_what_few_shot_cases_give():
    found = {}
    for name in ("fade_1", "fade_4"):
        ways = CASES[name].make(TINY)
        ways.prepare()
        found[name] = ways.ours()
    for one, other in zip(*found.values(), strict=True):
        assert np.abs(one - other).max() > 1e-3
    assert found["fade_4"][1].std() > 1e-3


def test_the_memory_is_measured_with_four_references_of_fade():
    N, _, large, small = of_memory.SIZES["full"]
    per_image = {side: (side // 16) ** 2 for side in FADEConfig().segmentation_img_sizes}
    assert (N, small) == (per_image[896], 4 * per_image[896]) and large > small


def test_neither_way_rounds_what_convolutions_multiply(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Bench(TINY)
    assert not torch.backends.cudnn.allow_tf32


def test_gradients_are_among_what_is_compared():
    arrays = CASES["train_step"].make(TINY).ours()
    assert len(arrays) == 1 + 36 + 8 + 10  # loss; MMCI, linear heads, prompts
    assert sum(bool(array.any()) for array in arrays) > 50


def test_the_plain_way_computes_gradients_of_the_frozen_text_tower_and_ours_does_not():
    bench = Bench(TINY)
    ways = CASES["train_step"].ways(bench)
    ways.ours()
    assert not any(p.requires_grad for p in bench.model.clip.parameters())
    ways.plainly()
    assert all(p.requires_grad for p in bench.model.clip.text.parameters())


def test_the_command_measures_and_writes_json(tmp_path, monkeypatch, capfd):
    path = tmp_path / "bench.json"
    monkeypatch.setattr(machine, "matrix_rate", lambda *_: matrix_rate(CPU, torch.float32, 128, 1))
    arguments = ("--size", "tiny", "--rounds", 1, "--only", "metrics", "--json", path, "--device", "cpu")
    status, out, err = run(monkeypatch, capfd, "filo/bench/__main__.py", *arguments)
    assert (status, err) == (0, "")
    row = json.loads(path.read_text())[0]
    assert row["name"] == "metrics" and row["ratio"] > 0 and row["max_difference"] < 1e-6
    assert row["ratio"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    assert row["peak_rss_gb"] > 0 and row["machine"]["matrix_gflops"]["fp32"] > 0
    assert "| metrics" in out and "GFLOP/s" in out


def test_a_way_that_dies_is_said():
    worker = Worker("metrics", 0, "tiny", "cpu", 1)
    worker.wait_until_ready()
    worker.process.kill()
    worker.process.join()
    with pytest.raises(RuntimeError, match="status -9"):
        worker.run()


def test_operations_of_the_image_tower_are_counted_by_hand():
    layers, N, C = 8, 18 * 18 + 1, 192  # the demo's CLIP at 144 pixels
    block = 2 * N * (3 + 1 + 4 + 4) * C * C + 2 * 2 * N * N * C
    vv = 2 * N * C * C + 2 * 2 * N * N * C
    assert tower_operations("tiny") == layers * block + 6 * vv
    assert matrix_rate(CPU, torch.float32, side=128, rounds=1) > 1e6
