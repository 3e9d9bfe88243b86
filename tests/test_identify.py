"""The report on a weights file says what a user needs to know, and leads on."""

import re
from dataclasses import replace

import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file

from filo.checkpoint import load_checkpoint, save_checkpoint
from filo.convert import convert
from filo.errors import InputError
from filo.files import sha256_of
from filo.grounding.weights import MARKS
from filo.identify import describe
from filo.methods.filo_config import PRESETS, FiLoConfig
from tests.published_files import draw_clip, published_state

TAPS = (1, 2, 3, 4)
CLIP = {"model": "ViT-L-14-336", "pretrained": "openai", "image_size": 518, "sha256": "ab" * 32}
CLIP |= {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
PROVENANCE = {
    "dataset": "mvtec",
    "meta_sha256": "cd" * 32,
    "arguments": {"seed": 3, "epoch": 15},
    "environment": {
        "packages": {"torch": "2.9.1", "numpy": "2.3"},
        "commit": "1a2b3c+changes",
        "hardware": "a CPU",
    },
    "stage": 2,
    "epoch": 5,
    "loss": 0.125,
}


@pytest.fixture
def published_path(tmp_path):
    state = published_state(TINY, 56, first_tap=1)
    torch.save(
        {"filo": state | {"text_encoder.attn_mask": torch.ones(77, 77)}}, tmp_path / "filo_train_on_visa.pth"
    )
    return tmp_path / "filo_train_on_visa.pth"


def rows(path, *args):
    """Give the report's lines by their labels; fails if the file is of no known kind."""
    text, is_known = describe(path, *args)
    assert is_known
    return by_label(text)


def by_label(text):
    pairs = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:]]
    return {label: re.sub(r" +", " ", value) for label, value in pairs}


def save_ours(path, config=PRESETS["official"], clip=CLIP, provenance=PROVENANCE):
    state = {"linear_heads.0.weight": torch.ones(3, 2), "linear_heads.0.bias": torch.ones(3)}
    state |= {"normal_prompt.ctx": torch.ones(2, 5).half(), "mmci_heads.0.branches.0.bias": torch.ones(3)}
    save_checkpoint(path, state | {"adapter.up.weight": torch.ones(2, 2)}, config, clip, provenance)
    return path


def test_a_published_file(published_path):
    found = rows(published_path, TAPS)
    assert found["what"] == "published FiLo weights, with their CLIP"
    assert found["sha256"] == sha256_of(published_path)
    assert found["size"] == f"{published_path.stat().st_size / 1e6:.1f} MB"
    assert found["linear heads"] == "8 tensors 3,168 parameters float32"
    assert found["MMCI heads"] == f"36 tensors {3 * 24 * (32 * 94 + 6):,} parameters float32"
    assert found["adapter"] == "2 tensors 576 parameters float32"
    assert found["CLIP's image tower"].startswith("56 tensors ")
    assert found["CLIP's text tower"].startswith("29 tensors ")
    assert found["text tower again"].startswith("28 tensors ")
    assert found["unused"] == "text_encoder.attn_mask"
    assert (found["preset"], found["n_ctx"], found["features_list"]) == ("official", "12", "1 2 3 4")
    assert found["CLIP"] == "of other sizes than ViT-L-14-336, at 56 pixels, in this file"
    assert found["its sizes"].startswith("4 layers of width 32")
    assert found["its fingerprint"] == load_checkpoint(published_path, TAPS).clip["sha256"][:12]
    assert found["trained on"] == "visa, by the file's name"
    command = f"python test.py --dataset mvtec --data_path data/mvtec --ckpt_path {published_path}"
    assert found["next"] == f"{command} --clip_model MODEL --features_list 1 2 3 4"


def test_a_published_file_of_another_name_trained_on_something(published_path, tmp_path):
    path = published_path.rename(tmp_path / "my filo.pth")
    found = rows(path, TAPS)
    assert found["trained on"] == "not known" and f"--ckpt_path '{path}'" in found["next"]


def test_a_checkpoint_of_ours(tmp_path):
    found = rows(save_ours(tmp_path / "filo.safetensors"))
    assert found["what"] == "FiLo checkpoint of this project, without its CLIP"
    assert found["linear heads"] == "2 tensors 9 parameters float32"
    assert found["prompts"] == "1 tensors 10 parameters float16"
    assert found["CLIP"] == "ViT-L-14-336, at 518 pixels, from openai"
    assert found["its fingerprint"] == "abababababab"
    assert found["trained on"] == "mvtec (meta.json cdcdcdcdcdcd)"
    assert found["run"] == "seed 3, stage 2, epoch 5, loss 0.125"
    assert found["code"] == "torch 2.9.1, numpy 2.3, commit 1a2b3c+changes"
    assert found["hardware"] == "a CPU"
    wanted = f"python test.py --dataset visa --data_path data/visa --ckpt_path {tmp_path}/filo.safetensors"
    assert found["next"] == wanted


@pytest.mark.parametrize("preset", PRESETS)
def test_the_preset_is_named(preset, tmp_path):
    assert rows(save_ours(tmp_path / "a.safetensors", PRESETS[preset]))["preset"] == preset


def test_a_config_of_its_own_names_what_differs(tmp_path):
    config = FiLoConfig(joint_norm=False, blur_kernel=5, n_ctx=3)
    found = rows(save_ours(tmp_path / "a.safetensors", config))
    assert found["preset"] == "custom, official but for blur_kernel 5, joint_norm False"
    assert found["n_ctx"] == "3"
    boxes = replace(PRESETS["paper"].boxes, outside_weight=0.25)
    found = rows(save_ours(tmp_path / "a.safetensors", replace(PRESETS["paper"], boxes=boxes)))
    assert found["preset"] == "custom, paper but for boxes.outside_weight 0.25"


@pytest.mark.parametrize(
    "said",
    [{}, {"arguments": 3, "environment": [], "converted_from": "x"}, {"environment": {"packages": "torch"}}],
)
def test_a_checkpoint_that_says_little_is_described_all_the_same(said, tmp_path):
    path = save_ours(tmp_path / "a.safetensors", provenance={"dataset": "nuts", "meta_sha256": "", **said})
    found = rows(path)
    assert found["trained on"] == "nuts" and not found.keys() & {"run", "code", "hardware", "converted from"}


def test_a_converted_checkpoint_says_from_what(published_path, tmp_path):
    convert(published_path, tmp_path / "ours.safetensors", TAPS)
    found = rows(tmp_path / "ours.safetensors")
    assert found["converted from"] == f"filo_train_on_visa.pth, sha256 {sha256_of(published_path)}"
    assert "published program" in found["origin"]
    assert found["CLIP"] == "a model not said, at 56 pixels, from ours_clip.safetensors"
    assert found["next"].endswith("--clip_model MODEL")
    clip = rows(tmp_path / "ours_clip.safetensors")
    assert clip["fingerprint"] == found["its fingerprint"]


@pytest.mark.parametrize("form", MARKS)
def test_a_detector(form, tmp_path):
    weights = {f"module.{name}": torch.ones(2) for name in MARKS[form]} | {"backbone.x": torch.ones(3).half()}
    torch.save({"model": weights}, tmp_path / "grounding.pth")
    found = rows(tmp_path / "grounding.pth")
    assert found["what"].startswith("Grounding DINO, a detector, in ")
    assert found["backbone"] == "1 tensors 3 parameters float16"
    assert found["next"].endswith(f"--ckpt_path CHECKPOINT --grounded_checkpoint {tmp_path}/grounding.pth")
    tuned = (tmp_path / "grounding.pth").rename(tmp_path / "grounding_train_on_mvtec.pth")
    assert "--dataset visa" in rows(tuned)["next"]


@pytest.mark.parametrize("prefix", ["", "text."])
def test_a_clip(prefix, tmp_path):
    text = ("transformer.", "token_", "positional_", "ln_final.", "text_projection")
    weights = {(prefix + n if n.startswith(text) else n): t for n, t in draw_clip(TINY).items()}
    save_file(weights, tmp_path / "clip.safetensors")
    found = rows(tmp_path / "clip.safetensors")
    assert found["what"] == "CLIP weights" and found["CLIP's text tower"].startswith("29 tensors")
    assert found["sizes"] == "4 layers of width 32, patches of 14, 4 x 4 positions; text 2 of 24; joint 24"
    assert f"--clip_pretrained {tmp_path / 'clip.safetensors'} --clip_model MODEL" in found["next"]


def test_a_clip_of_another_kind_is_of_no_use(tmp_path):
    save_file(
        {"visual.conv1.weight": torch.ones(1), "logit_scale": torch.ones(())}, tmp_path / "a.safetensors"
    )
    found = rows(tmp_path / "a.safetensors")
    assert "no plain ViT" in found["of no use"] and "next" not in found


@pytest.mark.parametrize("weights", [{"fc.weight": torch.ones(2), "fc.bias": torch.ones(1)}, {}])
def test_unknown_weights(weights, tmp_path):
    torch.save(weights, tmp_path / "a.pt")
    text, is_known = describe(tmp_path / "a.pt")
    found = by_label(text)
    assert not is_known and found["what"].startswith("unknown")
    assert found["first names"] == ("fc.bias, fc.weight" if weights else "none, it is empty")


def test_many_names_are_summed_up_and_odd_ones_do_no_harm(tmp_path):
    weights = {f"part{i}.weight": torch.ones(i + 1) for i in range(40)} | {"\x1b[2J\n" * 20: torch.ones(1)}
    torch.save(weights, tmp_path / "a.pt")
    text, _ = describe(tmp_path / "a.pt")
    assert len(text.splitlines()) == 18 and "\x1b" not in text
    others = sum(range(13, 41)) + 1
    assert by_label(text)["others"] == f"29 tensors {others} parameters float32"


def test_what_cannot_be_read_is_one_line(published_path, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors", {"format": "filo-checkpoint-1"})
    for path, wanted in (
        (tmp_path / "none.pth", "no such weights file"),
        (tmp_path, "a folder"),
        (tmp_path / "b.safetensors", "damaged header"),
        (published_path, "begins behind layer 1"),
    ):
        with pytest.raises(InputError) as caught:
            describe(path)
        assert wanted in str(caught.value) and str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
