"""AnomalyCLIP on a tiny CLIP: batch against loop, a slow version, what is trained, what is computed once."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F

from filo.all_methods import make_model, method_name, preset_name, switch_off
from filo.clip.load import load_clip
from filo.errors import InputError
from filo.features import FeatureStore
from filo.methods.anomalyclip import (
    MAP_WEIGHT,
    TEMPERATURE,
    AnomalyCLIPConfig,
    AnomalyCLIPModel,
    config_from_dict,
)

CONFIG = AnomalyCLIPConfig(features_list=(2, 4), n_ctx=3, t_n_ctx=2, depth=2, sigma=2.0)
LEARNED = {"ctx_pos", "ctx_neg", "compound_prompts_text.0"}


@pytest.fixture(scope="module")
def clip(tiny_config):
    return load_clip(str(tiny_config), "drawn:0", 56, CONFIG.activation, resize=CONFIG.resize)


@pytest.fixture
def model(clip):
    torch.manual_seed(1)
    made = AnomalyCLIPModel(clip, CONFIG, {})
    with torch.no_grad():  # far from zero, so that every one shows
        for name, parameter in made.named_parameters():
            if not name.startswith("clip."):
                parameter.normal_(std=0.5)
    return made.eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(2))


MASKS = torch.zeros(3, 56, 56, dtype=torch.bool)
MASKS[1, 10:30, 5:20] = True
LABELS = torch.tensor([0, 1, 0])


def test_a_batch_gives_what_its_images_give_one_by_one(model, images):
    whole = model.predict(images, ["nut", "bolt", "nut"])
    for i, image in enumerate(images):
        alone = model.predict(image[None], ["nut"])
        torch.testing.assert_close(alone.scores[0], whole.scores[i], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.maps[0], whole.maps[i], atol=1e-6, rtol=0)
        assert alone.positions[0] == whole.positions[i]


def test_the_class_of_an_image_does_not_matter(model, images):
    one, other = (model.predict(images, names) for names in (["nut"] * 3, ["brain", "wood", ""]))
    assert torch.equal(one.maps, other.maps) and torch.equal(one.scores, other.scores)


def test_maps_go_from_zero_to_the_number_of_taps_and_scores_from_zero_to_one(model, images):
    found = model.predict(images, ["nut"] * 3)
    assert found.maps.min() >= 0 and 1 < found.maps.max() <= len(CONFIG.features_list)
    assert ((found.scores > 0) & (found.scores < 1)).all()
    peak = found.maps[0].flatten().argmax().item()
    assert found.positions[0] == 3 * (peak // 56 * 3 // 56) + peak % 56 * 3 // 56


def test_similarities_hold_the_cosine_with_what_is_normal(model, images):
    found = model.predict(images, ["nut"] * 3)
    text = F.normalize(model.text_features(), dim=-1)
    image = F.normalize(model.image_features(images).image, dim=-1)
    torch.testing.assert_close(torch.stack(list(found.similarities))[:, 0], (image @ text[0]).detach())


def test_score_and_map_are_those_of_a_slow_version(model, images):
    """Texts one by one, patches one by one, the softmax before the map is enlarged."""
    sides = ((model.ctx_pos, "object."), (model.ctx_neg, "damaged object."))
    texts = [slow_text(model, ctx, words) for ctx, words in sides]
    features = model.image_features(images[:1])
    normal, abnormal = (F.normalize(text, dim=0) for text in texts)

    def probability(feature):
        unit = feature / feature.norm()
        odds = [((unit @ text) / TEMPERATURE).exp() for text in (normal, abnormal)]
        return odds[1] / (odds[0] + odds[1])

    with torch.no_grad():
        total = torch.zeros(56, 56)
        for tap in features.vv:
            grid = torch.stack([probability(token) for token in tap[0, 1:]]).reshape(1, 1, 4, 4)
            total += F.interpolate(grid, size=56, mode="bilinear", align_corners=False)[0, 0]
        found = replace_sigma(model, 0.0).predict(images[:1], ["nut"])
        torch.testing.assert_close(found.maps[0], total, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.scores[0], probability(features.image[0]), atol=1e-5, rtol=0)


def slow_text(model, ctx, words):
    """One text over the whole context; deep tokens are put over positions 1 and 2 before the second block."""
    tower = model.clip.text
    ids = tower.tokenize([words], CONFIG.n_ctx)
    x = tower.token_embedding(ids)
    x = torch.cat([x[:, :1], ctx[0], x[:, 1 + CONFIG.n_ctx :]], 1) + tower.positional_embedding
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for number, block in enumerate(tower.transformer.resblocks):
        if number == 1:
            x = torch.cat([x[:, :1], model.compound_prompts_text[0][None], x[:, 1 + CONFIG.t_n_ctx :]], 1)
        x = block(x, attn_mask=mask)
    return (tower.ln_final(x)[0, ids[0].argmax()] @ tower.text_projection).detach()


def replace_sigma(model, sigma):
    made = AnomalyCLIPModel(model.clip, replace(CONFIG, sigma=sigma), {})
    made.load_trained_state(model.trained_state())
    return made.eval()


def test_taps_before_the_second_stream_are_those_of_the_ordinary_one(model, images, monkeypatch):
    monkeypatch.setattr("filo.methods.anomalyclip.DUAL_BLOCKS", 2)  # the stream starts after block 2
    found = model.image_features(images)
    plainly = model.clip.vision(images, (2, 4), vv_after=2, norm_image=False)
    assert len(plainly.vv) == 1
    for tap, wanted in zip(found.vv, (plainly.ordinary[0], plainly.vv[0]), strict=True):
        assert torch.equal(tap, model.clip.vision.project(wanted))


def test_layers_before_feature_map_layer_are_not_used(model, images):
    fewer = AnomalyCLIPModel(model.clip, replace(CONFIG, feature_map_layer=1), {})
    assert torch.equal(fewer.image_features(images).vv[0], model.image_features(images).vv[1])
    assert len(fewer.image_features(images).vv) == 1


def test_texts_are_encoded_once_for_any_number_of_images(model, images, monkeypatch):
    calls = []
    encode = type(model.clip.text).forward
    monkeypatch.setattr(type(model.clip.text), "forward", lambda *args: calls.append(1) or encode(*args))
    first = model.predict(images, ["nut"] * 3)
    model.predict(images, ["bolt"] * 3)
    assert len(calls) == 1
    state = {name: 2 * tensor for name, tensor in model.trained_state().items()}
    model.load_trained_state(state)  # and again for other weights
    assert not torch.equal(model.predict(images, ["nut"] * 3).scores, first.scores) and len(calls) == 2


def test_a_trained_step_shows_in_the_next_prediction(model, images):
    before = model.predict(images, ["nut"] * 3).scores
    model.train()
    sum(model.loss(model.image_features(images), MASKS, LABELS)).backward()
    with torch.no_grad():
        model.ctx_pos -= model.ctx_pos.grad
    assert not torch.equal(model.eval().predict(images, ["nut"] * 3).scores, before)


def test_the_loss_falls_and_reaches_nothing_but_what_is_learned(model, images):
    model.train()
    features = model.image_features(images)
    learned = {name: p for name, p in model.named_parameters() if not name.startswith("clip.")}
    assert learned.keys() == LEARNED == model.trained_state().keys()
    optimizer = torch.optim.Adam(learned.values(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = sum(model.loss(features, MASKS, LABELS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad.abs().max() > 0 for p in learned.values())
    assert not any(p.grad is not None for p in model.clip.parameters())


def test_the_parts_of_the_loss_are_those_of_every_map(model, images):
    model.train()
    features = model.image_features(images)
    loss = model.loss(features, MASKS, LABELS)
    maps = model.probability_maps(features, F.normalize(model.text_features(), dim=-1))
    parts = sum(sum(model.map_losses(each, MASKS)) for each in maps)
    torch.testing.assert_close(loss.maps, MAP_WEIGHT * parts)
    one = model.loss(features.row(1), MASKS[1:2], LABELS[1:2])  # a batch of one keeps its axis
    assert one.image.ndim == 0 and one.maps > 0


def test_deep_tokens_for_which_there_is_no_block_get_no_gradient(clip, images):
    model = AnomalyCLIPModel(clip, replace(CONFIG, depth=4), {}).train()  # the text tower has two blocks
    sum(model.loss(model.image_features(images), MASKS, LABELS)).backward()
    assert [token.grad is None for token in model.compound_prompts_text] == [False, True, True]


def test_cached_features_train_as_live_ones(model, images, tmp_path):
    store = FeatureStore(tmp_path / "features", model.frozen_settings())
    model.train()
    live = model.image_features(images[:1])
    store.write("a" * 64, live)
    kept = store.read("a" * 64, tapped=True)
    losses = [sum(model.loss(each, MASKS[:1], LABELS[:1])) for each in (live, kept)]
    assert torch.equal(*losses)
    numbers = sum(t.numel() for t in (*live.distinct()[0], live.image))
    assert numbers == model.frozen_numbers()


def test_features_of_filo_are_not_taken_for_those_of_anomalyclip(model, tmp_path):
    FeatureStore(tmp_path, model.frozen_settings() | {"resize": "bicubic"})
    with pytest.raises(InputError, match="resize bicubic there, bilinear here"):
        FeatureStore(tmp_path, model.frozen_settings())


def test_a_config_comes_back_from_a_checkpoint():
    back = config_from_dict(json.loads(json.dumps(asdict(CONFIG))))
    assert back == CONFIG and method_name(back) == "anomalyclip"
    assert preset_name(AnomalyCLIPConfig(features_list=(6, 12), depth=3)) == "official"
    assert preset_name(CONFIG) == "custom"  # its sigma


@pytest.mark.parametrize(
    "change", [{"t_n_ctx": 4}, {"depth": 0}, {"feature_map_layer": 2}, {"sigma": -1.0}, {"n_ctx": 0}]
)
def test_a_value_out_of_bounds_is_named(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    "values", [{}, {"warp": 1}, {"features_list": ["6"]}, {"sigma": "4"}, {"features_list": 3}]
)
def test_a_damaged_config_is_refused(values):
    whole = asdict(CONFIG) | values if values else values
    with pytest.raises(InputError):
        config_from_dict(whole)


def test_parts_of_filo_cannot_be_switched_off_here(clip):
    with pytest.raises(InputError, match="--without shapes: these are parts of FiLo, and this is Anom"):
        switch_off(CONFIG, ["shapes"])
    assert isinstance(make_model(clip, CONFIG, {}), AnomalyCLIPModel)
