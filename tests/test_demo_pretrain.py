"""Pretraining as a command: the same weights each time, taken up where it broke off, read by the loader."""

import json
import subprocess
import sys

import pytest
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import load_file
from torch.nn import functional as F

from filo.clip.build import read_config
from filo.clip.load import load_clip
from filo.clip.tokens import NUMBERS, OTHER
from filo.demo import pretrain
from filo.demo.captions import Captions, Tokens
from filo.demo.schedule import Phase, phase_at, plan, rate_at, scale_at
from filo.demo.towers import build, encode_images, encode_texts
from filo.demo.views import Scale
from filo.methods.filo import MAP_SCALE
from tests.commands import ROOT, flags

SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module")
def run_flags(config):
    sizes = {
        "scenes": 6,
        "side": 64,
        "batch_scenes": 3,
        "small_steps": 3,
        "large_steps": 1,
    }
    return {"clip_model": config, **sizes, "precision": "fp32", "device": "cpu", "workers": 1}


def run(monkeypatch, **values):
    monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, flags(**values))])
    pretrain.main()


@pytest.fixture(scope="module")
def pretrained(run_flags, tmp_path_factory):
    """A finished run, started as a user starts it."""
    folder = tmp_path_factory.mktemp("pretrain")
    command = [sys.executable, "-m", "filo.demo.pretrain"]
    command += flags(**run_flags, work=folder / "work", out=folder / "clip.safetensors")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "after 4 steps" in done.stdout
    return folder


def test_a_run_writes_weights_that_the_loader_reads_and_a_log(pretrained, config):
    clip = load_clip(str(config), str(pretrained / "clip.safetensors"), 64)
    assert clip.embed_dim == 24 and clip.layers == 2
    logged = [json.loads(line) for line in (pretrained / "work/log.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 4 and set(pretrain.WEIGHTS) <= logged[-1].keys()


def test_a_run_that_broke_off_ends_with_the_weights_of_one_that_did_not(
    pretrained, run_flags, tmp_path, monkeypatch
):
    steps = iter(range(2))
    real = pretrain.train_step

    def breaks_off(*args):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real(*args)

    paths = {"work": tmp_path / "work", "out": tmp_path / "clip.safetensors"}
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 0)
    monkeypatch.setattr(pretrain, "train_step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, **run_flags, **paths)
    monkeypatch.setattr(pretrain, "train_step", real)
    run(monkeypatch, **run_flags, **paths)
    wanted, found = (load_file(folder / "clip.safetensors") for folder in (pretrained, tmp_path))
    assert wanted.keys() == found.keys()
    assert all(torch.allclose(wanted[name].float(), found[name].float(), atol=2e-3) for name in wanted)


def test_a_state_of_other_settings_is_refused(pretrained, run_flags, monkeypatch, tmp_path):
    values = run_flags | {
        "learning_rate": 0.1,
        "work": pretrained / "work",
        "out": tmp_path / "x.safetensors",
    }
    with pytest.raises(pretrain.InputError, match="other settings"):
        run(monkeypatch, **values)


def test_the_towers_give_what_the_loaded_model_gives(pretrained, config):
    clip = load_clip(str(config), str(pretrained / "clip.safetensors"), 64)
    tokens = Tokens(Captions().words(tuple(noun for family in pretrain.FAMILIES for noun in family.nouns)))
    saved = load_file(pretrained / "clip.safetensors")
    assert saved[NUMBERS].tolist() == tokens.numbers
    model = build(read_config(str(config)), 64, len(tokens))
    table = clip.text.token_embedding.weight
    state = {name: t.float() for name, t in saved.items() if not name.startswith("token_embedding")}
    unknown = saved[OTHER].float()[None]
    model.load_state_dict(state | {"token_embedding.weight": torch.cat([unknown, table[tokens.numbers]])})
    images, texts = torch.randn(2, 3, 64, 64), ["flawless disc.", "abnormal walrus with a crack at top."]
    with torch.no_grad():
        feature, patches = encode_images(model.visual, images)
        features = clip.vision(images, [2])
        tapped = clip.vision.visual.ln_post(features.ordinary[0][:, 1:]) @ clip.vision.visual.proj
        wanted = clip.text(clip.text.grow(texts))[0]
        found = encode_texts(model, tokens.encode(texts))
    assert torch.allclose(feature, features.image, atol=1e-5)
    assert torch.allclose(patches, tapped, atol=1e-5)
    assert F.cosine_similarity(found, wanted).min() > 0.9999


def test_phases_follow_one_another_and_the_rate_rises_and_falls():
    phases = [Phase(Scale(0.3, 0.5, 40), 4, 3), Phase(Scale(0.7, 1.0, 112), 2, 2)]
    assert [phase_at(phases, step) is phases[1] for step in range(5)] == [False] * 3 + [True] * 2
    rates = [rate_at(step, 1000) for step in range(1000)]
    assert rates[0] < rates[30] < rates[59] and rates[60:] == sorted(rates[60:], reverse=True)
    assert 0 < rates[-1] < 0.03


def test_the_scale_of_cosines_ends_where_that_of_the_maps_is():
    assert scale_at(0, 1000) == pytest.approx(14.3)
    assert scale_at(999, 1000) == pytest.approx(100) == MAP_SCALE


def test_windows_are_whole_patches():
    small, large = plan(144, 8, 24, 10, 5)
    assert (small.scale.side, large.scale.side) == (56, 112) and (small.scenes, large.scenes) == (24, 12)


def test_a_scenes_two_pictures_are_contrasted_with_their_own_captions_alone():
    features = F.normalize(torch.randn(6, 8), dim=-1)
    texts = F.normalize(torch.randn(6, 8), dim=-1)
    each = [ClipLoss()(features[i : i + 2], texts[i : i + 2], 20.0) for i in (0, 2, 4)]
    assert pretrain.contrast_pairs(features, texts, 20.0).item() == pytest.approx(
        sum(each).item() / 3, rel=1e-5
    )


def test_patches_are_contrasted_with_damage_where_there_is_some_and_with_none_elsewhere():
    texts = torch.eye(4)[:4]  # flawless, damaged; damaged in one way, in another
    covers = torch.tensor([[0, 0, 0], [0, 0.5, 0], [1, 0, 0], [0, 0, 1]]).float()
    right = texts[torch.tensor([[0, 0, 0], [0, 1, 0], [2, 2, 3], [2, 2, 3]])]
    assert pretrain.contrast_patches(right, texts, covers, 20.0) < 1e-6
    wrong = right.clone()
    wrong[2, 1] = texts[3]  # not damaged, in a scene whose pictures both are: nothing is said of it
    assert pretrain.contrast_patches(wrong, texts, covers, 20.0) < 1e-6
    for picture, patch, text in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (3, 2, 2)):
        wrong = right.clone()
        wrong[picture, patch] = texts[text]
        assert pretrain.contrast_patches(wrong, texts, covers, 20.0) > 1


def test_states_are_contrasted_with_the_mean_caption_of_damage_and_of_none():
    texts = F.normalize(torch.tensor([[1.0, 0.2, 0], [0, 1, 0.3], [1, -0.2, 0], [0, 1, -0.3]]), dim=-1)
    covers = torch.tensor([[0.0, 0], [0, 0.5], [0, 0], [1, 0]])
    features = torch.eye(3)[torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0]])]
    found = pretrain.contrast_states(features, texts, covers, covers, 10.0)
    assert found.item() == pytest.approx(F.softplus(torch.tensor(-10.0)).item())  # the means are unit vectors
    turned = pretrain.contrast_states(1 - features, texts, covers, covers, 10.0)
    assert turned.item() == pytest.approx(10, abs=1e-3)
    assert pretrain.contrast_states(features, texts, torch.zeros(4, 2), covers, 10.0).item() == 0


def test_attention_begins_with_looking_for_what_is_alike_and_takes_it_off(config):
    torch.manual_seed(0)
    attention = build(read_config(str(config)), 64, 50).visual.transformer.resblocks[0].attn
    queries, keys, values = attention.in_proj_weight.detach().double().split(32)
    assert (torch.linalg.matrix_norm(queries.T @ keys, 2) < 3) and torch.trace(queries.T @ keys) > 10
    product = attention.out_proj.weight.detach().double() @ values
    off = product + 0.4 * torch.eye(32)
    assert off.mean().abs() < 0.01 and off.std().item() == pytest.approx(0.4 / 32**0.5, rel=0.1)
