"""Published files become checkpoints of ours and back without loss, or it is said why not."""

import json
import resource

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from test_published import META, TEXTS, assert_same_bits, build

from filo.checkpoint import load_checkpoint, save_checkpoint
from filo.clip.load import load_clip
from filo.clip.positions import resize_positions
from filo.convert import convert
from filo.errors import InputError
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS, FiLoConfig
from filo.published import TWIN, list_names
from filo.weights import fingerprint
from tests.published_files import draw_clip, published_state

TABLE = "clip_model.visual.positional_embedding"


@pytest.fixture(scope="module")
def whole():
    """A published state dict on the tiny CLIP, for 56 x 56 images, tapped at four of its layers."""
    return published_state(TINY, 56, first_tap=1)


TAPS = (1, 2, 3, 4)


@pytest.fixture
def published_path(whole, tmp_path):
    torch.save({"filo": whole}, tmp_path / "filo_train_on_mvtec.pth")
    return tmp_path / "filo_train_on_mvtec.pth"


@pytest.fixture
def ours(tmp_path, tiny_config):
    """A checkpoint as train.py writes it, on a CLIP whose weights lie in a file of another image size."""
    save_file(draw_clip(TINY), tmp_path / "native.safetensors")
    clip = load_clip(str(tiny_config), str(tmp_path / "native.safetensors"), 84)
    config = FiLoConfig(features_list=TAPS, n_ctx=3)
    said = {"model": str(tiny_config), "pretrained": "native.safetensors", "image_size": 84}
    said |= {"sha256": clip.sha256, "mean": list(clip.mean), "std": list(clip.std)}
    provenance = {"dataset": "visa", "meta_sha256": "ab", "arguments": {"seed": 3}}
    path = tmp_path / "filo.safetensors"
    save_checkpoint(path, FiLoModel(clip, config, {}).trained_state(), config, said, provenance)
    return path


def read(path):
    content = torch.load(path, weights_only=True)
    assert list(content) == ["filo"]
    return content["filo"]


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        convert(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- without loss


def test_a_published_file_comes_back_bit_for_bit(whole, published_path, tmp_path):
    lines = convert(published_path, tmp_path / "new" / "ours.safetensors", TAPS)
    assert len(lines) == 2 and "ours_clip.safetensors: 86 tensors, float32" in lines[1]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "ours.safetensors",
        "ours_clip.safetensors",
    ]
    convert(tmp_path / "new" / "ours.safetensors", tmp_path / "back.pth")
    assert_same_bits(read(tmp_path / "back.pth"), whole)
    twins = read(tmp_path / "back.pth")
    for name in twins:
        if name.startswith(TWIN):
            other = twins["clip_model." + name.removeprefix(TWIN)]
            assert twins[name].data_ptr() == other.data_ptr()


def test_both_files_say_where_they_come_from(published_path, tmp_path):
    convert(published_path, tmp_path / "ours.safetensors", TAPS)
    before, after = load_checkpoint(published_path, TAPS), load_checkpoint(tmp_path / "ours.safetensors")
    assert_same_bits(after.state, before.state)
    assert after.config == before.config
    assert after.clip == before.clip | {"pretrained": "ours_clip.safetensors"}
    origin = {"file": "filo_train_on_mvtec.pth", "sha256": before.sha256}
    assert after.provenance == before.provenance | {"converted_from": origin}
    assert after.provenance["dataset"] == "mvtec"


def test_predictions_stay_the_same_through_both_forms(tmp_path):
    config = tmp_path / "clip.json"
    config.write_text(json.dumps(META["clip"]))
    path, ours, back = (tmp_path / name for name in ("a.pth", "elsewhere/b.safetensors", "c.pth"))
    torch.save({"filo": published_state(META["clip"], 140)}, path)
    convert(path, ours, model=str(config))
    convert(ours, back)
    image = torch.randn(1, 3, 140, 140)
    files = ((path, str(config)), (ours, None), (back, str(config)))
    found = [build(file, model).predict(image, list(TEXTS)[:1]) for file, model in files]
    for other in found[1:]:
        assert torch.equal(found[0].scores, other.scores) and torch.equal(found[0].maps, other.maps)


def test_a_checkpoint_of_train_py_comes_back_bit_for_bit(ours, tmp_path):
    """Its CLIP goes into the published file as the model saw it: at the image size of the checkpoint."""
    lines = convert(ours, tmp_path / "filo_train_on_visa.pth")
    assert "left behind" in lines[1]
    state, trained = read(tmp_path / "filo_train_on_visa.pth"), load_checkpoint(ours)
    names = list_names(trained.config)
    assert_same_bits(trained.state, {name: state[theirs] for name, theirs in names.items()})
    native = load_file(tmp_path / "native.safetensors")
    table = resize_positions(native["visual.positional_embedding"], 6)
    assert torch.equal(state[TABLE], table) and table.shape == (37, 32)
    assert torch.equal(state["clip_model.token_embedding.weight"], native["token_embedding.weight"])
    convert(tmp_path / "filo_train_on_visa.pth", tmp_path / "again.safetensors", TAPS)
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert_same_bits(again.state, trained.state)
    assert (again.config, again.clip["image_size"]) == (trained.config, 84)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_kept_and_said(dtype, whole, tmp_path):
    narrow = {name: t.to(dtype) for name, t in whole.items() if not name.startswith(TWIN)}
    narrow |= {
        name: narrow["clip_model." + name.removeprefix(TWIN)] for name in whole if name.startswith(TWIN)
    }
    torch.save({"filo": narrow}, tmp_path / "a.pth")
    lines = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", TAPS)
    assert all(str(dtype).removeprefix("torch.") in line for line in lines)
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    assert_same_bits(read(tmp_path / "c.pth"), narrow)


def test_masks_are_left_out_by_name(whole, tmp_path):
    torch.save({"filo": whole | {"clip_model.attn_mask": torch.ones(77, 77)}}, tmp_path / "a.pth")
    lines = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", TAPS)
    assert lines[2] == "left out, as they are no weights: clip_model.attn_mask"
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    assert_same_bits(read(tmp_path / "c.pth"), whole)


def test_a_tensor_that_is_part_of_a_larger_one_is_written_alone(ours, tmp_path, monkeypatch):
    whole = torch.randn(1000, 1000)
    monkeypatch.setattr("filo.convert.resize_positions", lambda table, grid: whole[:37, :32])
    convert(ours, tmp_path / "a.pth")
    assert torch.equal(read(tmp_path / "a.pth")[TABLE], whole[:37, :32])
    convert(ours, tmp_path / "b.pth", pretrained=str(tmp_path / "native.safetensors"))
    assert (tmp_path / "b.pth").stat().st_size < 6.5e6  # of which 4.7 MB are the tokens


# ---- where the CLIP lies


def test_the_clip_beside_a_checkpoint_is_kept_if_it_is_the_same(published_path, tmp_path):
    target, beside = tmp_path / "ours.safetensors", tmp_path / "ours_clip.safetensors"
    convert(published_path, target, TAPS)
    before = beside.stat().st_mtime_ns
    target.unlink()
    assert "kept as it was" in convert(published_path, target, TAPS)[1]
    assert beside.stat().st_mtime_ns == before
    target.unlink()
    save_file({"a": torch.ones(1)}, beside)
    assert f"{beside} is there already" in refusal(published_path, target, TAPS)
    assert not target.exists()
    convert(published_path, target, TAPS, overwrite=True)
    assert len(load_file(beside)) == 86


def test_the_clip_is_taken_from_where_it_is_said_to_be(ours, tmp_path):
    (tmp_path / "native.safetensors").rename(tmp_path / "moved.safetensors")
    assert "native.safetensors, which is not there: --clip_pretrained" in refusal(ours, tmp_path / "a.pth")
    convert(ours, tmp_path / "a.pth", pretrained=str(tmp_path / "moved.safetensors"))
    assert "was trained on the CLIP" in refusal(ours, tmp_path / "b.pth", pretrained="drawn:3")


def test_a_published_clip_can_be_given_its_name(published_path, tiny_config, tmp_path):
    convert(published_path, tmp_path / "a.safetensors", TAPS, model=str(tiny_config))
    assert load_checkpoint(tmp_path / "a.safetensors").clip["model"] == str(tiny_config)
    assert "has not the sizes of ViT-B-16 but 4 layers of width 32" in refusal(
        published_path, tmp_path / "b.safetensors", TAPS, model="ViT-B-16"
    )
    assert "leave --clip_pretrained out" in refusal(
        published_path, tmp_path / "b.safetensors", TAPS, pretrained="openai"
    )


# ---- what is refused


def test_the_ending_must_be_that_of_the_other_form(ours, published_path, tmp_path):
    assert "ending in .safetensors" in refusal(published_path, tmp_path / "b.pth", TAPS)
    assert "ending in .pth" in refusal(ours, tmp_path / "b.safetensors")


def test_nothing_is_overwritten_unless_asked_for(ours, published_path, tmp_path):
    for source, name, taps in ((ours, "a.pth", None), (published_path, "a.safetensors", TAPS)):
        target = tmp_path / name
        target.write_text("mine")
        assert f"{target} is there already" in refusal(source, target, taps)
        assert target.read_text() == "mine"
        convert(source, target, taps, overwrite=True)
        load_checkpoint(target, TAPS)


def test_what_the_published_form_cannot_hold_stays_as_it_is(ours, tmp_path):
    loaded = load_checkpoint(ours)
    save_checkpoint(ours, loaded.state, PRESETS["paper"], loaded.clip, loaded.provenance)
    message = refusal(ours, tmp_path / "a.pth")
    assert "adapter_bias" in message and str(ours) in message and "preset official" in message
    half = loaded.clip | {"mean": [0.5, 0.5, 0.5]}
    save_checkpoint(ours, loaded.state, loaded.config, half, loaded.provenance)
    message = refusal(ours, tmp_path / "a.pth")
    assert "mean [0.5, 0.5, 0.5], the published form knows OpenAI's alone" in message
    odd = loaded.clip | {"image_size": 85}
    save_checkpoint(ours, loaded.state, loaded.config, odd, loaded.provenance)
    assert "image size 85 is no multiple of the 14-pixel patch" in refusal(ours, tmp_path / "a.pth")


def test_a_clip_in_other_names_is_refused(ours, tmp_path):
    loaded = load_checkpoint(ours)
    weights = {f"text.{n}" if n.startswith("ln_") else n: t for n, t in draw_clip(TINY).items()}
    save_file(weights, tmp_path / "native.safetensors")
    said = loaded.clip | {"sha256": fingerprint(weights)}
    save_checkpoint(ours, loaded.state, loaded.config, said, loaded.provenance)
    message = refusal(ours, tmp_path / "a.pth")
    assert "cannot take the published form" in message and "ln_final.bias" in message


def test_a_full_disk_is_one_line_and_leaves_nothing(ours, published_path, tmp_path):
    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        messages = [
            refusal(ours, tmp_path / "a.pth"),
            refusal(published_path, tmp_path / "b.safetensors", TAPS),
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all("File too large" in message and "cannot write" in message for message in messages)
    assert sorted(tmp_path.iterdir()) == before
