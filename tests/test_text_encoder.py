"""Which description fits an image: every one compared by itself, written out."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from filo.methods.filo import FiLoModel
from filo.methods.filo_config import PRESETS
from filo.prompts import PromptBook

CONFIGS = {name: replace(preset, features_list=(1, 2, 4)) for name, preset in PRESETS.items()}
DESCRIPTIONS = ["rust", "a dent", "a crack near the edge"]


@pytest.fixture(scope="module")
def build(tiny_clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "nuts.json"
    described = [{"text": text} for text in DESCRIPTIONS]
    classes = {
        "nut": {"name": "nut", "descriptions": described},
        "bolt": {"name": "bolt", "descriptions": []},
    }
    path.write_text(json.dumps({"classes": classes}))
    book = PromptBook([path])

    def build(preset="official", classes=("nut",)):
        torch.manual_seed(4)
        texts = book.texts(classes, CONFIGS[preset].templates, False)
        return FiLoModel(tiny_clip, CONFIGS[preset], texts)

    return build


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(5))


def slowly(model, image, wanted):
    """The cosine of an image with the mean of the texts among which `wanted` picks."""
    unit = F.normalize(model.adapter(model.image_features(image).image), dim=-1)
    texts = model.encoder.texts["nut"]
    means = []
    for prompt, side in ((model.normal_prompt, texts.normal), (model.abnormal_prompt, texts.abnormal)):
        chosen = [text for text in side if wanted(text)]
        if chosen:
            tower, ctx = model.clip.text, prompt(unit)
            each = [F.normalize(tower(tower.grow([text], ctx.shape[1]), ctx)[0, 0], dim=0) for text in chosen]
            means.append(F.normalize(torch.stack(each).mean(0), dim=0))
    return [(mean @ unit[0]).item() for mean in means]


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("positions", [[], [2], [0, 7]])
def test_every_description_is_compared_by_itself(build, image, preset, positions):
    model = build(preset)
    places = [model.encoder.texts["nut"].positions[p] for p in positions]
    found = model.predict(image, ["nut"], [positions]).similarities[0].tolist()
    with torch.no_grad():
        normal = slowly(model, image, lambda text: " at " not in text)
        wanted = normal + [
            slowly(
                model,
                image,
                lambda text, d=d: (
                    f" with {d} at" in text
                    and (not places or any(text.endswith(f"at {place}.") for place in places))
                ),
            )[0]
            for d in DESCRIPTIONS
        ]
    assert found == pytest.approx(wanted, abs=1e-5) and len(set(found)) == 4


def test_a_class_nobody_described_is_compared_with_what_is_normal_alone(build, image):
    model = build(classes=("nut", "bolt"))
    nut, bolt = model.predict(image.repeat(2, 1, 1, 1), ["nut", "bolt"]).similarities
    assert len(nut) == 4 and len(bolt) == 1


def test_the_position_is_the_one_given_or_where_the_map_peaks(build, image):
    model = build()
    assert model.predict(image, ["nut"], [[7]]).positions == (7,)
    found = model.predict(image, ["nut"])
    row, column = divmod(found.maps[0].argmax().item(), 56)
    assert found.positions == (3 * (3 * row // 56) + 3 * column // 56,)


def test_every_text_belongs_to_what_is_normal_to_one_description_or_to_none(build, image):
    model = build(classes=("nut", "bolt"))
    unit = F.normalize(model.image_features(image).image, dim=-1).repeat(2, 1)
    ctx = torch.stack([model.normal_prompt(unit), model.abnormal_prompt(unit)], dim=1)
    found = model.encoder.encode(unit, ["nut", "bolt"], [[4, 1], []], ctx.shape[2], ctx)
    normal, nut, general = [1] + 3 * [0], [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], 4 * [0]
    at_one_position = [*nut, *5 * [general]]  # templates.json: one described state, five general ones
    assert found.kinds[0].T.tolist() == [*7 * [normal], *2 * at_one_position]
    assert found.kinds[1].tolist() == [7 * [1] + 5 * 9 * [0]]
    assert [len(texts) for texts in found.texts] == [7 + 2 * 8, 7 + 5 * 9]
    means = [kinds @ texts for kinds, texts in zip(found.kinds, found.texts, strict=True)]
    assert all(torch.allclose(F.normalize(m[0], dim=0), p[0]) for m, p in zip(means, found.pair, strict=True))
