"""What tests of hostile files and of faults share: a small model, a small dataset, a pickle that runs."""

import json
import runpy
import sys

import pytest

from filo.checkpoint import save_checkpoint
from filo.clip.load import load_clip
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import FiLoConfig
from tests.commands import ROOT
from tests.trees import KINDS, make_root

CONFIG = FiLoConfig(features_list=(1, 2, 4), n_ctx=2)


class Probe:
    """Creates a file when it is unpickled by a careless reader."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def make_checkpoint(path, tiny_config, change=None):
    """Write a checkpoint that nobody trained; `change` alters its tensors."""
    clip = load_clip(str(tiny_config), "drawn:0", 56)
    state = FiLoModel(clip, CONFIG, {}).trained_state()
    about = {"model": str(tiny_config), "pretrained": "drawn:0"} | clip.describe()
    provenance = {"dataset": "another", "meta_sha256": ""}
    save_checkpoint(path, change(state) if change else state, CONFIG, about, provenance)
    return path


def make_prompts(path):
    descriptions = [{"text": text} for text in ("rust", "a dent {0.__class__}")]
    classes = {name: {"name": name, "descriptions": descriptions} for name in KINDS}
    path.write_text(json.dumps({"classes": classes}))
    return path


def make_flags(folder, tiny_config):
    """Flags with which each command runs through in a moment; what it writes goes to `folder`/run."""
    root, prompts = make_root(folder / "data"), make_prompts(folder / "prompts.json")
    checkpoint = make_checkpoint(folder / "filo.safetensors", tiny_config)
    clip = {"clip_model": tiny_config, "clip_pretrained": "drawn:0"}
    sizes = {"image_size": 56, "features_list": [1, 2, 4], "n_ctx": 2}
    common = {"prompts": prompts, "device": "cpu"}
    train = {"train_data_path": root, "epoch": 1, "adapter_epoch": 1, "save_path": folder / "run"}
    test = {"data_path": root, "ckpt_path": checkpoint, "save_path": folder / "run"}
    predict = {"class": "nut", "ckpt_path": checkpoint, "out": folder / "run"}
    return {
        "train.py": common | clip | sizes | train,
        "test.py": common | test,
        "filo/predict.py": common | predict,
    }


def call(monkeypatch, capfd, folder, script, *arguments):
    """Run a script as a command whose current folder is `folder`: (status, stdout, stderr)."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    out, err = capfd.readouterr()
    return caught.value.code, out, err


def the_line(outcome):
    """Assert status 2 and one line on stderr beside notes and warnings; give the line."""
    status, _, err = outcome
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert status == 2 and len(lines) == 1, err
    return lines[0]
