"""WinCLIP on a tiny CLIP: batch against loop, windows against a slow version, references, bad input."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from filo.clip.load import load_clip
from filo.clip.windows import embed_windows, window_patches
from filo.errors import InputError
from filo.grounding.boxes import cell_of
from filo.methods.winclip import PRESETS, SIDES, WinCLIPConfig, WinCLIPModel, config_from_dict, spread
from filo.prompts import ClassTexts
from filo.views import join_tiles, stack_images

PLACES = tuple("abcdefghi")
TEXTS = {
    name: ClassTexts((f"a {name}", f"a flawless {name}"), (f"a damaged {name}",), PLACES)
    for name in ("nut", "bolt")
}
NAMES = ["nut", "bolt", "nut"]
STATISTICS = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture
def model(tiny_clip):
    return WinCLIPModel(tiny_clip, WinCLIPConfig(), TEXTS).eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(2))


def references(count, seed=5):
    return torch.randn(count, 3, 56, 56, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shots", [0, 2])
def test_a_batch_gives_what_its_images_give_one_by_one(model, images, shots):
    if shots:
        model.remember("nut", references(shots))
    whole = model.predict(images, NAMES)
    for i, name in enumerate(NAMES):
        alone = model.predict(images[i : i + 1], [name])
        torch.testing.assert_close(alone.scores[0], whole.scores[i], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.maps[0], whole.maps[i], atol=1e-6, rtol=0)
        assert alone.positions[0] == whole.positions[i]


def test_windows_stand_row_by_row():
    assert window_patches(3, 4, 2).tolist()[:4] == [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7], [4, 5, 8, 9]]
    assert window_patches(4, 4, 3).shape == (4, 9) and window_patches(3, 3, 3).tolist() == [list(range(9))]


def test_a_window_is_an_image_whose_other_patches_are_masked(tiny_clip, images):
    """Patch tokens outside the window take no part in any attention: a boolean mask over the whole image."""
    tower, patches = tiny_clip.vision, window_patches(4, 4, 2)
    found = embed_windows(tower, images, patches)
    for number in (0, 4, 8):
        inside = torch.zeros(17, dtype=torch.bool)
        inside[0] = True
        inside[patches[number] + 1] = True
        x = tower.visual._embeds(images)
        mask = torch.zeros(17, 17).masked_fill(~inside[None], float("-inf"))
        for block in tower.blocks:
            x = block(x, attn_mask=mask)
        torch.testing.assert_close(found[:, number], tower.project(x)[:, 0], atol=1e-5, rtol=1e-5)


def test_windows_do_not_depend_on_how_many_go_at_once(tiny_clip, images, monkeypatch):
    patches = window_patches(4, 4, 2)
    whole = embed_windows(tiny_clip.vision, images, patches)
    monkeypatch.setattr("filo.clip.windows.AT_ONCE", 11)
    torch.testing.assert_close(embed_windows(tiny_clip.vision, images, patches), whole, atol=1e-6, rtol=0)


def test_the_harmonic_mean_of_a_patch_by_hand():
    values = torch.tensor([[0.5, 0.25]])  # two windows of 1 x 2 grids side by side share the middle
    patches = torch.tensor([[0, 1], [1, 2]])
    found = spread(values, patches, 1, 3)[0, 0]
    assert found.tolist() == pytest.approx([0.5, 2 / (2 + 4), 0.25])
    assert spread(torch.tensor([[0.0, 0.25]]), patches, 1, 3)[0, 0].tolist() == [0.0, 0.0, 0.25]


def test_a_reference_is_nowhere_far_from_itself(model, images):
    model.remember("nut", images[:1])
    distances = model.distances(model.look(images[:1]), "nut")
    assert all(each.max() < 1e-6 for each in distances.values())
    far = model.distances(model.look(images[1:2]), "nut")
    assert all(each.min() > 1e-6 for each in far.values())


def test_references_of_one_class_mean_nothing_to_another_and_can_be_dropped(model, images):
    before = model.predict(images, NAMES)
    model.remember("nut", references(1))
    after = model.predict(images, NAMES)
    assert torch.equal(before.scores[1], after.scores[1]) and torch.equal(before.maps[1], after.maps[1])
    assert not torch.equal(before.maps[0], after.maps[0])
    model.forget()
    assert torch.equal(model.predict(images, NAMES).maps, before.maps)


def test_later_references_replace_earlier_ones(model, images):
    model.remember("nut", references(2, seed=7))
    model.remember("nut", references(1))
    once = WinCLIPModel(model.clip, model.config, TEXTS)
    once.remember("nut", references(1))
    assert torch.equal(model.predict(images, NAMES).maps, once.predict(images, NAMES).maps)


def test_with_references_the_score_is_the_mean_of_both(model, images):
    zero = model.predict(images[:1], ["nut"]).scores[0]
    model.remember("nut", references(2))
    far = model.vision_map(model.distances(model.look(images[:1]), "nut")).max()
    assert model.predict(images[:1], ["nut"]).scores[0] == pytest.approx((zero + far).item() / 2, abs=1e-6)


def test_the_preset_of_the_paper_remembers_the_tokens_before_the_last_block(tiny_clip, images):
    paper = WinCLIPModel(tiny_clip, PRESETS["paper"], TEXTS)
    wanted = tiny_clip.vision(images, [3]).ordinary[0][:, 1:]
    assert torch.equal(paper.look(images).patches, wanted)


def test_a_coreset_thins_the_patch_tokens_out(tiny_clip):
    model = WinCLIPModel(tiny_clip, WinCLIPConfig(coreset_share=0.25), TEXTS)
    model.remember("nut", references(4))
    assert len(model.memory["nut"]["patch"]) == 16 and len(model.memory["nut"]["mid"]) == 4 * 9


def test_texts_of_a_class_are_encoded_once(model, images, monkeypatch):
    calls, grow = [], type(model.clip.text).grow
    monkeypatch.setattr(type(model.clip.text), "grow", lambda *args: calls.append(args[1]) or grow(*args))
    model.predict(images, NAMES)
    model.predict(images, NAMES)
    assert calls == [
        ["a nut.", "a flawless nut."],
        ["a damaged nut."],
        ["a bolt.", "a flawless bolt."],
        ["a damaged bolt."],
    ]


def test_an_image_smaller_than_a_window_is_refused(tiny_config):
    small = load_clip(str(tiny_config), "drawn:0", 28)
    with pytest.raises(InputError, match="has 2 x 2 patches, a window needs 3 x 3: wanted at least 42"):
        WinCLIPModel(small, WinCLIPConfig(), TEXTS)


def test_references_of_another_size_are_refused_and_those_before_stay(model, images):
    model.remember("nut", references(1))
    before = model.predict(images, NAMES).maps
    with pytest.raises(InputError, match=r"shape \(1, 3, 42, 42\); this CLIP was built for \(B, 3, 56, 56\)"):
        model.remember("nut", torch.randn(2, 3, 42, 42))
    with pytest.raises(InputError, match="no references of the class 'nut': wanted one or more"):
        model.remember("nut", references(0))
    assert torch.equal(model.predict(images, NAMES).maps, before)


def test_images_of_another_size_are_refused(model):
    with pytest.raises(InputError, match=r"shape \(1, 3, 70, 56\)"):
        model.predict(torch.randn(1, 3, 70, 56), ["nut"])


def test_distances_need_references_of_the_class(model, images):
    seen = model.look(images)
    with pytest.raises(InputError, match="no references of the class 'bolt' are remembered; known: none"):
        model.distances(seen, "bolt")
    model.remember("nut", references(1))
    with pytest.raises(InputError, match="class 'bolt' are remembered; known: nut"):
        model.distances(seen, "bolt")


def test_a_class_without_texts_is_named(model, images):
    with pytest.raises(InputError, match="no texts for the class 'cable'; known: nut, bolt"):
        model.predict(images[:1], ["cable"])


def test_a_config_comes_back_and_bad_values_are_named():
    assert config_from_dict(json.loads(json.dumps(asdict(PRESETS["paper"])))) == PRESETS["paper"]
    with pytest.raises(InputError, match="coreset_share 0"):
        replace(WinCLIPConfig(), coreset_share=0.0)
    with pytest.raises(InputError, match="patch_tokens 'first'"):
        WinCLIPConfig(patch_tokens="first")


def test_both_kinds_of_windows_are_looked_at(model, images):
    seen = model.look(images)
    assert {name: tuple(each.shape) for name, each in seen.windows.items()} == {
        "large": (3, 4, 24),
        "mid": (3, 9, 24),
    }
    assert SIDES == {"large": 3, "mid": 2}


# long pictures


def long_images(model, *sizes):
    """Drawn pictures of these widths and heights, prepared as the method wants them."""
    rng = np.random.default_rng(3)
    drawn = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]
    clip = model.clip
    return [stack_images([model.view(Image.fromarray(each), clip.mean, clip.std)]) for each in drawn]


@pytest.fixture
def tiling(tiny_clip):
    return WinCLIPModel(tiny_clip, PRESETS["paper"], TEXTS).eval()


def test_a_square_picture_is_what_it_is_without_tiling(tiny_clip, tiling):
    plain = WinCLIPModel(tiny_clip, replace(PRESETS["paper"], tiling=False), TEXTS).eval()
    for model in (plain, tiling):
        model.remember("nut", *long_images(model, (70, 70)))
    (cut,), (whole,) = (long_images(model, (90, 90)) for model in (tiling, plain))
    one, other = tiling.predict(cut, ["nut"]), plain.predict(whole, ["nut"])
    assert torch.equal(one.scores, other.scores) and torch.equal(one.maps, other.maps)
    assert torch.equal(one.similarities[0], other.similarities[0]) and one.positions == other.positions


@pytest.mark.parametrize("shots", [0, 1])
def test_a_long_picture_has_the_means_of_its_squares(tiny_clip, tiling, shots):
    picture = long_images(tiling, (150, 90))[0]
    squares = WinCLIPModel(tiny_clip, replace(PRESETS["paper"], tiling=False), TEXTS).eval()
    if shots:
        shown = long_images(tiling, (100, 60))[0]
        tiling.remember("nut", shown)
        squares.remember("nut", shown.pixels)
        assert len(tiling.memory["nut"]["patch"]) == 2 * 16  # all of its squares are remembered
    found, each = tiling.predict(picture, ["nut"]), squares.predict(picture.pixels, ["nut"] * 2)
    torch.testing.assert_close(found.scores[0], each.scores.mean())
    torch.testing.assert_close(found.maps[0], join_tiles(each.maps, (150, 90)))
    torch.testing.assert_close(found.similarities[0], torch.stack(each.similarities).mean(0))
    assert found.positions == (cell_of(int(found.maps[0].argmax()), 56),)


def test_a_batch_of_pictures_of_all_shapes_gives_what_they_give_one_by_one(tiling):
    pictures = long_images(tiling, (90, 90), (60, 200), (500, 50), (100, 64))
    names = ["nut", "bolt", "nut", "bolt"]
    tiling.remember("nut", stack_images(long_images(tiling, (200, 80), (60, 60))))
    whole = tiling.predict(stack_images(pictures), names)
    assert whole.maps.shape == (4, 56, 56)
    for i, name in enumerate(names):
        alone = tiling.predict(pictures[i], [name])
        assert torch.equal(alone.scores[0], whole.scores[i]) and torch.equal(alone.maps[0], whole.maps[i])


def test_what_is_new_in_a_long_picture_stands_out_where_it_is(tiling):
    rng = np.random.default_rng(0)
    texture = rng.integers(90, 110, (60, 180, 3), dtype=np.uint8)
    marked = texture.copy()
    marked[20:45, 130:155] = 255
    normal, strange = (tiling.view(Image.fromarray(each), *STATISTICS) for each in (texture, marked))
    tiling.remember("nut", normal)
    far = tiling.predict(strange, ["nut"]).maps[0] - tiling.predict(normal, ["nut"]).maps[0]
    y, x = divmod(int(far.argmax()), 56)
    assert 15 <= y <= 45 and 38 <= x <= 50  # the mark lies at 40 to 48 of 56
