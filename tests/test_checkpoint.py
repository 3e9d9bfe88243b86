"""Checkpoints: round trips, refusals, and the command that looks at them."""

import json
import pickle
import runpy
import sys
from dataclasses import asdict

import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file

from filo.checkpoint import load_checkpoint, main, save_checkpoint
from filo.errors import InputError, exit_clearly
from filo.files import sha256_of
from filo.grounding.weights import MARKS
from filo.methods.filo_config import PRESETS, FiLoConfig
from filo.published import clip_part
from filo.weights import fingerprint
from tests.published_files import draw_clip, published_state

CLIP = {"model": "m.json", "pretrained": "drawn:0", "image_size": 56, "sha256": "ab"}
CLIP |= {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
PROVENANCE = {"dataset": "demo", "meta_sha256": "cd", "seed": 3, "name": "Größe"}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_saved_comes_back(tmp_path, preset):
    state = {"adapter.down.weight": torch.randn(3, 4).T, "normal_prompt.ctx": torch.randn(2, 5)}
    path = tmp_path / "run" / "filo.safetensors"
    save_checkpoint(path, state, PRESETS[preset], CLIP, PROVENANCE)
    loaded = load_checkpoint(path)
    assert loaded.config == PRESETS[preset]
    assert (loaded.clip, loaded.provenance) == (CLIP, PROVENANCE)
    assert loaded.state.keys() == state.keys()
    assert all(torch.equal(loaded.state[name], state[name]) for name in state)
    assert loaded.sha256 == sha256_of(path)
    assert [p.name for p in path.parent.iterdir()] == ["filo.safetensors"]


def refusal(path):
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_missing_checkpoint_is_named(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_a_truncated_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "filo.safetensors"
    save_checkpoint(path, {"a": torch.randn(100)}, FiLoConfig(), CLIP, {})
    path.write_bytes(path.read_bytes()[:keep])
    assert "cut off" in refusal(path)


def test_other_safetensors_and_pickles_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "no checkpoint" in refusal(tmp_path / "other.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    refusal(tmp_path / "other.pth")


def test_a_checkpoint_of_another_version_names_the_fields(tmp_path):
    path = tmp_path / "filo.safetensors"
    metadata = {"format": "filo-checkpoint-1", "clip": "{}", "provenance": "{}"}
    save_file({"a": torch.zeros(1)}, path, metadata | {"config": json.dumps({"n_ctx": 12, "warp": 1})})
    with pytest.raises(InputError, match="warp"):
        load_checkpoint(path)


def config(**changes):
    return {**asdict(FiLoConfig()), **changes}


BAD_HEADERS = [
    {"config": None},
    {"config": []},
    {"config": config(mmci_shapes=[[2, 2]])},
    {"config": config(blur_kernel=4)},
    {"config": config(blur_sigma=-1.0)},
    {"config": config(n_ctx=-3)},
    {"config": config(joint_norm="false")},
    {"clip": []},
    {"clip": {}},
    {"clip": CLIP | {"sha256": None}},
    {"clip": CLIP | {"image_size": "56"}},
    {"clip": CLIP | {"image_size": True}},
    {"clip": CLIP | {"image_size": 8_000_000}},
    {"clip": CLIP | {"mean": [0.5]}},
    {"clip": CLIP | {"mean": ["a", "b", "c"]}},
    {"clip": CLIP | {"std": [0, 0, 0]}},
    {"clip": CLIP | {"std": [float("nan")] * 3}},
    {"provenance": {}},
    {"provenance": PROVENANCE | {"dataset": 3}},
]


@pytest.mark.parametrize("change", BAD_HEADERS, ids=str)
def test_a_damaged_header_is_refused(tmp_path, change):
    path = tmp_path / "filo.safetensors"
    header = {"config": config(), "clip": CLIP, "provenance": PROVENANCE}
    for parts in (header | change, {k: v for k, v in header.items() if k not in change}):
        metadata = {"format": "filo-checkpoint-1"} | {k: json.dumps(v) for k, v in parts.items()}
        save_file({"a": torch.zeros(1)}, path, metadata)
        refusal(path)
    save_file({"a": torch.zeros(1)}, path, metadata | {"config": "[" * 100_000})
    refusal(path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "filo.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, FiLoConfig(), CLIP, {})
    before = path.read_bytes()

    def fail(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("filo.weights.save_file", fail)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(path, {"a": torch.ones(1)}, FiLoConfig(), CLIP, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["filo.safetensors"]


def test_a_checkpoint_of_another_format_is_told_from_no_checkpoint(tmp_path):
    path = tmp_path / "filo.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"format": "filo-checkpoint-2"})
    assert "another version: its format is 'filo-checkpoint-2', wanted 'filo-checkpoint-1'" in refusal(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "pt"})
    assert "no checkpoint" in refusal(path)


# ---- other files than checkpoints of ours; what a published one holds is in test_published


@pytest.fixture(scope="module")
def published():
    return published_state(TINY, 56, first_tap=1)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("filo_train_on_visa.pth", "visa"),
        ("filo_train_on_mvtec.pth", "mvtec"),
        ("my_filo_train_on_mvtec (1).pth", "mvtec"),
        ("filo_train_on_bottles.pth", "unknown"),
        ("visa.pth", "unknown"),
    ],
)
def test_a_published_file_is_a_checkpoint_that_brings_its_clip(name, dataset, published, tmp_path):
    torch.save({"filo": published}, tmp_path / name)
    loaded = load_checkpoint(tmp_path / name, (1, 2, 3, 4))
    assert (loaded.provenance["dataset"], loaded.provenance["meta_sha256"]) == (dataset, "")
    assert name in loaded.provenance["published"]
    assert (loaded.clip["model"], loaded.clip["pretrained"]) == ("", "checkpoint")
    assert loaded.clip["image_size"] == 56
    assert loaded.clip["sha256"] == fingerprint(clip_part(published))
    assert loaded.sha256 == sha256_of(tmp_path / name)


def test_a_published_file_for_huge_images_is_refused(published, tmp_path):
    table = torch.zeros(1 + 293 * 293, 32)
    state = published | {"clip_model.visual.positional_embedding": table}
    torch.save({"filo": state}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth .* image_size is 4102, wanted 1 to 4096"):
        load_checkpoint(tmp_path / "a.pth", (1, 2, 3, 4))


OTHER_FILES = {
    "its detector": (dict.fromkeys(MARKS["original"], torch.ones(1)), "belongs to --grounded_checkpoint"),
    "one of MMDetection": (
        dict.fromkeys(MARKS["mmdetection"], torch.ones(1)),
        "belongs to --grounded_checkpoint",
    ),
    "a CLIP": (draw_clip(TINY), "belongs to --clip_pretrained"),
    "a headless checkpoint": (
        {"linear_heads.0.weight": torch.ones(1), "normal_prompt.ctx": torch.ones(1)},
        "their header is lost",
    ),
    "another model": ({"fc.weight": torch.ones(1)}, "are none of a FiLo or an AnomalyCLIP (fc.weight)"),
    "nothing": ({}, "it is empty"),
}


@pytest.mark.parametrize("wrapper", [None, "model"])
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_weights_are_told_where_they_belong(kind, wrapper, tmp_path):
    weights, wanted = OTHER_FILES[kind]
    content = weights if wrapper is None else {wrapper: {f"module.{n}": t for n, t in weights.items()}}
    torch.save(content, tmp_path / "other.pth")
    message = refusal(tmp_path / "other.pth")
    assert "no checkpoint" in message and wanted in message


@pytest.mark.parametrize("kept", [0, 1, 50, 0.1, 0.5, 0.9, -1])
def test_a_truncated_published_file_is_refused(kept, published, tmp_path):
    torch.save({"filo": published}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    end = int(kept * len(content)) if isinstance(kept, float) else kept
    (tmp_path / "filo_train_on_visa.pth").write_bytes(content[:end])
    refusal(tmp_path / "filo_train_on_visa.pth")


class Probe:
    """Creates a file when it is unpickled by a careless reader."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_file_that_would_run_code_is_refused_and_does_not_run(published, tmp_path, capsys, monkeypatch):
    path = tmp_path / "filo_train_on_visa.pth"
    for content in (Probe(tmp_path / "ran"), {"filo": published | {"x": Probe(tmp_path / "ran")}}):
        torch.save(content, path)
        refusal(path)
        for command in (["inspect", path], ["convert", path, tmp_path / "out.safetensors"]):
            status, out, err = run(monkeypatch, capsys, *command)
            assert (status, out, len(err.splitlines())) == (2, "", 1) and str(path) in err
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    pickle.loads(pickle.dumps(Probe(tmp_path / "ran"))).close()  # a careless reader would have run it
    assert (tmp_path / "ran").exists()


# ---- the command


def run(monkeypatch, capsys, *arguments):
    """Run `python -m filo.checkpoint` within this process: (status, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["filo.checkpoint", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        exit_clearly(main)
    return caught.value.code, *capsys.readouterr()


def test_the_command_converts_there_and_back(published, tmp_path, capsys, monkeypatch):
    path, ours, back = (tmp_path / name for name in ("a.pth", "b.safetensors", "c.pth"))
    torch.save({"filo": published}, path)
    taps = ["--features_list", 1, 2, 3, 4]
    status, out, err = run(monkeypatch, capsys, "convert", path, ours, *taps)
    assert (status, err) == (0, "") and "b_clip.safetensors: 86 tensors" in out
    assert run(monkeypatch, capsys, "convert", ours, back)[0] == 0
    found = torch.load(back, weights_only=True)["filo"]
    assert found.keys() == published.keys()
    assert all(torch.equal(found[name], t) for name, t in published.items())
    status, out, err = run(monkeypatch, capsys, "convert", ours, back)
    assert (status, out) == (2, "") and "--overwrite" in err
    assert run(monkeypatch, capsys, "convert", ours, back, "--overwrite")[0] == 0


def test_the_status_tells_known_unknown_and_unreadable_apart(tmp_path, capsys, monkeypatch):
    files = {"clip.pt": draw_clip(TINY), "other.pt": {"fc.weight": torch.ones(1)}, "broken.pt": None}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    found = [run(monkeypatch, capsys, "inspect", tmp_path / name) for name in files]
    assert [status for status, _, _ in found] == [0, 1, 2]
    assert "CLIP weights" in found[0][1] and "unknown" in found[1][1]
    assert found[2][1] == "" and len(found[2][2].splitlines()) == 1


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_it_runs_as_a_module(tmp_path, capsys, monkeypatch):
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "a.pt")
    monkeypatch.setattr(sys, "argv", ["filo.checkpoint", "inspect", str(tmp_path / "a.pt")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("filo.checkpoint", run_name="__main__")
    assert caught.value.code == 1 and "unknown" in capsys.readouterr().out
