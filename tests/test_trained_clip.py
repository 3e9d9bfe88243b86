"""The CLIP of a checkpoint: from the file itself, from beside it, from elsewhere, and never another one."""

from dataclasses import replace

import open_clip
import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file

from filo.checkpoint import load_checkpoint
from filo.clip.load import load_clip
from filo.errors import InputError
from filo.methods.filo_config import FiLoConfig
from filo.trained_clip import find_trained_weights, load_trained_clip, locate
from tests.published_files import draw_clip, published_state

TAPS = (1, 2, 3, 4)


@pytest.fixture
def path(tmp_path):
    torch.save({"filo": published_state(TINY, 56, first_tap=1)}, tmp_path / "filo_train_on_visa.pth")
    return tmp_path / "filo_train_on_visa.pth"


@pytest.fixture
def checkpoint(path):
    return load_checkpoint(path, TAPS)


@pytest.fixture
def trained_here(checkpoint, tiny_clip, tiny_config):
    """What load_checkpoint gives for a file that train.py wrote; the file itself is not needed."""
    clip = {"model": str(tiny_config), "pretrained": "drawn:0", "image_size": 56, "sha256": tiny_clip.sha256}
    clip |= {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    return replace(checkpoint, clip=clip, config=FiLoConfig(features_list=TAPS))


@pytest.fixture
def elsewhere(tmp_path):
    """The CLIP of the published file as its publisher gave it out, for 56 x 56 images; changed if asked."""

    def elsewhere(**changes):
        save_file(draw_clip(TINY) | changes, tmp_path / "native.safetensors")
        return str(tmp_path / "native.safetensors")

    return elsewhere


def refusal(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def same_state(one, other):
    return all(torch.equal(t, other.state_dict()[name]) for name, t in one.state_dict().items())


# ---- a published file


def test_a_published_file_brings_its_clip(path, checkpoint, tiny_config, elsewhere):
    clip = load_trained_clip(path, checkpoint, str(tiny_config))
    assert (clip.image_size, clip.sha256) == (56, checkpoint.clip["sha256"])
    assert (clip.mean, clip.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert same_state(clip, load_clip(str(tiny_config), elsewhere(), 56))


def test_its_clip_can_be_asked_for_by_name(path, checkpoint, tiny_config):
    clip = load_trained_clip(path, checkpoint, str(tiny_config), "checkpoint", 70)
    assert clip.image_size == 70 and clip.sha256 == checkpoint.clip["sha256"]


def test_a_clip_of_other_sizes_must_be_named(path, checkpoint):
    assert checkpoint.clip["model"] == ""
    message = refusal(load_trained_clip, path, checkpoint)
    assert str(path) in message and "ViT-L-14-336" in message and "--clip_model" in message


def test_half_precision_is_widened_for_the_model(tmp_path, tiny_config):
    state = published_state(TINY, 56, first_tap=1)
    torch.save({"filo": {name: t.half() for name, t in state.items()}}, tmp_path / "half.pth")
    clip = load_trained_clip(
        tmp_path / "half.pth", load_checkpoint(tmp_path / "half.pth", TAPS), str(tiny_config), None, 70
    )
    assert {p.dtype for p in clip.parameters()} == {torch.float32}
    torch.testing.assert_close(
        clip.text.text_projection, state["clip_model.text_projection"], atol=1e-3, rtol=1e-3
    )


# ---- the same CLIP from elsewhere


def test_the_same_clip_from_elsewhere_is_accepted_and_changes_nothing(
    path, checkpoint, tiny_config, elsewhere
):
    own = load_trained_clip(path, checkpoint, str(tiny_config))
    given = load_trained_clip(path, checkpoint, str(tiny_config), elsewhere())
    assert same_state(own, given) and own.sha256 == given.sha256


def test_precision_and_a_number_in_a_list_make_no_other_clip(path, checkpoint, tiny_config, tmp_path):
    state = published_state(TINY, 56, first_tap=1)
    state = {name: t.half().float() for name, t in state.items()}
    torch.save({"filo": state}, path)
    checkpoint = load_checkpoint(path, TAPS)
    native = {n: t.half() for n, t in draw_clip(TINY).items()} | {"logit_scale": torch.tensor([4.6]).half()}
    save_file(native, tmp_path / "half.safetensors")
    load_trained_clip(path, checkpoint, str(tiny_config), str(tmp_path / "half.safetensors"))


def test_a_position_table_of_another_size_may_differ_by_rounding(tmp_path, tiny_config, elsewhere):
    state, path = published_state(TINY, 84, first_tap=1), tmp_path / "filo_train_on_visa.pth"
    for change, is_same in ((0.0, True), (9e-4, True), (-2e-3, False)):
        table = state["clip_model.visual.positional_embedding"].clone()
        table[7, 3] += change
        torch.save({"filo": state | {"clip_model.visual.positional_embedding": table}}, path)
        arguments = (path, load_checkpoint(path, TAPS), str(tiny_config), elsewhere())
        if is_same:
            found = load_trained_clip(*arguments).vision.visual.positional_embedding
            assert torch.equal(found, table)  # the file's own
        else:
            assert "the first is visual.positional_embedding" in refusal(load_trained_clip, *arguments)


def test_another_clip_from_elsewhere_is_refused(path, checkpoint, tiny_config, elsewhere):
    for changes, named in (
        ({"ln_final.bias": torch.full((24,), 0.5)}, "1 of 86 tensors differ, the first is ln_final.bias"),
        ({"visual.extra": torch.ones(1)}, "the first is visual.extra"),
        ({"visual.positional_embedding": torch.ones(16, 32)}, "visual.positional_embedding"),
        ({"visual.positional_embedding": torch.ones(17, 16)}, "visual.positional_embedding"),
        ({"visual.positional_embedding": torch.ones(17)}, "visual.positional_embedding"),
    ):
        message = refusal(load_trained_clip, path, checkpoint, str(tiny_config), elsewhere(**changes))
        assert named in message and str(path) in message and "leave --clip_pretrained out" in message


def test_a_clip_that_cannot_be_had_is_not_needed(path, checkpoint, tiny_config):
    message = refusal(load_trained_clip, path, checkpoint, str(tiny_config), "nowhere.pt")
    assert "nowhere.pt" in message and f"leave --clip_pretrained out: {path} holds its CLIP" in message


# ---- a checkpoint of ours


def test_a_checkpoint_of_ours_names_its_clip(path, trained_here):
    clip = load_trained_clip(path, trained_here)
    assert clip.sha256 == trained_here.clip["sha256"]
    assert (clip.mean, clip.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_another_clip_than_in_training_is_refused(path, trained_here):
    message = refusal(load_trained_clip, path, trained_here, None, "drawn:1")
    assert "was trained on the CLIP" in message and "drawn:0" in message and "--clip_pretrained" in message


def test_nothing_is_fetched_for_an_image_size_that_does_not_fit(path, trained_here, monkeypatch):
    monkeypatch.setattr("filo.clip.load.find_weights", lambda *args: pytest.fail("it was fetched"))
    assert "no multiple" in refusal(load_trained_clip, path, trained_here, image_size=57)


def test_a_checkpoint_of_ours_holds_no_clip(path, trained_here):
    assert "holds no CLIP" in refusal(load_trained_clip, path, trained_here, None, "checkpoint")


def test_files_are_looked_for_beside_the_checkpoint_first(path, trained_here, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = replace(trained_here, clip=trained_here.clip | {"model": "c.json", "pretrained": "w.safetensors"})
    message = refusal(locate, path, said)
    assert "c.json, which is not there: --clip_model" in message
    for name in ("c.json", "w.safetensors"):
        (tmp_path / "here" / name).touch()
    assert locate(path, said) == ("c.json", "w.safetensors")
    for name in ("c.json", "w.safetensors"):
        (tmp_path / name).touch()
    assert locate(path, said) == (str(tmp_path / "c.json"), str(tmp_path / "w.safetensors"))
    assert locate(path, said, "ViT-B-16", "openai") == ("ViT-B-16", "openai")


def test_a_header_that_claims_to_bring_a_clip_is_refused(trained_here, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    said = replace(trained_here, clip=trained_here.clip | {"pretrained": "checkpoint"})
    message = refusal(find_trained_weights, tmp_path / "a.safetensors", said, "m", "checkpoint")
    assert "should hold its CLIP, but" in message and "a.safetensors" in message
