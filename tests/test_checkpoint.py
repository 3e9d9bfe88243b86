"""Checkpoints: round trips, refusals, and the published names."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from filo.checkpoint import load_checkpoint, published_name, save_checkpoint
from filo.errors import InputError
from filo.files import sha256_of
from filo.methods.filo import FiLo
from filo.methods.filo_config import PRESETS, FiLoConfig

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
    assert "no FiLo checkpoint" in refusal(tmp_path / "other.safetensors")
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

    monkeypatch.setattr("filo.checkpoint.save_file", fail)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(path, {"a": torch.ones(1)}, FiLoConfig(), CLIP, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["filo.safetensors"]


def test_every_trained_tensor_has_its_published_name(tiny_clip):
    config = FiLoConfig(features_list=(1, 2, 3, 4))
    model = FiLo(tiny_clip, config, {})
    kernels = {"11": (1, 1), "33": (3, 3), "55": (5, 5), "77": (7, 7), "15": (1, 5), "51": (5, 1)}
    wanted = {"adapter.fc.0.weight": (12, 24), "adapter.fc.2.weight": (24, 12)}
    for i in range(4):
        wanted |= {f"decoder_linear.fc.{i}.weight": (24, 32), f"decoder_linear.fc.{i}.bias": (24,)}
    for name, kernel in kernels.items():
        for i in range(3):
            wanted |= {
                f"decoder_cov.fc_{name}.{i}.weight": (24, 32, *kernel),
                f"decoder_cov.fc_{name}.{i}.bias": (24,),
            }
    for kind in ("normal", "abnormal"):
        learner = f"{kind}_prompt_learner"
        wanted |= {f"{learner}.ctx": (12, 24)}
        wanted |= {f"{learner}.meta_net.linear1.weight": (1, 24), f"{learner}.meta_net.linear1.bias": (1,)}
        wanted |= {f"{learner}.meta_net.linear2.weight": (24, 1), f"{learner}.meta_net.linear2.bias": (24,)}
    found = {published_name(name, config): tuple(t.shape) for name, t in model.trained_state().items()}
    assert found == wanted


def test_a_tensor_without_counterpart_is_an_error():
    with pytest.raises(KeyError, match=r"adapter\.sideways"):
        published_name("adapter.sideways", FiLoConfig())
