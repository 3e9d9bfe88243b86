"""FiLo end to end on a tiny CLIP: batch against loop, both presets, slow versions, what is trained."""

import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from filo.all_methods import preset_name
from filo.clip.load import load_clip
from filo.errors import InputError
from filo.grounding.boxes import Boxes
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import (
    ABLATIONS,
    PRESETS,
    FiLoConfig,
    ablate,
    config_from_dict,
    part_of_state,
)
from filo.prompts import PromptBook

OFFICIAL, PAPER = (replace(PRESETS[name], features_list=(1, 2, 4), n_ctx=3) for name in ("official", "paper"))
CLASSES = ["nut", "pasta", "nut", "candle"]
POSITIONS = [[0], [], [8, 3], [4]]
# one that counts, in the lower left, and one that does not
BOXES = Boxes(
    np.array([[0.2, 0.8, 0.3, 0.3], [0.8, 0.2, 0.2, 0.2]], np.float32),
    np.array([0.4, 0.9], np.float32),
    ("a crack dirt", "table"),
)
# its phrase counts for no class; over the left edge, so that the presets differ where one does
NO_BOX = BOXES._replace(phrases=("Table", "table"))
OVER_EDGE = Boxes(np.array([[0.0, 0.5, 0.4, 0.4]], np.float32), np.ones(1, np.float32), ("dirt",))
# what belongs to the data and is tested there
OF_DATA = {"mosaic_label"}
DIFFERENT = [
    field.name
    for field in fields(FiLoConfig)
    if getattr(OFFICIAL, field.name) != getattr(PAPER, field.name) and field.name not in OF_DATA
]


def seen(model, images):
    return model.image_features(images)


both_presets = pytest.mark.parametrize("config", [OFFICIAL, PAPER], ids=["official", "paper"])


@pytest.fixture(scope="module")
def clips(tiny_config, tiny_clip):
    return {"gelu": tiny_clip, "quick_gelu": load_clip(str(tiny_config), "drawn:0", 56, "quick_gelu")}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Three classes with two descriptions each; `pasta` follows `candle` where the program would."""
    path = tmp_path_factory.mktemp("prompts") / "small.json"
    texts = {"nut": ["rust", "a dent"], "pasta": ["a hole", "dirt"], "candle": ["a crack", "soot"]}
    classes = {
        name: {"name": name, "descriptions": [{"text": text} for text in own]} for name, own in texts.items()
    }
    classes["pasta"]["official_descriptions_of"] = "candle"
    path.write_text(json.dumps({"classes": classes}))
    return PromptBook([path])


@pytest.fixture(scope="module")
def weights(tiny_clip):
    """One tensor for every name, whatever the config."""
    g = torch.Generator().manual_seed(0)
    widest = FiLoModel(tiny_clip, replace(OFFICIAL, adapter_bias=True), {}).trained_state()
    drawn = {name: 0.3 * torch.randn(t.shape, generator=g) for name, t in widest.items()}
    for kind in ("normal", "abnormal"):
        drawn[f"{kind}_prompt.meta_net.0.bias"] += 1.0  # its one hidden unit must not be cut off by the ReLU
    return drawn


@pytest.fixture(scope="module")
def build(clips, book, weights):
    def build(config, texts=None):
        quirks = (config.templates, config.share_descriptions_by_name)
        texts = texts or book.texts(book.classes, *quirks, config.described, not config.learned_template)
        model = FiLoModel(clips[config.activation], config, texts)
        state = part_of_state(weights, FiLoConfig(), config)
        model.load_trained_state({name: state[name] for name in model.trained_state()})
        return model

    return build


@pytest.fixture(scope="module")
def outputs(build):
    """Scores, maps and both losses of two images under a config, each config computed once."""
    images = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    masks = images[:, 0] > 1
    known = {}

    @torch.no_grad()
    def outputs(config):
        if config not in known:
            model, names = build(config), ["pasta", "pasta"]
            losses = (
                model.local_loss(seen(model, images), names, masks),
                model.global_loss(seen(model, images), names, torch.tensor([0, 1])),
            )
            boxes = [BOXES, OVER_EDGE]
            known[config] = (*model.predict(images, names, boxes=boxes)[:2], *losses)
        return known[config]

    return outputs


@pytest.fixture
def images():
    return torch.randn(4, 3, 56, 56)


@pytest.fixture
def masks():
    masks = torch.zeros(4, 56, 56, dtype=torch.bool)
    masks[0, 5:30, 10:20] = masks[1, 40:, :9] = masks[3, 7, 7] = True
    return masks


LABELS = torch.tensor([1, 1, 0, 1])


# a batch is its images, one by one


@both_presets
def test_a_batch_of_several_classes_and_positions_equals_one_by_one(build, images, config):
    model = build(config)
    together = model.predict(images, CLASSES, POSITIONS)
    for i in range(4):
        alone = model.predict(images[i : i + 1], CLASSES[i : i + 1], POSITIONS[i : i + 1])
        torch.testing.assert_close(together.scores[i : i + 1], alone.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.maps[i : i + 1], alone.maps, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dice_over", ["rows", "image"])
@both_presets
def test_both_losses_of_a_batch_are_the_mean_of_its_images(build, images, masks, config, dice_over):
    model = build(replace(config, dice_over=dice_over))
    for loss, truth in ((model.local_loss, masks), (model.global_loss, LABELS)):
        features = seen(model, images)
        parts = [loss(features.row(i), CLASSES[i : i + 1], truth[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(loss(features, CLASSES, truth), torch.stack(parts).mean())


def test_the_order_of_a_batch_does_not_matter(build, images):
    model, order = build(OFFICIAL), [2, 0, 3, 1]
    straight = model.predict(images, CLASSES, POSITIONS)
    turned = model.predict(images[order], [CLASSES[i] for i in order], [POSITIONS[i] for i in order])
    torch.testing.assert_close(straight.scores[order], turned.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(straight.maps[order], turned.maps, atol=1e-5, rtol=0)


def test_no_positions_means_all_of_them(build, images):
    model = build(OFFICIAL)
    left_out, spelled = model.predict(images, CLASSES), model.predict(images, CLASSES, [()] * 4)
    assert torch.equal(left_out.scores, spelled.scores) and torch.equal(left_out.maps, spelled.maps)


def test_texts_depend_on_an_image_by_the_direction_of_its_feature(build):
    model, feature = build(OFFICIAL), torch.randn(1, 24)
    text = model.text_features(feature, ["nut"])
    torch.testing.assert_close(model.text_features(5 * feature, ["nut"]), text)
    assert (model.text_features(-feature, ["nut"]) - text).abs().max() > 1e-3


@pytest.mark.parametrize("position", [0, 4, 8])
def test_a_position_uses_its_own_texts_only(build, book, images, position):
    whole = book.texts(["candle"], "official", True)["candle"]
    own = tuple(text for text in whole.abnormal if text.endswith(f" at {whole.positions[position]}."))
    assert len(own) * 9 == len(whole.abnormal)
    narrow = {"candle": replace(whole, abnormal=own, positions=whole.positions[position : position + 1])}
    found = build(OFFICIAL).predict(images[:1], ["candle"], [[position]])
    expected = build(OFFICIAL, narrow).predict(images[:1], ["candle"])
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.maps, expected.maps, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.similarities, expected.similarities, atol=1e-5, rtol=0)
    anywhere = build(OFFICIAL).predict(images[:1], ["candle"])
    assert (found.maps - anywhere.maps).abs().max() > 1e-4


def test_as_many_classes_as_images_are_wanted(build, images):
    model = build(OFFICIAL)
    with pytest.raises(ValueError, match="shorter"):
        model.predict(images, CLASSES, [[]])
    with pytest.raises(ValueError, match="4 images but 3 class names"):
        model.predict(images, CLASSES[:3])


@both_presets
def test_an_unknown_class_is_one_line(build, images, masks, config):
    model = build(config)
    for call in (
        lambda: model.predict(images[:1], ["zipper"]),
        lambda: model.local_loss(seen(model, images[:1]), ["zipper"], masks[:1]),
        lambda: model.global_loss(seen(model, images[:1]), ["zipper"], LABELS[:1]),
    ):
        with pytest.raises(InputError, match="'zipper'") as caught:
            call()
        assert "candle" in str(caught.value) and len(str(caught.value).splitlines()) == 1


# values


@both_presets
def test_predictions_keep_to_their_ranges_and_losses_are_finite(build, images, masks, config):
    model = build(config)
    scores, maps = model.predict(images, CLASSES, POSITIONS)[:2]
    low, high = (-0.4, 0.9) if config is OFFICIAL else (0, 2)
    assert scores.shape == (4,) and maps.shape == (4, 56, 56)
    assert (low <= scores).all() and (scores <= high).all()
    assert (maps >= 0).all() and (maps <= 1).all() and maps.std() > 0.001
    assert model.local_loss(seen(model, images), CLASSES, masks).isfinite()
    assert model.global_loss(seen(model, images), CLASSES, LABELS).isfinite()


@both_presets
def test_there_is_a_map_for_every_head_and_each_is_a_probability(build, images, config):
    model = build(config)
    features = model.image_features(images)
    text = model.text_features(model.global_feature(features, adapted=True), CLASSES)
    maps = model.probability_maps(features, text)
    assert len(maps) == 3 + 2 and {m.shape for m in maps} == {(4, 2, 56, 56)}
    for one in maps:
        torch.testing.assert_close(one.sum(1), torch.ones(4, 56, 56))
        assert (one >= 0).all()


def test_minmax_stretches_every_image_to_the_whole_range(build, images):
    maps = build(replace(OFFICIAL, map_norm="minmax")).predict(images, CLASSES).maps.flatten(1)
    assert maps.amin(1).tolist() == [0] * 4 and maps.amax(1).tolist() == pytest.approx([1] * 4)
    plain = build(OFFICIAL).predict(images, CLASSES).maps.flatten(1)
    low, high = plain.amin(1, keepdim=True), plain.amax(1, keepdim=True)
    torch.testing.assert_close(maps, (plain - low) / (high - low), atol=1e-5, rtol=0)


# slow versions: the paper


def slow_texts(model, texts, prompt, unit):
    """Encode text by text, normalise, average, normalise."""
    ctx = (prompt.ctx + prompt.meta_net(unit))[None]
    each = [model.clip.text(model.clip.text.grow([text], model.config.n_ctx), ctx)[0, 0] for text in texts]
    mean = torch.stack([one / one.norm() for one in each]).mean(0)
    return mean / mean.norm()


def slow_pair(model, unit, class_name, positions=()):
    texts = model.encoder.texts[class_name]
    wanted = [texts.positions[position] for position in positions or range(9)]
    abnormal = [text for text in texts.abnormal if text.split(" at ")[-1].rstrip(".") in wanted]
    normal = slow_texts(model, texts.normal, model.normal_prompt, unit)
    return torch.stack([normal, slow_texts(model, abnormal, model.abnormal_prompt, unit)])


def slow_adapter(model, image):
    inner = model.adapter.down.weight @ image + model.adapter.down.bias
    outer = model.adapter.up.weight @ inner.clamp_min(0) + model.adapter.up.bias
    return outer * outer.sigmoid()


def enlarge(grid, side=56):
    """Bilinear, the corners of both grids on one another; first along rows, then along columns."""
    at = np.linspace(0, len(grid) - 1, side)
    wide = np.stack([np.interp(at, np.arange(len(grid)), row) for row in grid])
    return np.stack([np.interp(at, np.arange(len(grid)), column) for column in wide.T]).T


def softmax_grid(tokens, pair):
    """(N, D) against [F_n, F_a]: the two probabilities of every patch, (2, G, G)."""
    side = round(len(tokens) ** 0.5)
    logits = 100 * (tokens / tokens.norm(dim=1, keepdim=True)) @ pair.T
    exp = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return (exp / exp.sum(1, keepdims=True)).T.reshape(2, side, side)


def slow_maps(model, features, i, pair):
    """Eq. 2 head by head and kernel by kernel: [normal, abnormal] of every head, (5, 2, S, S)."""
    maps = []
    for head, tap in zip(model.linear_heads, features.ordinary, strict=True):
        maps.append(softmax_grid(tap[i, 1:] @ head.weight.T + head.bias, pair))
    for head, tap in zip(model.mmci_heads, features.vv, strict=True):
        grid = tap[i, 1:].T.reshape(1, -1, 4, 4)
        outputs = []
        for conv in head.branches:
            h, w = conv.kernel_size
            out = F.conv2d(grid, conv.weight, conv.bias, padding=(h // 2, w // 2))
            outputs.append(softmax_grid(out[0].flatten(1).T, pair))
        maps.append(np.mean(outputs, axis=0))
    return np.stack([[enlarge(channel) for channel in one] for one in maps])


@torch.no_grad()
def slow_predict(model, images, class_names, positions):
    features, scores, maps = model.clip.vision(images, model.config.features_list, False), [], []
    for i, (class_name, where) in enumerate(zip(class_names, positions, strict=True)):
        g = slow_adapter(model, features.image[i])
        g = g / g.norm()
        pair = slow_pair(model, g, class_name, where)
        normal, abnormal = slow_maps(model, features, i, pair).mean(0)
        maps.append(gaussian_filter((abnormal + 1 - normal) / 2, 4, mode="mirror", truncate=4))
        n, a = (pair @ g / 0.07).double().exp().tolist()
        scores.append(a / (n + a) + maps[-1].max())
    return np.array(scores), np.stack(maps)


def test_the_papers_prediction_equals_a_slow_version(build, images):
    model = build(PAPER)
    scores, maps = slow_predict(model, images, CLASSES, POSITIONS)
    found = model.predict(images, CLASSES, POSITIONS)
    np.testing.assert_allclose(found.maps.numpy(), maps, atol=2e-5)
    np.testing.assert_allclose(found.scores.numpy(), scores, atol=2e-5)


@torch.no_grad()
def test_the_papers_local_loss_equals_a_slow_version(build, images, masks):
    model, parts = build(PAPER), []
    features = model.image_features(images)
    for i, class_name in enumerate(CLASSES):
        unit = features.image[i] / features.image[i].norm()
        maps = slow_maps(model, features, i, slow_pair(model, unit, class_name))
        normal, abnormal = maps.mean(0)  # the aggregated map, not smoothed
        y = masks[i].double().numpy()
        soft = y.clip(1e-5, 1 - 1e-5)
        pt = abnormal * soft + normal * (1 - soft) + 1e-5
        focal = -((1 - pt) ** 2 * np.log(pt)).mean()
        dices = [(p * t).sum() / ((p**2).sum() + (t**2).sum()) for p, t in ((abnormal, y), (normal, 1 - y))]
        parts.append(focal - sum(dices))
    assert model.local_loss(seen(model, images), CLASSES, masks).item() == pytest.approx(
        np.mean(parts), abs=2e-5
    )


def test_the_papers_global_loss_is_the_cross_entropy_of_half_the_score(build, images):
    model = build(PAPER)
    scores, _ = slow_predict(model, images, CLASSES, [()] * 4)
    p, y = scores / 2, LABELS.numpy()
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert model.global_loss(seen(model, images), CLASSES, LABELS).item() == pytest.approx(expected, abs=2e-5)


# slow versions: the program


@torch.no_grad()
def test_the_programs_scores_and_losses_equal_slow_versions(build, images, masks):
    model = build(OFFICIAL)
    features = model.image_features(images)
    found = model.predict(images, CLASSES, POSITIONS)
    local, glob = [], []
    for i, class_name in enumerate(CLASSES):
        down, up = model.adapter.down.weight, model.adapter.up.weight
        g = F.silu(up @ (down @ features.image[i]).relu()) + features.image[i]
        g = g / g.norm()
        cosine = (slow_pair(model, g, class_name, POSITIONS[i])[1] @ g).item() / 2**0.5
        score = (cosine + found.maps[i].max().item()) / 2
        assert found.scores[i].item() == pytest.approx(score, abs=1e-5)
        logits = (slow_pair(model, g, class_name) @ g).double() / 2**0.5 / 0.07
        glob.append((logits.logsumexp(0) - logits[LABELS[i]]).item())

        unit = features.image[i] / features.image[i].norm()
        pair = slow_pair(model, unit, class_name)[None] / 2**0.5
        one = type(features)(*(part[i : i + 1] if part is features.image else None for part in features))
        one = one._replace(
            ordinary=[t[i : i + 1] for t in features.ordinary], vv=[t[i : i + 1] for t in features.vv]
        )
        total, y = 0.0, masks[i].double()
        for each in model.probability_maps(one, pair):
            normal, abnormal = each[0].double()
            soft = y.clamp(1e-5, 1 - 1e-5)
            pt = abnormal * soft + normal * (1 - soft) + 1e-5
            total += -((1 - pt) ** 2 * pt.log()).mean()
            for p, t in ((abnormal, y), (normal, 1 - y)):  # row by row
                total += (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()
        local.append(total.item())
    assert model.local_loss(seen(model, images), CLASSES, masks).item() == pytest.approx(
        np.mean(local), abs=1e-4
    )
    assert model.global_loss(seen(model, images), CLASSES, LABELS).item() == pytest.approx(
        np.mean(glob), abs=1e-4
    )


@torch.no_grad()
def test_the_programs_maps_are_enlarged_before_their_softmax_and_hardly_smoothed(build, images):
    model = build(OFFICIAL)
    features = model.image_features(images)
    unit = model.global_feature(features, adapted=True)
    text = model.text_features(unit, CLASSES, POSITIONS)
    torch.testing.assert_close(text.flatten(1).norm(dim=1), torch.ones(4))
    probabilities = []
    for i in range(4):
        tokens = [
            t[i, 1:] @ h.weight.T + h.bias for h, t in zip(model.linear_heads, features.ordinary, strict=True)
        ]
        for head, tap in zip(model.mmci_heads, features.vv, strict=True):
            tokens.append(torch.stack(head.each(tap[i : i + 1, 1:])).sum(0)[0])
        abnormal = []
        for one in tokens:
            logits = (100 * one / one.norm(dim=1, keepdim=True) @ text[i].T).T.reshape(2, 4, 4)
            n, a = (enlarge(grid) for grid in logits.double().numpy())
            abnormal.append(1 / (1 + np.exp(n - a)))
        probabilities.append(np.mean(abnormal, axis=0))
    weights = np.exp(-np.array([1, 0, 1]) / (2 * 4.0**2))
    weights /= weights.sum()
    padded = np.pad(probabilities, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    smooth = sum(
        weights[r] * weights[c] * padded[:, r : r + 56, c : c + 56] for r in range(3) for c in range(3)
    )
    np.testing.assert_allclose(model.predict(images, CLASSES, POSITIONS).maps.numpy(), smooth, atol=2e-5)


# what is trained


def gradients(model):
    groups = model.trained_parameters()
    return {
        name: [p.grad is not None and p.grad.any().item() for p in group] for name, group in groups.items()
    }


@both_presets
def test_each_stage_trains_its_own_part_and_clip_never(build, images, masks, config):
    model = build(config).train()
    assert not model.clip.training and not any(module.training for module in model.clip.modules())
    before = {name: t.clone() for name, t in model.clip.state_dict().items()}
    model.local_loss(seen(model, images), CLASSES, masks).backward()
    found = gradients(model)
    assert all(found["decoder"]) and all(found["prompts"]) and not any(found["adapter"])
    assert all(p.grad is None for p in model.adapter.parameters())
    model.zero_grad(set_to_none=True)
    model.global_loss(seen(model, images), CLASSES, LABELS).backward()
    found = gradients(model)
    assert all(found["adapter"]) and not any(found["decoder"]) and not any(found["prompts"])
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("adapter."))
    assert all(not p.requires_grad and p.grad is None for p in model.clip.parameters())
    assert all(torch.equal(t, before[name]) for name, t in model.clip.state_dict().items())


@both_presets
def test_a_few_steps_lower_both_losses(build, images, masks, config):
    model = build(config)
    groups = model.trained_parameters()
    for parameters, loss in (
        (
            groups["decoder"] + groups["prompts"],
            lambda: model.local_loss(seen(model, images), CLASSES, masks),
        ),
        (groups["adapter"], lambda: model.global_loss(seen(model, images), CLASSES, LABELS)),
    ):
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.5, 0.999))
        first = loss().item()
        for _ in range(5):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert loss().item() < first


@both_presets
def test_the_groups_are_the_whole_trained_part_and_each_tensor_once(build, config):
    model = build(config)
    grouped = [p for group in model.trained_parameters().values() for p in group]
    named = [p for name, p in model.named_parameters() if not name.startswith("clip.")]
    assert {id(p) for p in grouped} == {id(p) for p in named} and len(grouped) == len(named)
    state = model.trained_state()
    assert len(state) == len(named) and not any("clip" in name for name in state)


# the trained state


def test_a_trained_state_comes_back_in_a_fresh_model(build, images, clips):
    model = build(OFFICIAL)
    other = FiLoModel(clips["gelu"], OFFICIAL, model.encoder.texts)
    other.load_trained_state(model.trained_state())
    first, second = (m.predict(images, CLASSES) for m in (model, other))
    assert torch.equal(first.scores, second.scores) and torch.equal(first.maps, second.maps)


def without(state):
    return {name: t for name, t in state.items() if name != "normal_prompt.ctx"}


SPOILT = {
    "one is missing": (without, "normal_prompt.ctx", "found none"),
    "one is left over": (lambda s: {**s, "zebra.weight": torch.zeros(2)}, "zebra.weight", "wanted none"),
    "one of CLIP's is there": (lambda s: {**s, "clip.x": torch.zeros(2)}, "clip.x", "wanted none"),
    "one has another shape": (
        lambda s: {**s, "normal_prompt.ctx": torch.zeros(4, 24)},
        "normal_prompt.ctx",
        "wanted (3, 24), found (4, 24)",
    ),
    "there are none": (lambda s: {}, "abnormal_prompt.ctx", "found none"),
}


@pytest.mark.parametrize(("spoil", "name", "words"), SPOILT.values(), ids=SPOILT)
def test_a_state_that_does_not_fit_is_one_line_and_changes_nothing(build, spoil, name, words):
    model = build(OFFICIAL)
    before = {name: t.clone() for name, t in model.trained_state().items()}
    spoilt = spoil({name: t + 1 for name, t in before.items()})
    with pytest.raises(InputError) as caught:
        model.load_trained_state(spoilt)
    message = str(caught.value)
    assert words in message and len(message.splitlines()) == 1
    assert name in message
    assert all(torch.equal(t, before[name]) for name, t in model.trained_state().items())


def test_weights_of_the_other_preset_are_refused(build):
    with pytest.raises(InputError, match=r"2 tensors .* adapter.down.bias"):
        build(PAPER).load_trained_state(build(OFFICIAL).trained_state())


def test_taps_that_the_clip_does_not_have_are_refused(tiny_clip):
    with pytest.raises(InputError, match="between 1 and 4"):
        FiLoModel(tiny_clip, FiLoConfig(), {})


# boxes


@both_presets
def test_boxes_name_the_position_and_weaken_the_map_elsewhere(build, images, config):
    model = build(config)
    names = ["pasta", "candle"]
    plain = model.predict(images[:2], names, positions=[[6], [4]])
    boxed = model.predict(images[:2], names, boxes=[BOXES, NO_BOX])
    weights = torch.full((2, 56, 56), 0.7)
    weights[0, 36:53, 2:19] = 1  # 56 * (0.65, 0.05) = 36.4, 2.8; 56 * (0.95, 0.35) = 53.2, 19.6
    torch.testing.assert_close(boxed.maps, plain.maps * weights)


def test_the_peak_is_taken_before_or_after_weighting(build, images):
    paper = replace(PAPER, boxes=replace(PAPER.boxes, peak_before_weighting=True))
    for config, before in ((OFFICIAL, True), (PAPER, False), (paper, True)):
        model = build(config)
        plain = model.predict(images[:1], ["candle"], positions=[[4]])
        boxed = model.predict(images[:1], ["candle"], boxes=[NO_BOX])
        lost = (plain.scores - boxed.scores).item()
        share = 0.5 if config.image_score == "cosine" else 1.0
        assert lost == pytest.approx(0 if before else 0.3 * share * plain.maps.max().item(), abs=1e-6)


@both_presets
def test_a_batch_with_boxes_equals_one_by_one(build, images, config):
    model, boxes = build(config), [BOXES, OVER_EDGE, NO_BOX, BOXES]
    together = model.predict(images, CLASSES, boxes=boxes)
    for i in range(4):
        alone = model.predict(images[i : i + 1], CLASSES[i : i + 1], boxes=boxes[i : i + 1])
        torch.testing.assert_close(together.scores[i : i + 1], alone.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.maps[i : i + 1], alone.maps, atol=1e-5, rtol=0)


# parts switched off


def test_every_ablation_changes_what_is_predicted(build, images):
    names, boxes = ["pasta", "candle"], [BOXES, BOXES]
    whole = build(OFFICIAL).predict(images[:2], names, boxes=boxes)
    for part in ABLATIONS:
        less = build(ablate(OFFICIAL, [part])).predict(images[:2], names, boxes=boxes)
        assert (less.maps - whole.maps).abs().max() > 1e-4, part


def test_without_grounding_and_position_boxes_mean_nothing(build, images):
    model = build(ablate(OFFICIAL, ["grounding", "position"]))
    boxed, plain = model.predict(images[:1], ["nut"], boxes=[BOXES]), model.predict(images[:1], ["nut"])
    assert torch.equal(boxed.maps, plain.maps)
    assert torch.equal(boxed.scores, plain.scores)


def test_kernels_that_are_switched_off_count_as_zero(build, weights, images):
    zeroed = dict(weights)
    for name, tensor in weights.items():
        if name.startswith("mmci_heads.") and int(name.split(".")[3]) in (4, 5):  # 1x5 and 5x1
            zeroed[name] = torch.zeros_like(tensor)
    reference = build(OFFICIAL)
    reference.load_trained_state({name: zeroed[name] for name in reference.trained_state()})
    found = build(ablate(OFFICIAL, ["shapes"]))
    assert found.mmci_heads[0].branches[0].kernel_size == (1, 1)
    assert len(found.mmci_heads[0].branches) == 4
    torch.testing.assert_close(
        found.predict(images, CLASSES).maps, reference.predict(images, CLASSES).maps, atol=1e-5, rtol=0
    )
    crosses = build(ablate(OFFICIAL, ["scales"])).mmci_heads[0].branches
    assert [conv.kernel_size for conv in crosses] == [(1, 5), (5, 1)]
    assert torch.equal(crosses[0].weight, weights["mmci_heads.0.branches.4.weight"])


def test_without_any_kernel_the_linear_heads_are_left(build, images):
    model = build(ablate(OFFICIAL, ["shapes", "scales"]))
    assert not [name for name in model.trained_state() if name.startswith("mmci")]
    features = model.image_features(images)
    text = model.text_features(model.global_feature(features, True), CLASSES)
    assert len(model.probability_maps(features, text)) == 3


def test_without_a_learned_template_texts_do_not_depend_on_the_image(build, images):
    model = build(ablate(OFFICIAL, ["template"]))
    assert not model.trained_parameters()["prompts"]
    image = model.global_feature(model.image_features(images), True)
    text = model.text_features(image, ["nut"] * 4)
    assert (text == text[:1]).all()
    texts = model.encoder.texts["nut"]
    assert texts.normal[1] == "a photo of a flawless nut."
    slow = F.normalize(model.clip.text(model.clip.text.grow(texts.normal))[0], dim=-1).mean(0)
    torch.testing.assert_close(F.normalize(text[0, 0], dim=0), F.normalize(slow, dim=0), atol=1e-5, rtol=0)


def test_without_descriptions_the_general_states_are_left(book):
    texts = book.texts(["nut"], "official", False, described=False)["nut"]
    assert texts.abnormal[::9] == tuple(
        f"{state} at top left."
        for state in ("damaged nut", "broken nut", "nut with flaw", "nut with defect", "nut with damage")
    )
    paper = book.texts(["nut"], "paper", False, described=False)["nut"]
    assert paper.abnormal[::9] == ("abnormal nut at top left.", "damaged nut at top left.")


@pytest.mark.parametrize("part", [part for part in ABLATIONS if part not in ("grounding", "position")])
def test_what_is_left_can_be_trained(build, images, masks, part):
    model = build(ablate(OFFICIAL, [part]))
    model.local_loss(seen(model, images), CLASSES, masks).backward()
    groups = model.trained_parameters()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in groups["decoder"] + groups["prompts"])
    model.global_loss(seen(model, images), CLASSES, LABELS).backward()


# the config


@pytest.mark.parametrize("field", DIFFERENT)
@pytest.mark.parametrize(
    ("one", "other"), [(OFFICIAL, PAPER), (PAPER, OFFICIAL)], ids=["to paper", "to official"]
)
def test_every_field_that_the_presets_differ_in_changes_something(outputs, one, other, field):
    switched = replace(one, **{field: getattr(other, field)})
    pairs = zip(outputs(one), outputs(switched), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > 1e-4


@pytest.mark.parametrize(
    ("field", "value", "changes"),
    [
        ("image_score", "softmax", [True, False, False, False]),
        ("blur_kernel", 33, [True, True, False, False]),
        ("dice_over", "image", [False, False, True, False]),
        ("dice_form", "squared", [False, False, True, False]),
        ("local_loss", "mean", [False, False, True, False]),
        ("global_loss", "score", [False, False, False, True]),
        ("adapter_residual", False, [True, True, False, True]),
        ("mmci_combine", "probabilities", [True, True, True, False]),
        ("softmax_at", "grid", [True, True, True, False]),
    ],
)
def test_a_field_changes_what_it_is_about_and_nothing_else(outputs, field, value, changes):
    """Of scores, maps, loss of stage 1 and loss of stage 2."""
    pairs = zip(outputs(OFFICIAL), outputs(replace(OFFICIAL, **{field: value})), strict=True)
    assert [not torch.equal(a, b) for a, b in pairs] == changes


def test_the_defaults_are_the_published_programs():
    assert FiLoConfig() == PRESETS["official"]
    assert {f.name for f in fields(FiLoConfig)} >= {*DIFFERENT, *OF_DATA} and len(DIFFERENT) == 16


@pytest.mark.parametrize(
    "config", [*PRESETS.values(), OFFICIAL, replace(PAPER, mmci_shapes=((1, 3), (5, 5)))]
)
def test_a_config_comes_back_from_json(config):
    assert config_from_dict(json.loads(json.dumps(asdict(config)))) == config


WRONG = {
    "a field that is missing": (lambda c: {k: v for k, v in c.items() if k != "joint_norm"}, "joint_norm"),
    "a field that is unknown": (lambda c: {**c, "temperature": 3}, "temperature"),
    "an unknown choice": (
        lambda c: {**c, "local_loss": "median"},
        "local_loss 'median': wanted 'each' or 'mean'",
    ),
    "a text for a switch": (lambda c: {**c, "joint_norm": "false"}, "joint_norm 'false': wanted bool"),
    "a text for a number": (lambda c: {**c, "n_ctx": "12"}, "n_ctx '12': wanted int"),
    "a number for a list": (lambda c: {**c, "features_list": 6}, "features_list"),
    "a list of numbers for shapes": (lambda c: {**c, "mmci_shapes": [1, 3]}, "mmci_shapes"),
    "a list": (lambda c: [c], "config"),
    "boxes without a field": (lambda c: {**c, "boxes": {"lower_case": True}}, "cut_scores"),
    "boxes of another type": (
        lambda c: {**c, "boxes": {**c["boxes"], "wrap_corners": 1}},
        "wrap_corners of boxes is 1, wanted bool",
    ),
    "boxes that are none": (lambda c: {**c, "boxes": True}, "boxes True: wanted BoxRules"),
    "a weight above one": (
        lambda c: {**c, "boxes": {**c["boxes"], "outside_weight": 1.5}},
        "boxes BoxRules",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), WRONG.values(), ids=WRONG)
def test_a_config_of_another_version_is_one_line(spoil, words):
    with pytest.raises(InputError) as caught:
        config_from_dict(spoil(json.loads(json.dumps(asdict(PAPER)))))
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_choice_that_does_not_exist_is_refused_at_once():
    with pytest.raises(InputError, match="activation 'relu': wanted 'gelu' or 'quick_gelu'"):
        replace(FiLoConfig(), activation="relu")


def test_a_preset_is_known_by_its_quirks_and_not_by_its_sizes():
    assert preset_name(FiLoConfig()) == preset_name(OFFICIAL) == "official"
    assert preset_name(PRESETS["paper"]) == preset_name(PAPER) == "paper"
    assert preset_name(replace(OFFICIAL, joint_norm=False)) == "custom"
    assert preset_name(config_from_dict(json.loads(json.dumps(asdict(PAPER))))) == "paper"
