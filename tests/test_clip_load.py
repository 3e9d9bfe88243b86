"""From a model name and weights to a frozen CLIP: sizes, fingerprints, positions, and what is refused."""

import copy
import json
import subprocess
import sys

import open_clip
import pytest
import torch
from open_clip.model import resize_pos_embed
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from filo.clip.build import build_model, read_config
from filo.clip.load import load_clip
from filo.clip.positions import resize_positions
from filo.clip.tokens import cut_table
from filo.errors import InputError
from filo.weights import fingerprint

SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 16, "head_width": 8, "patch_size": 7},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def changed(**changes):
    """The small config with fields of its parts replaced, `vision_` and `text_` before their names."""
    config = copy.deepcopy(SMALL)
    for name, value in changes.items():
        part, _, field = name.partition("_")
        if part in ("vision", "text"):
            config[f"{part}_cfg"][field] = value
        else:
            config[name] = value
    return config


@pytest.fixture
def write(tmp_path):
    def write(config, name="clip.json"):
        (tmp_path / name).write_text(json.dumps(config))
        return str(tmp_path / name)

    return write


@pytest.fixture
def small(write):
    return write(SMALL)


@pytest.fixture(scope="module")
def weights():
    """A state dict of the small model with nothing left at zero or one."""
    g = torch.Generator().manual_seed(2)
    shapes = {name: t.shape for name, t in open_clip.CLIP(**SMALL).state_dict().items()}
    return {name: 0.3 * torch.randn(shape, generator=g) for name, shape in shapes.items()}


def message(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        load_clip(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- what comes out


def test_sizes_are_those_of_the_config(small):
    clip = load_clip(small, "drawn:0", 42)
    assert (clip.image_size, clip.patch_size, clip.layers) == (42, 7, 2)
    assert (clip.vision_width, clip.embed_dim, clip.text_width) == (16, 8, 8)
    assert clip.mean == open_clip.OPENAI_DATASET_MEAN and clip.std == open_clip.OPENAI_DATASET_STD


def test_nothing_can_be_trained_or_leave_evaluation_mode(write):
    clip = load_clip(write(changed(vision_patch_dropout=0.5)), "drawn:0", 28)
    nn.Sequential(clip).train()
    clip.train()
    clip.train(True)
    assert not any(module.training for module in clip.modules())
    assert not any(p.requires_grad for p in clip.parameters())


@pytest.mark.parametrize("quick_gelu", [None, False, True])
@pytest.mark.parametrize("activation, kind", [("gelu", nn.GELU), ("quick_gelu", QuickGELU)])
def test_the_activation_is_the_one_asked_for_whatever_the_config_says(activation, kind, quick_gelu, write):
    config = SMALL if quick_gelu is None else changed(quick_gelu=quick_gelu)
    clip = load_clip(write(config), "drawn:0", 28, activation)
    blocks = [*clip.vision.blocks, *clip.text.transformer.resblocks]
    assert [type(block.mlp.gelu) for block in blocks] == [kind] * 3


def test_the_activations_give_different_features(small):
    images = torch.randn(2, 3, 28, 28)
    plain, quick = (load_clip(small, "drawn:0", 28, a) for a in ("gelu", "quick_gelu"))
    assert plain.sha256 == quick.sha256
    assert not torch.allclose(plain.vision(images, (1,)).image, quick.vision(images, (1,)).image, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_every_tensor_arrives_on_the_device_with_its_value(device, small, weights, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    clip = load_clip(small, str(tmp_path / "a.safetensors"), 28, device=device)
    model = open_clip.CLIP(**SMALL)
    model.load_state_dict(weights)
    for ours, theirs in ((clip.vision.visual, model.visual), (clip.text.transformer, model.transformer)):
        found, wanted = ours.state_dict(), theirs.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for name in ("positional_embedding", "text_projection", "ln_final.weight", "token_embedding.weight"):
        assert torch.equal(clip.text.get_parameter(name), weights[name])


def test_a_separate_text_tower_takes_weights_of_either_naming(write, weights, tmp_path):
    custom = write(changed(custom_text=True))
    text = ("positional_embedding", "text_projection", "token_embedding", "transformer", "ln_final")
    renamed = {f"text.{n}" if n.startswith(text) else n: t for n, t in weights.items()}
    save_file(weights, tmp_path / "flat.safetensors")
    save_file(renamed, tmp_path / "custom.safetensors")
    names = ["a cut", "a long thin cut"]
    features = []
    for config, file in ((write(SMALL, "flat.json"), "flat"), (custom, "flat"), (custom, "custom")):
        tower = load_clip(config, str(tmp_path / f"{file}.safetensors"), 28).text
        features.append(tower(tower.grow(names)))
    assert torch.equal(features[0], features[1]) and torch.equal(features[0], features[2])


def test_a_logit_scale_of_one_element_fits_a_scalar(small, weights, tmp_path):
    for shape in ((), (1,)):
        save_file(weights | {"logit_scale": torch.full(shape, 4.6)}, tmp_path / "a.safetensors")
        load_clip(small, str(tmp_path / "a.safetensors"), 28)
    save_file(weights | {"logit_scale": torch.ones(2)}, tmp_path / "a.safetensors")
    assert "logit_scale (wanted (), found (2,))" in message(small, str(tmp_path / "a.safetensors"), 28)


# ---- seeds and fingerprints


def test_the_same_seed_draws_the_same_weights_and_another_seed_others(small):
    first, again, other = (load_clip(small, f"drawn:{seed}", 28) for seed in (5, 5, 6))
    assert first.sha256 == again.sha256 != other.sha256
    states = [clip.state_dict() for clip in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    name = "vision.visual.conv1.weight"
    assert not torch.equal(states[0][name], states[2][name])


def test_drawn_weights_are_the_same_at_every_image_size(small):
    assert load_clip(small, "drawn:5", 28).sha256 == load_clip(small, "drawn:5", 56).sha256


def test_loading_leaves_the_global_generator_alone(small, weights, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    for source in ("drawn:0", str(tmp_path / "a.safetensors")):
        before = torch.get_rng_state()
        load_clip(small, source, 42)
        assert torch.equal(torch.get_rng_state(), before), source


def test_the_fingerprint_goes_by_values_and_not_by_the_file(small, weights, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pt")
    torch.save({"state_dict": {f"module.{n}": t for n, t in weights.items()}}, tmp_path / "b.pt")
    save_file({n: t.double() for n, t in weights.items()}, tmp_path / "c.safetensors")
    touched = {n: t.clone() for n, t in weights.items()}
    touched["text_projection"][3, 2] += 1e-6
    save_file(touched, tmp_path / "d.safetensors")
    files = ["a.safetensors", "a.pt", "b.pt", "c.safetensors", "d.safetensors"]
    found = [load_clip(small, str(tmp_path / name), 28).sha256 for name in files]
    assert found[0] == found[1] == found[2] == found[3] != found[4]
    assert load_clip(small, str(tmp_path / "a.pt"), 42).sha256 == found[0]
    assert len(found[0]) == 64 and int(found[0], 16)


def test_the_fingerprint_sees_names_and_does_not_see_order_or_strides():
    a, b = torch.arange(6.0).view(2, 3), torch.tensor(2.0)
    whole = fingerprint({"a": a, "b": b})
    assert whole == fingerprint({"b": b, "a": a}) == fingerprint({"a": a.T.contiguous().T, "b": b.half()})
    assert whole != fingerprint({"a": a, "c": b})
    assert whole != fingerprint({"a": a.flip(0), "b": b})


def test_fp32_is_that_of_convolutions_too_and_other_formats_leave_them_alone(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    clip = load_clip(str(tiny_config), "drawn:0", 56)
    for precision, rounds in (("bf16", True), ("fp32", False), ("fp16", False)):
        clip.set_precision(precision)
        assert (
            torch.backends.cudnn.allow_tf32 == rounds and clip.vision.dtype == clip.text.dtype == clip.dtype
        )


def test_weights_at_hand_are_taken_without_a_look_at_files(small, weights, tmp_path, monkeypatch):
    save_file(weights, tmp_path / "a.safetensors")
    wanted = load_clip(small, str(tmp_path / "a.safetensors"), 42)
    monkeypatch.setattr("filo.clip.load.find_weights", lambda *args: pytest.fail("it was looked for"))
    before = {name: t.clone() for name, t in weights.items()}
    given = dict(weights)
    found = load_clip(small, "checkpoint", 42, weights=given)
    assert found.sha256 == wanted.sha256 and (found.mean, found.std) == (wanted.mean, wanted.std)
    assert all(torch.equal(t, found.state_dict()[name]) for name, t in wanted.state_dict().items())
    assert not given  # so that they are not in memory twice
    assert all(torch.equal(t, before[n]) for n, t in weights.items())
    part = {name: t for name, t in weights.items() if name != "text_projection"}
    assert "weights checkpoint do not fit" in message(small, "checkpoint", 42, weights=part)


# ---- positions


def test_a_table_of_the_right_size_is_left_as_it_is():
    table = torch.randn(17, 3)
    assert resize_positions(table, 4) is table


def test_a_constant_table_stays_constant_and_the_class_row_is_kept():
    """Bicubic weights sum to one, so resizing a constant gives the constant."""
    table = torch.cat([torch.tensor([[9.0, -9.0]]), torch.tensor([[0.5, 2.0]]).expand(9, 2)])
    for grid in (1, 2, 4, 7):
        found = resize_positions(table, grid)
        assert found.shape == (1 + grid * grid, 2)
        assert torch.equal(found[0], table[0])
        torch.testing.assert_close(found[1:], table[1:2].expand(grid * grid, 2))


def test_a_grid_of_four_halved_by_hand():
    """Halving reads between two cells: cubic weights -3/32, 19/32, 19/32, -3/32 for the coefficient -0.75.

    The first reading stands between cells 0 and 1 and its outer tap lies on the border, which repeats.
    """
    w = torch.tensor([[-3 / 32 + 19 / 32, 19 / 32, -3 / 32, 0], [0, -3 / 32, 19 / 32, 19 / 32 - 3 / 32]])
    grid = torch.randn(4, 4)
    found = resize_positions(torch.cat([torch.zeros(1, 1), grid.view(16, 1)]), 2)
    torch.testing.assert_close(found[1:].view(2, 2), w @ grid @ w.T)


@pytest.mark.parametrize("old, new", [(4, 6), (4, 8), (6, 3), (24, 37), (3, 1)])
def test_resizing_is_bicubic_without_antialias_and_unlike_open_clip(old, new):
    table = torch.randn(1 + old * old, 5)
    found = resize_positions(table, new)
    image = table[1:].T.reshape(1, 5, old, old)
    wanted = F.interpolate(image, (new, new), mode="bicubic", align_corners=False, antialias=False)
    torch.testing.assert_close(found[1:], wanted[0].flatten(1).T)

    tower = nn.Module()
    tower.visual = nn.Module()
    tower.visual.grid_size = (new, new)
    state = {"visual.positional_embedding": table.clone()}
    resize_pos_embed(state, tower)
    theirs = state["visual.positional_embedding"]
    assert torch.equal(theirs[0], found[0]) and (theirs - found).abs().max() > 1e-3


def test_a_loaded_model_has_the_resized_table(small, weights, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    clip = load_clip(small, str(tmp_path / "a.safetensors"), 42)
    table = clip.vision.visual.positional_embedding
    assert torch.equal(table, resize_positions(weights["visual.positional_embedding"], 6))


@pytest.mark.parametrize("rows", [0, 1, 16, 18])
def test_a_table_that_is_no_class_token_and_square_is_refused(rows):
    with pytest.raises(InputError, match=f"{rows} position embeddings"):
        resize_positions(torch.zeros(rows, 3), 2)


# ---- which models


def test_a_model_of_open_clip_at_another_size_equals_open_clip():
    """ViT-S-32-alt at 64 instead of 224 pixels: both towers, with the config and names open_clip has."""
    clip = load_clip("ViT-S-32-alt", "drawn:1", 64)
    config = open_clip.get_model_config("ViT-S-32-alt")
    config["vision_cfg"]["image_size"] = 64
    with torch.device("meta"):
        theirs = open_clip.CLIP(**config)
    state = {f"visual.{name}": t for name, t in clip.vision.visual.state_dict().items()}
    state |= clip.text.state_dict() | {"logit_scale": torch.ones(())}
    theirs.load_state_dict(state, assign=True)
    theirs.attn_mask = torch.full((77, 77), -torch.inf).triu(1)
    images, texts = torch.randn(2, 3, 64, 64), ["a cut", "a long cut"]
    torch.testing.assert_close(
        clip.vision(images, (6, 12)).image, theirs.encode_image(images), atol=2e-5, rtol=1e-5
    )
    tokens = open_clip.get_tokenizer("ViT-S-32-alt")(texts)
    torch.testing.assert_close(
        clip.text(clip.text.grow(texts))[0], theirs.encode_text(tokens), atol=2e-5, rtol=1e-5
    )


def supported(name):
    try:
        config = read_config(name)
        config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = 1  # more of the same take longer
        with torch.device("meta"):
            build_model(name, config, config["vision_cfg"]["image_size"], "gelu")
    except InputError as error:
        assert str(error).startswith(f"{name} cannot be used: ") and "\n" not in str(error)
        return False
    return True


def test_every_model_of_open_clip_is_supported_or_refused_in_one_line():
    plain = "ViT-B-16 ViT-B-16-plus-240 ViT-B-32 ViT-L-14 ViT-L-14-336 ViT-L-14-336-quickgelu ViT-H-14"
    found = {name for name in open_clip.list_models() if supported(name)}
    assert found >= {*plain.split(), "ViT-g-14", "ViT-bigG-14", "ViT-S-32-alt", "ViT-M-16", "ViT-L-16-320"}
    assert all(name.startswith("ViT-") and "SigLIP" not in name for name in found)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("RN50", "a ResNet"),
        ("coca_ViT-B-32", "a CoCa"),
        ("ViT-B-16-SigLIP", "of timm"),
        ("xlm-roberta-base-ViT-B-32", "of transformers"),
        ("ViT-H-14-worldwide", "tokenizer is facebook/xlm-v-base"),
        ("ViT-L-14-CLIPA", "tokenizer is bert-base-uncased"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(name, reason, monkeypatch):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: pytest.fail("it was fetched"))
    tags = open_clip.list_pretrained_tags_by_model(name)
    for source in (*tags[:1], "drawn:0"):
        text = message(name, source, 224)
        assert name in text and reason in text and "ViT-L-14-336" in text


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"vision_qk_norm": True}, "its attention is Attention"),
        ({"text_block_type": "custom"}, "its attention is Attention"),
        ({"vision_pool_type": "none"}, "its image feature is not one vector"),
        ({"vision_attentional_pool": "parallel", "vision_attn_pooler_heads": 2}, "is not one vector"),
        ({"custom_text": True, "text_no_causal_mask": True}, "not causal"),
        ({"text_no_causal_mask": True}, "not causal"),
        ({"custom_text": True, "text_embed_cls": True}, "a class token"),
        ({"text_embed_cls": True}, "other positions than tokens"),
        ({"text_pool_type": "last"}, "not read at the end token"),
        ({"custom_text": True, "text_pool_type": "first"}, "not read at the end token"),
        ({"text_pool_type": "eos"}, "not read at the end token"),  # its number defaults to 2
        ({"text_vocab_size": 1000}, "its vocabulary of 1000"),
        ({"text_hf_tokenizer_name": "some/name"}, "its tokenizer is some/name"),
        ({"text_tokenizer_kwargs": {"reduction_mask": "syntax"}}, "its tokenizer is a changed one"),
        ({"vision_patch_size": [7, 14]}, "[7, 14] is not one number"),
        ({"vision_layers": [1, 1, 1, 1]}, "a ResNet"),
        ({"vision_timm_model_name": "x"}, "of timm"),
        ({"text_hf_model_name": "x"}, "of transformers"),
        ({"multimodal_cfg": {}}, "a CoCa"),
    ],
)
def test_a_config_the_towers_cannot_walk_is_refused(changes, reason, write):
    path = write(changed(**changes))
    text = message(path, "drawn:0", 28)
    assert path in text and reason in text


@pytest.mark.parametrize(
    "changes",
    [
        {"vision_unknown": 3},
        {"vision_pool_type": "best"},
        {"vision_pos_embed_type": "best"},
        {"vision_head_width": 0},
        {"vision_head_width": 5},
        {"text_heads": 3},
        {"text_width": -1},
        {"embed_dim": "wide"},
    ],
)
def test_a_config_that_open_clip_cannot_build_is_refused(changes, write):
    path = write(changed(**changes))
    text = message(path, "drawn:0", 28)
    assert path in text and "open_clip can build" in text


# ---- wrong input


@pytest.mark.parametrize("size, near", [(518, 518), (520, 518), (13, 14), (1, 14), (-5, 14), (527, 532)])
def test_an_image_size_that_is_no_multiple_of_the_patch_is_refused(size, near, write):
    path = write(changed(vision_patch_size=14))
    if size == near:
        assert load_clip(path, "drawn:0", size).vision.visual.grid_size == (37, 37)
        return
    text = message(path, "drawn:0", size)
    assert f"image size {size}" in text and "14-pixel patch" in text and text.endswith(f"try {near}")


def test_another_activation_is_refused(small):
    assert "gelu, quick_gelu" in message(small, "drawn:0", 28, "relu")


@pytest.mark.parametrize("seed", ["x", "", "-1", "1.5", "0x1"])
def test_a_seed_that_is_no_number_is_refused(seed, small):
    assert f"drawn:{seed}" in message(small, f"drawn:{seed}", 28)


@pytest.mark.parametrize("name", ["ViT-L/14@336px", "vit-l-14-336", "ViT-L-14-335"])
def test_an_unknown_model_is_refused_with_names_near_it(name):
    text = message(name, "drawn:0", 28)
    assert repr(name) in text and "ViT-L-14-336" in text


def test_a_name_like_no_other_is_refused():
    assert "open_clip.list_models()" in message("zzzzzz", "drawn:0", 28)


def test_an_unknown_tag_is_refused_with_the_tags_there_are():
    text = message("ViT-B-32", "opanai", 224)
    assert "'opanai'" in text
    assert all(tag in text for tag in open_clip.list_pretrained_tags_by_model("ViT-B-32"))


def test_a_tag_for_a_model_without_tags_is_refused(small):
    assert f"{small} has no tags" in message(small, "openai", 28)


def test_a_missing_weights_file_and_a_folder_are_refused(small, tmp_path):
    assert str(tmp_path / "a.pt") in message(small, str(tmp_path / "a.pt"), 28)
    assert "a folder" in message(small, str(tmp_path), 28)


def test_a_missing_config_is_refused(tmp_path):
    assert str(tmp_path / "none.json") in message(str(tmp_path / "none.json"), "drawn:0", 28)
    (tmp_path / "folder.json").mkdir()
    assert "no such CLIP config file" in message(str(tmp_path / "folder.json"), "drawn:0", 28)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"3",
        b"\xff\xfe",
        b'{"embed_dim": 8}',
        b'{"vision_cfg": 3, "text_cfg": {}}',
        b'{"vision_cfg": {}}',
        b'{"vision_cfg": {}, "text_cfg": [1]}',
    ],
)
def test_a_broken_config_is_refused(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    assert f"{tmp_path / 'a.json'} is no open_clip config" in message(str(tmp_path / "a.json"), "drawn:0", 28)


def test_a_config_without_embed_dim_is_refused(write):
    path = write({name: part for name, part in SMALL.items() if name != "embed_dim"})
    assert "embed_dim" in message(path, "drawn:0", 28)


def test_weights_of_another_model_are_refused_with_the_first_tensor_and_both_shapes(write, weights, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    text = message(write(changed(vision_width=32)), str(tmp_path / "a.safetensors"), 28)
    assert "visual.class_embedding (wanted (32,), found (16,))" in text and "a.safetensors" in text


def test_lost_and_left_over_tensors_are_refused(small, weights, tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({n: t for n, t in weights.items() if n != "text_projection"}, file)
    assert "1 of" in message(small, str(file), 28)
    assert "text_projection (wanted (8, 8), found none)" in message(small, str(file), 28)
    save_file(weights | {"visual.extra": torch.ones(2)}, file)
    assert "visual.extra (wanted none, found (2,))" in message(small, str(file), 28)
    torch.save({}, tmp_path / "empty.pt")
    assert "found none" in message(small, str(tmp_path / "empty.pt"), 28)


@pytest.mark.parametrize(
    "names",
    [
        ("decoder_linear.fc.0.weight", "normal_prompt_learner.ctx"),
        ("linear_heads.0.weight", "normal_prompt.ctx"),
    ],
)
def test_a_file_of_filo_is_sent_to_its_own_flag(names, small, tmp_path):
    torch.save({"filo": dict.fromkeys(names, torch.ones(1))}, tmp_path / "filo.pth")
    text = message(small, str(tmp_path / "filo.pth"), 28)
    assert "filo.pth" in text and "--ckpt_path" in text and "filo.checkpoint convert" in text


def test_positions_that_are_no_square_are_refused(small, weights, tmp_path):
    save_file(weights | {"visual.positional_embedding": torch.ones(16, 16)}, tmp_path / "a.safetensors")
    text = message(small, str(tmp_path / "a.safetensors"), 28)
    assert "16 position embeddings" in text and "a.safetensors" in text


# ---- weights tags


@pytest.mark.parametrize(
    "error", [OSError("no route to host\nand more"), RuntimeError(), ImportError("hub"), ValueError("x\r\ny")]
)
def test_a_download_that_fails_is_one_line_with_the_way_out(error, monkeypatch):
    def fail(tag):
        raise error

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    text = message("ViT-B-32", "openai", 224)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    assert "'openai' of ViT-B-32" in text and reason in text and "--clip_pretrained PATH" in text


def test_a_tag_gives_its_weights_and_its_mean_and_standard_deviation(small, weights, tmp_path, monkeypatch):
    save_file(weights, tmp_path / "a.safetensors")
    tag = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["some_tag"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, wanted: tag)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda found: str(tmp_path / "a.safetensors"))
    clip = load_clip(small, "some_tag", 28)
    assert clip.sha256 == fingerprint(weights)
    assert clip.mean == (0.5, 0.4, 0.3) and clip.std == (0.1, 0.2, 0.3)
    tag.clear()
    assert load_clip(small, "some_tag", 28).mean == open_clip.OPENAI_DATASET_MEAN


def test_the_published_size_has_a_grid_of_37():
    config = read_config("ViT-L-14-336")
    with torch.device("meta"):
        model = build_model("ViT-L-14-336", config, 518, "gelu")
    assert model.visual.positional_embedding.shape == (1 + 37 * 37, 1024)
    assert len(model.visual.transformer.resblocks) == 24


@pytest.fixture
def cut(tmp_path, small):
    """A weights file whose token table is cut to three rows, and the weights it was cut from."""
    weights = {
        k: v.clone() for k, v in build_model(small, read_config(small), 28, "gelu").state_dict().items()
    }
    other = torch.randn(8)
    path = tmp_path / "cut.safetensors"
    table, numbers = weights.pop("token_embedding.weight"), [320, 7, 49407]
    kept = weights | cut_table(table[numbers], numbers, other)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in kept.items()}, path)
    return path, table, other


def test_a_cut_token_table_is_filled_up(small, cut):
    path, table, other = cut
    found = load_clip(small, str(path), 28).text.token_embedding.weight
    assert found.shape == (49408, 8) and found.dtype == torch.float32
    for token in (320, 7, 49407):
        assert torch.equal(found[token], table[token].half().float())
    for token in (0, 8, 321, 49406):
        assert torch.equal(found[token], other.half().float())


@pytest.mark.parametrize(
    "name, tensor",
    [
        ("token_embedding.numbers", None),
        ("token_embedding.other", None),
        ("token_embedding.other", torch.zeros(5)),
        ("token_embedding.numbers", torch.tensor([1, 2, 49408])),
        ("token_embedding.numbers", torch.tensor([1, 2])),
    ],
)
def test_a_cut_token_table_that_does_not_fit_together_is_refused(small, cut, tmp_path, name, tensor):
    weights = load_file(cut[0])
    weights.pop(name)
    save_file(weights | ({} if tensor is None else {name: tensor}), tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="token"):
        load_clip(small, str(tmp_path / "wrong.safetensors"), 28)


def test_transformers_is_not_imported_with_open_clip_and_can_be_afterwards():
    told = "import sys, filo.clip.load; assert 'transformers' not in sys.modules; import transformers"
    subprocess.run([sys.executable, "-c", told], check=True)
