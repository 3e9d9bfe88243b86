"""FADE on a tiny CLIP: batch against loop, modes, fusion, the text models, bad input."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from filo.clip.gem import gem_features
from filo.errors import InputError
from filo.fusion import combine, enlarge, level, share, stretch, to_eight_bits, weigh_scales
from filo.methods.fade import FADEModel
from filo.methods.fade_config import PRESETS, FADEConfig, config_from_dict
from filo.methods.memory import nearest
from filo.prompts import ClassTexts
from filo.text_models import fit_text_model

CONFIG = FADEConfig(classification_img_size=56, segmentation_img_sizes=(42, 84), eval_img_size=60)
PATCHES = (("a flawless object", 0), ("an object", 0), ("a broken object", 1), ("an object with a crack", 1))
TEXTS = {
    name: ClassTexts((), (), tuple("abcdefghi"), image_prompts=((f"a {name}", 0), (f"a damaged {name}", 1)))
    for name in ("nut", "bolt")
}
TEXTS = {name: replace(texts, patch_prompts=PATCHES) for name, texts in TEXTS.items()}
NAMES = ["nut", "bolt", "nut"]


def images_of(count, seed, config=CONFIG):
    sides = dict.fromkeys((config.classification_img_size, *config.segmentation_img_sizes))
    g = torch.Generator().manual_seed(seed)
    return {side: torch.randn(count, 3, side, side, generator=g) for side in sides}


def part(images, rows):
    return {side: each[rows] for side, each in images.items()}


@pytest.fixture
def make(tiny_clip):
    """Gives a model of changed settings that has seen two references of either class."""

    def make(shots=2, **changes):
        model = FADEModel(tiny_clip, replace(CONFIG, **changes), TEXTS).eval()
        for seed, name in enumerate(TEXTS if shots else ()):
            model.remember(name, images_of(shots, 10 + seed, model.config))
        return model

    return make


@pytest.mark.parametrize("fusion", ["fixed", "adaptive"])
def test_a_batch_gives_what_its_images_give_one_by_one(make, fusion):
    model, images = make(fusion=fusion), images_of(3, 1)
    whole = model.predict(images, NAMES)
    for i, name in enumerate(NAMES):
        alone = model.predict(part(images, slice(i, i + 1)), [name])
        assert alone.scores[0] == pytest.approx(whole.scores[i].item(), abs=1e-5)
        assert (alone.maps[0] - whole.maps[i]).abs().max() <= 1.01 / 255
        assert (alone.maps[0] != whole.maps[i]).float().mean() < 0.02


def test_maps_have_the_side_that_is_asked_for_and_whole_steps_of_eight_bits(make):
    found = make().predict(images_of(3, 1), NAMES)
    assert found.maps.shape == (3, 60, 60) and found.maps.min() >= 0 and found.maps.max() <= 1
    assert torch.equal((found.maps * 255).round() / 255, found.maps)
    assert all(0 <= score <= 1 for score in found.scores) and make().sides == (56, 42, 84)


@pytest.mark.parametrize("mode", ["language", "vision", "both"])
def test_modes_are_independent_of_each_other(make, mode):
    images = images_of(2, 1)
    other = {"language": "vision", "vision": "language", "both": "none"}[mode]
    base = make(classification_mode=mode, segmentation_mode=mode)
    seen = base.look(images)
    scores, maps = base.answer_floats(seen, ["nut", "nut"])
    mixed = make(classification_mode=mode, segmentation_mode=other).answer_floats(seen, ["nut", "nut"])
    assert torch.allclose(mixed[0], scores)
    assert mixed[1] is None if other == "none" else not torch.allclose(mixed[1], maps)
    turned = make(classification_mode=other, segmentation_mode=mode).answer_floats(seen, ["nut", "nut"])
    assert torch.allclose(turned[1], maps) and (turned[0] is None) == (other == "none")


def test_both_is_the_weighted_sum_of_language_and_vision(make):
    model = make(vision_segmentation_weight=0.3, vision_segmentation_multiplier=2.0)
    seen, name = model.look(images_of(1, 1)), ["nut"]
    language = model.enlarge(model.language_grids(seen, name))
    vision = 2.0 * model.enlarge(model.vision_grids(seen, name))
    scores, maps = model.answer_floats(seen, name)
    torch.testing.assert_close(maps, (0.7 * language + 0.3 * vision).clamp(0, 1))
    wanted = (model.language_scores(seen, name) + vision.amax()) / 2
    torch.testing.assert_close(scores, wanted.clamp(0, 1))


def test_without_references_the_vision_score_does_not_count(make):
    model = make(shots=0, use_query_img_in_vision_memory_bank=True)
    seen = model.look(images_of(1, 1))
    scores, _ = model.answer_floats(seen, ["nut"])
    torch.testing.assert_close(scores, model.language_scores(seen, ["nut"]).clamp(0, 1))


def test_the_query_image_joins_the_memory_by_its_second_nearest_patch(make):
    model = make(use_query_img_in_vision_memory_bank=True)
    seen = model.look(images_of(1, 1))
    tokens = seen[42].gem[:, 1:]
    joined = torch.cat([model.memory["nut"].banks[42], tokens[0]])
    wanted = nearest(tokens, joined, 2).view(1, 3, 3)
    torch.testing.assert_close(model.vision_grids(seen, ["nut"])[0], wanted, atol=1e-6, rtol=0)


def test_a_reference_is_nowhere_far_from_itself(make):
    model = make()
    seen = model.look(part(images_of(2, 10), slice(0, 1)))  # the first reference of the nut
    assert max(grid.max() for grid in model.vision_grids(seen, ["nut"])) < 1e-5


def test_normalised_maps_span_zero_to_one(make):
    maps = make(normalize_segmentations=True).answer_floats(make().look(images_of(2, 1)), ["nut", "nut"])[1]
    assert maps.amin((1, 2)).tolist() == pytest.approx([0, 0]) and maps.amax((1, 2)).tolist() == [1, 1]
    flat = torch.full((1, 2, 2), 0.4)
    assert stretch(flat).tolist() == torch.zeros(1, 2, 2).tolist()


# fusion


def test_adaptive_weights_come_from_the_references_alone(make):
    one, other = make(fusion="adaptive"), make(fusion="adaptive")
    other.predict(images_of(3, 99), NAMES)  # whatever is tested
    assert one.memory["nut"].weights.vision == other.memory["nut"].weights.vision
    weights = one.memory["nut"].weights
    assert weights.scales.sum().item() == pytest.approx(1) and 0 < weights.vision < 1
    assert one.memory["nut"].weights.vision != one.memory["bolt"].weights.vision
    single = make(shots=1, fusion="adaptive").memory["nut"].weights
    assert single.scales.isfinite().all() and 0 < single.vision < 1


def test_adaptive_fusion_without_references_is_the_fixed_one(make):
    images = images_of(1, 1)
    query = {"shots": 0, "use_query_img_in_vision_memory_bank": True}
    one, other = (make(fusion=fusion, **query).predict(images, ["nut"]) for fusion in ("fixed", "adaptive"))
    assert torch.equal(one.maps, other.maps) and torch.equal(one.scores, other.scores)


def test_a_size_that_is_loud_on_normal_images_weighs_less():
    quiet, loud = torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.4)
    assert weigh_scales([[quiet, loud], [quiet, loud]]).tolist() == pytest.approx([0.8, 0.2])
    assert share(vision=0.1, language=0.3) == pytest.approx(0.75) and share(0.2, 0.2) == 0.5
    assert level([torch.arange(101.0)]) == pytest.approx(99) and level([torch.zeros(3)]) == 1e-6


def test_grids_are_brought_to_one_side_and_averaged():
    small, large = torch.rand(1, 2, 2), torch.rand(1, 4, 4)
    by_hand = F.interpolate(small[None], (4, 4), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(enlarge([small, large], 4), (by_hand + large) / 2)
    torch.testing.assert_close(enlarge([small, large], 4, torch.tensor([1.0, 0.0])), by_hand)


def test_eight_bits_are_cut_and_not_rounded():
    found = to_eight_bits(torch.tensor([[[0.999, 0.0], [0.5, 1.0]]]), 2)
    assert found.dtype == np.uint8 and found.tolist() == [[[254, 0], [127, 255]]]


def test_one_half_alone_stays_as_it_is():
    a, b = torch.ones(2), torch.zeros(2)
    assert combine(a, b, "none", 0.5) is None
    assert [combine(a, b, mode, 0.25).tolist()[0] for mode in ("language", "vision", "both")] == [1, 0, 0.75]


# texts


@pytest.mark.parametrize("kind", ["average", "softmax", "max", "lr", "mlp", "knn", "rf", "gmm"])
def test_text_models_tell_two_sides_apart(kind):
    g = torch.Generator().manual_seed(0)
    centres = torch.eye(8)[:2].repeat_interleave(40, 0)
    texts = F.normalize(centres + 0.1 * torch.randn(80, 8, generator=g), dim=-1).double()
    labels = torch.arange(2).repeat_interleave(40)
    model = fit_text_model(kind, texts, labels)
    found = model(texts.float().view(2, 40, 8))
    assert found.shape == (2, 40) and found.dtype == torch.float64
    assert found.min() >= 0 and found.max() < 1 + 1e-9  # a sum of many shares may round up
    assert ((found.flatten() > 0.5).long() == labels).float().mean() > 0.95
    assert torch.equal(model(texts.float()), found.flatten())


def test_average_softmax_and_max_by_hand():
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]).double()
    labels, x = torch.tensor([0, 1, 1]), torch.tensor([0.8, 0.6])
    alike = 100 * texts @ x.double()
    mean = torch.stack([alike[0], alike[1:].mean()]).softmax(0)[1]
    top = torch.stack([alike[0], alike[1:].max()]).softmax(0)[1]
    for kind, wanted in (("average", mean), ("softmax", alike.softmax(0)[1:].sum()), ("max", top)):
        torch.testing.assert_close(fit_text_model(kind, texts, labels)(x), wanted)


def test_a_text_model_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="text_model_type 'svm': wanted one of average, softmax"):
        fit_text_model("svm", torch.eye(2).double(), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", ["knn", "gmm"])
def test_too_few_texts_for_a_model_are_one_line(kind):
    wanted = f"text_model_type {kind} cannot be fitted to 1 normal and 1 abnormal texts"
    with pytest.raises(InputError, match=wanted):
        fit_text_model(kind, torch.eye(2).double(), torch.tensor([0, 1]))


# the tower


def test_gem_without_blocks_of_its_own_is_clip_itself(tiny_clip):
    image = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = gem_features(tiny_clip.vision, image, depth=1)
    assert torch.equal(found.gem, found.clip)
    torch.testing.assert_close(found.clip[:, 0], tiny_clip.vision(image, ()).image, atol=1e-5, rtol=1e-5)


def test_what_is_over_at_the_edge_is_cut_off(tiny_clip):
    image = torch.randn(1, 3, 60, 75, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, cut = (gem_features(tiny_clip.vision, each) for each in (image, image[..., :56, :70]))
    assert whole.gem.shape == (1, 1 + 4 * 5, 24)
    torch.testing.assert_close(whole.gem, cut.gem, atol=1e-6, rtol=0)


# bad input


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"classification_mode": "none", "segmentation_mode": "none"}, "segmentation_mode 'none'"),
        ({"segmentation_img_sizes": ()}, r"segmentation_img_sizes \(\)"),
        ({"vision_segmentation_weight": 1.5}, "vision_segmentation_weight 1.5"),
        ({"vision_segmentation_multiplier": 0.0}, "vision_segmentation_multiplier 0.0"),
        ({"coreset_share": 0.0}, "coreset_share 0.0"),
        ({"vision_feature": "dino"}, "vision_feature 'dino': wanted 'clip' or 'gem'"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, wanted):
    with pytest.raises(InputError, match=wanted):
        replace(CONFIG, **changes)


def test_vision_without_anything_to_compare_with_is_refused(make):
    with pytest.raises(InputError, match="vision needs references of the class 'nut'"):
        make(shots=0).predict(images_of(1, 1), ["nut"])


def test_an_image_below_a_patch_and_a_class_without_texts_are_refused(make, tiny_clip):
    with pytest.raises(InputError, match="an image size of 13 is below the 14 pixels of a patch"):
        make(shots=0, segmentation_img_sizes=(13,))
    with pytest.raises(InputError, match="smaller than a patch of 14"):
        gem_features(tiny_clip.vision, torch.zeros(1, 3, 13, 40))
    with pytest.raises(InputError, match="no texts for the class 'cable'; known: nut, bolt"):
        make(classification_mode="language", segmentation_mode="language").predict(images_of(1, 1), ["cable"])


def test_a_config_comes_back():
    for preset in PRESETS.values():
        assert config_from_dict(json.loads(json.dumps(asdict(preset)))) == preset
    with pytest.raises(InputError, match="segmentation_img_sizes is wrong"):
        config_from_dict(asdict(CONFIG) | {"segmentation_img_sizes": "240"})
