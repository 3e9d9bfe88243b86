"""Files of the published form: their names, their numbers, and what is refused in them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import open_clip
import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file
from test_golden import CASES, META, TEMPLATES, TEXTS, close, picture

from filo.checkpoint import load_checkpoint
from filo.convert import convert
from filo.errors import InputError
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS, FiLoConfig
from filo.mmci import SHAPES
from filo.prompts import PromptBook, find_prompt_file
from filo.published import CLIP, TWIN, clip_part, join, list_names, list_unused, trained_part
from filo.trained_clip import load_trained_clip
from filo.weights import read_tensors
from tests.published_files import KERNELS, published_state, trained_shapes

BLOCK = "clip_model.visual.transformer.resblocks"


@pytest.fixture(scope="module")
def whole():
    """The state dict of a published program of 24 narrow layers, for 140 x 140 images."""
    return published_state(META["clip"], 140)


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / "clip.json").write_text(json.dumps(META["clip"]))
    return str(tmp_path / "clip.json")


@pytest.fixture
def save(tmp_path):
    def save(state, name="filo_train_on_visa.pth"):
        torch.save({"filo": state}, tmp_path / name)
        return tmp_path / name

    return save


def build(path, model, features_list=None):
    """Load a checkpoint and its CLIP as a command does, with the texts of the golden numbers."""
    checkpoint = load_checkpoint(path, features_list)
    filo = FiLoModel(load_trained_clip(path, checkpoint, model), checkpoint.config, TEXTS)
    filo.load_trained_state(checkpoint.state)
    return filo.eval()


def assert_same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


# ---- names


def test_every_trained_tensor_has_its_published_name(tiny_clip):
    config = FiLoConfig(features_list=(1, 2, 3, 4))
    names, state = list_names(config), FiLoModel(tiny_clip, config, {}).trained_state()
    assert names.keys() == state.keys()
    assert {names[name]: tuple(t.shape) for name, t in state.items()} == trained_shapes(TINY)


def test_kernels_are_named_by_height_and_width():
    names = list_names(FiLoConfig(features_list=(2, 5), mmci_shapes=((3, 1), (1, 9))))
    assert names["mmci_heads.0.branches.0.bias"] == "decoder_cov.fc_31.0.bias"
    assert names["mmci_heads.0.branches.1.weight"] == "decoder_cov.fc_19.0.weight"
    assert not [name for name in names if name.startswith(("mmci_heads.1.", "linear_heads.2."))]


# ---- what is read


@pytest.mark.parametrize("tag", [tag for tag, case in CASES.items() if case["image_size"] < 518])
def test_a_file_gives_the_numbers_of_the_published_program(tag, save, config_file):
    case = CASES[tag]
    model = build(save(published_state(META["clip"], case["image_size"], case["n_ctx"])), config_file)
    positions = [TEMPLATES["positions"].index(position) for position in case["positions"] or []]
    image = picture(case["seed"], case["image_size"])
    prediction = model.predict(image, [case["class"]], [positions])
    close(prediction.scores[0], f"{tag}.score")
    close(prediction.maps[:, ::7, ::7], f"{tag}.final_stride7")


def test_the_config_is_official_with_the_sizes_of_the_file(whole):
    config, _ = trained_part(whole)
    assert config == PRESETS["official"]
    other = published_state(META["clip"], 140, n_ctx=5, first_tap=3, taps=2)
    config, trained = trained_part(other, (3, 9))
    assert (config.features_list, config.n_ctx, config.mmci_shapes) == ((3, 9), 5, SHAPES)
    assert trained.keys() == list_names(config).keys()


def test_other_kernels_than_the_published_are_taken_as_the_file_names_them(whole):
    lost = tuple(f"decoder_cov.fc_{name}." for name in KERNELS if name not in ("51", "33"))
    config, trained = trained_part({name: t for name, t in whole.items() if not name.startswith(lost)})
    assert config.mmci_shapes == ((3, 3), (5, 1))
    assert torch.equal(trained["mmci_heads.2.branches.1.weight"], whole["decoder_cov.fc_51.2.weight"])


def test_clip_comes_out_under_the_names_of_open_clip(whole):
    clip = clip_part(whole)
    with torch.device("meta"):
        wanted = open_clip.CLIP(**META["clip"]).state_dict()
    assert clip.keys() == wanted.keys()
    assert clip["visual.positional_embedding"].shape == (101, 64)
    for ours, theirs in (("in_proj_weight", "qkv.weight"), ("out_proj.bias", "proj.bias")):
        found = clip[f"visual.transformer.resblocks.6.attn.{ours}"]
        assert found is not None and torch.equal(found, whole[f"{BLOCK}.6.attn.{theirs}"])


@pytest.mark.parametrize("form", ["module.", "bare", "parameters", "masks", "no twins", "safetensors"])
def test_harmless_variants_are_read_alike(form, whole, save, tmp_path):
    state, path = dict(whole), tmp_path / "filo_train_on_visa.pth"
    if form == "module.":
        save({f"module.{name}": t for name, t in whole.items()})
    elif form == "bare":
        torch.save(whole, path)
    elif form == "parameters":
        save({name: torch.nn.Parameter(t) for name, t in whole.items()})
    elif form == "masks":
        save(
            state | {f"{owner}attn_mask": torch.full((77, 77), -torch.inf).triu(1) for owner in (CLIP, TWIN)}
        )
        assert list_unused(read_tensors(path)) == ["clip_model.attn_mask", "text_encoder.attn_mask"]
    elif form == "no twins":
        save({name: t for name, t in whole.items() if not name.startswith(TWIN)})
    else:
        path = tmp_path / "filo_train_on_visa.safetensors"
        save_file({name: t.clone() for name, t in whole.items()}, path, {"format": "pt"})
    loaded = load_checkpoint(path)
    names = list_names(loaded.config)
    assert_same_bits(loaded.state, {ours: whole[theirs] for ours, theirs in names.items()})
    assert not any(t.requires_grad for t in loaded.state.values())
    assert_same_bits(clip_part(read_tensors(path)), clip_part(whole))


def test_what_was_loaded_does_not_hang_on_the_file(whole, save):
    path = save(whole)
    state = load_checkpoint(path).state
    with path.open("r+b") as file:  # in place, as a mapped file would see it
        file.write(bytes(path.stat().st_size))
    assert torch.equal(state["adapter.down.weight"], whole["adapter.fc.0.weight"])


# ---- what is refused


def renamed(state, old, new):
    return {name.replace(old, new): t for name, t in state.items()}


def changed(state, name, value):
    return {**state, name: value(state[name])}


BAD_FILES = {
    "an unknown trained tensor": (
        lambda s: s | {"decoder_linear.gate": torch.ones(1)},
        "decoder_linear.gate is no tensor of the published program",
    ),
    "an unknown tensor elsewhere": (lambda s: s | {"epoch_count": torch.ones(1)}, "epoch_count is no tensor"),
    "an unknown tensor of CLIP": (
        lambda s: s | {"clip_model.visual.extra": torch.ones(1)},
        "visual.extra (wanted none, found (1,))",
    ),
    "an unknown second copy": (
        lambda s: s | {"text_encoder.visual.proj": s["clip_model.visual.proj"]},
        "text_encoder.visual.proj is no tensor",
    ),
    "a lost adapter": (
        lambda s: {n: t for n, t in s.items() if n != "adapter.fc.2.weight"},
        "adapter.fc.2.weight is missing",
    ),
    "a lost head": (
        lambda s: {n: t for n, t in s.items() if n != "decoder_cov.fc_15.1.bias"},
        "decoder_cov.fc_15.1.bias is missing",
    ),
    "no CLIP": (
        lambda s: {n: t for n, t in s.items() if not n.startswith(CLIP)},
        "visual.conv1.weight has 4 dimensions, found none",
    ),
    "a lost block of CLIP": (
        lambda s: {n: t for n, t in s.items() if not n.startswith(f"{BLOCK}.9.ln_1")},
        "visual.transformer.resblocks.9.ln_1.bias (wanted (64,), found none)",
    ),
    "CLIP of another shape": (
        lambda s: changed(s, f"{BLOCK}.3.mlp.c_fc.bias", lambda t: t[:-1]),
        "visual.transformer.resblocks.3.mlp.c_fc.bias (wanted (256,), found (255,))",
    ),
    "positions that are no square": (
        lambda s: changed(s, "clip_model.visual.positional_embedding", lambda t: t[:-1]),
        "100 position embeddings are not",
    ),
    "an empty table": (
        lambda s: changed(s, "clip_model.visual.positional_embedding", lambda t: t[:0]),
        "visual.positional_embedding has 2 dimensions, found (0, 64)",
    ),
    "another second copy": (
        lambda s: changed(s, "text_encoder.ln_final.bias", lambda t: t + 1e-3),
        "text_encoder.ln_final.bias differs from clip_model.ln_final.bias",
    ),
    "attention under both names": (
        lambda s: s | {f"{BLOCK}.8.attn.in_proj_bias": s[f"{BLOCK}.8.attn.qkv.bias"]},
        "is there twice",
    ),
    "a V-V path from elsewhere": (
        lambda s: renamed(s, f"{BLOCK}.6.attn.qkv.", f"{BLOCK}.6.attn.in_proj_"),
        "V-V path begins behind layer 7",
    ),
    "a V-V path with a hole": (
        lambda s: renamed(s, f"{BLOCK}.9.attn.qkv.", f"{BLOCK}.9.attn.in_proj_"),
        "V-V path begins behind layer 6",
    ),
    "five heads": (
        lambda s: s | {f"decoder_linear.fc.4.{k}": s[f"decoder_linear.fc.0.{k}"] for k in ("weight", "bias")},
        "5 linear heads and does not say which layers they tap: name them by --features_list",
    ),
    "no list of vectors": (
        lambda s: changed(s, "normal_prompt_learner.ctx", lambda t: t[0]),
        "normal_prompt_learner.ctx is missing or not a list",
    ),
    "no vectors": (lambda s: changed(s, "normal_prompt_learner.ctx", lambda t: t[:0]), "n_ctx 0"),
    "no kernels": (
        lambda s: {n: t for n, t in s.items() if not n.startswith("decoder_cov")},
        "MMCI heads, decoder_cov.fc_*, are missing",
    ),
    "an even kernel": (
        lambda s: s | {"decoder_cov.fc_22.0.weight": torch.ones(1)},
        "mmci_shapes",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_not_quite_the_published_form_is_one_line(kind, whole, save):
    make, wanted = BAD_FILES[kind]
    path = save(make(whole))
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert wanted in message and str(path) in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((6, 12, 18), "has 4 linear heads"),
        ((5, 12, 18, 24), "begins behind layer 6"),
        ((6,) * 5, "has 4 linear"),
    ],
)
def test_taps_that_contradict_the_file_are_refused(given, wanted, whole, save):
    with pytest.raises(InputError, match=wanted):
        load_checkpoint(save(whole), given)


# ---- what is put together


def test_joining_undoes_splitting(whole):
    config, trained = trained_part(whole)
    assert_same_bits(join(config, trained, clip_part(whole)), whole)


def test_the_second_copy_costs_nothing_on_disk(whole, save):
    config, trained = trained_part(whole)
    state = join(config, trained, clip_part(whole))
    path = save(state)
    once = sum(t.numel() * 4 for name, t in state.items() if not name.startswith(TWIN))
    twice = sum(t.numel() * 4 for name, t in state.items() if name.startswith(TWIN))
    overhead = 400 * len(state)  # names, paddings and checksums
    assert once < path.stat().st_size < once + overhead < once + twice


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (PRESETS["paper"], "adapter_bias"),
        (FiLoConfig(joint_norm=False), "no place for joint_norm"),
        (FiLoConfig(mmci_shapes=((1, 11),)), "two digits"),
        (FiLoConfig(mmci_shapes=()), "two digits"),
    ],
)
def test_a_config_without_place_in_the_published_form_is_refused(config, wanted, whole):
    _, trained = trained_part(whole)
    with pytest.raises(InputError, match=wanted):
        join(config, trained, clip_part(whole))


def test_a_trained_part_with_a_hole_is_refused(whole):
    config, trained = trained_part(whole)
    del trained["adapter.up.weight"]
    with pytest.raises(InputError, match=r"adapter\.up\.weight is missing"):
        join(config, trained, clip_part(whole))


# ---- the published size


@pytest.mark.slow
def test_a_file_of_the_published_size_loads_predicts_and_converts_without_loss(tmp_path):
    """ViT-L-14-336 at 518 pixels: 2.6 GB there, 0.9 + 1.7 GB as ours, 2.6 GB back, bit for bit."""
    with TemporaryDirectory(dir=tmp_path) as folder:  # pytest keeps its folders; these files are too large
        check_full_size(Path(folder))


def check_full_size(folder):
    path, ours, back = (folder / n for n in ("filo_train_on_visa.pth", "ours.safetensors", "back.pth"))
    torch.save({"filo": published_state(open_clip.get_model_config("ViT-L-14-336"), 518)}, path)
    texts = PromptBook([find_prompt_file("mvtec")]).texts(["bottle"], "official", True)
    image, predictions = torch.randn(1, 3, 518, 518), []
    for file in (path, ours):
        if file == ours:
            convert(path, ours)
        checkpoint = load_checkpoint(file)
        assert (checkpoint.clip["model"], checkpoint.clip["image_size"]) == ("ViT-L-14-336", 518)
        model = FiLoModel(load_trained_clip(file, checkpoint), checkpoint.config, texts)
        model.load_trained_state(checkpoint.state)
        predictions.append(model.predict(image, ["bottle"])[:2])
        del model, checkpoint
    assert all(torch.equal(a, b) for a, b in zip(*predictions, strict=True))
    scores, maps = predictions[0]
    assert maps.shape == (1, 518, 518) and scores.isfinite().all()
    convert(ours, back)
    before, after = (torch.load(file, weights_only=True, mmap=True) for file in (path, back))
    assert list(after) == ["filo"]
    assert_same_bits(after["filo"], before["filo"])
    size = sum(t.numel() * 4 for name, t in before["filo"].items() if not name.startswith(TWIN))
    assert size < back.stat().st_size < size + 1e6
