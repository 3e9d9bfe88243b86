"""What many tests share: a tiny CLIP drawn from a seed, small datasets, and one finished training run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from filo.clip.load import load_clip
from filo.grounding.load import load_detector
from filo.synthetic import make_demo
from tests.commands import ROOT, flags
from tests.detectors import draw, write_config, write_vocabulary

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 56, "layers": 4, "width": 32, "head_width": 16, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_clip(tiny_config):
    """A CLIP of four layers for 56 x 56 images: a 4 x 4 grid of patches."""
    return load_clip(str(tiny_config), "drawn:0", 56)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small gain nothing from threads, which on a busy machine wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Both demo datasets, small, with their meta.json made by the real scripts."""
    roots = make_demo(tmp_path_factory.mktemp("data") / "demo", side=64, normal=2, anomalous=4, train=1)
    for name, script in (("visa", "data/visa.py"), ("mvtec", "data/mvtec.py")):
        command = [sys.executable, ROOT / script, "--root", roots[name]]
        subprocess.run(command, check=True, capture_output=True)
    return roots


@pytest.fixture(scope="session")
def wood(data, tmp_path_factory):
    """One class of the demo-MVTec as a dataset of its own."""
    root = tmp_path_factory.mktemp("wood") / "data"
    shutil.copytree(data["mvtec"] / "wood", root / "wood")
    meta = json.loads((data["mvtec"] / "meta.json").read_text())
    one = {split: {"wood": classes["wood"]} for split, classes in meta.items()}
    (root / "meta.json").write_text(json.dumps(one))
    return root


@pytest.fixture(scope="session")
def train_flags(data, tiny_config):
    return {
        "dataset": "demo_visa",
        "train_data_path": data["visa"],
        "clip_model": tiny_config,
        "clip_pretrained": "drawn:0",
        "image_size": 56,
        "features_list": [1, 2, 4],
        "n_ctx": 2,
        "epoch": 1,
        "adapter_epoch": 1,
        "batch_size": 4,
        "device": "cpu",
    }


@pytest.fixture(scope="session")
def trained(train_flags, tmp_path_factory):
    """The folder of one finished run, started as a user starts it."""
    folder = tmp_path_factory.mktemp("run") / "filo"
    command = [sys.executable, "train.py", *flags(**train_flags, save_path=folder)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: sums depend on it
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    assert re.search(r"stage 2 epoch 1/1: loss \d", done.stdout)
    return folder


@pytest.fixture
def test_flags(data, trained, tmp_path):
    return {
        "dataset": "demo_mvtec",
        "data_path": data["mvtec"],
        "ckpt_path": trained / "filo.safetensors",
        "save_path": tmp_path / "results",
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def grounding(tmp_path_factory):
    """Flags that name a small detector."""
    folder = tmp_path_factory.mktemp("grounding")
    config, bert = write_config(folder / "small.py"), write_vocabulary(folder / "bert")
    state = load_detector("drawn:0", config, bert, 64).model.state_dict()
    weights = draw({name.replace("bert.bert.", "bert."): t for name, t in state.items()})
    torch.save(weights, folder / "grounding.pth")
    return {
        "grounded_checkpoint": folder / "grounding.pth",
        "groundingdino_config": config,
        "bert": bert,
        "box_threshold": 0.9,
        "text_threshold": 0.85,
        "cache_dir": folder / "cache",
    }
