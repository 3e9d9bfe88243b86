"""What the small CLIP is pretrained on: nothing of the demo sets, exact masks, captions that are true."""

import json
from dataclasses import fields
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from filo.demo import views
from filo.demo.captions import KINDS, UNKNOWN, Captions, Tokens, View, colour_name
from filo.demo.store import DAMAGED, NEEDS_BACKGROUND, Store, draw_scene, open_store
from filo.demo.views import Scale, draw_region, draw_step, look_through, view_of
from filo.errors import InputError
from filo.synthetic import DATASETS
from filo.synthetic.defects import DEFECTS
from filo.synthetic.families import APART, FAMILIES, draw_look
from filo.synthetic.styles import STYLES, DefectStyle, pick

PROMPTS = Path(__file__).resolve().parents[1] / "prompts"
DEMO_SPECS = [spec for specs in DATASETS.values() for spec in specs]
NOUNS = tuple(noun for family in FAMILIES for noun in family.nouns)


def overlap(first, second) -> bool:
    """Whether two lists of spans share more than an end."""
    return any(max(a, c) < min(b, d) for a, b in first for c, d in second)


@pytest.mark.parametrize("first, second", [*combinations(STYLES, 2)])
@pytest.mark.parametrize("name", [field.name for field in fields(DefectStyle)])
def test_no_two_sets_share_a_parameter_of_their_defects(first, second, name):
    one, other = (getattr(STYLES[each], name) for each in (first, second))
    shared = overlap(one, other) if isinstance(one[0], tuple) and len(one[0]) == 2 else set(one) & set(other)
    assert not shared


def test_a_number_is_drawn_from_all_spans_and_from_nowhere_else():
    spans = ((1.0, 2.0), (5.0, 8.0))
    drawn = np.array([pick(np.random.default_rng(i), spans) for i in range(400)])
    low, high = ((drawn >= a) & (drawn <= b) for a, b in spans)
    assert (low | high).all() and 0.18 < low.mean() < 0.32


def test_no_class_is_drawn_by_a_function_of_the_demo_sets():
    assert not {family.draw for family in FAMILIES} & {spec.draw for spec in DEMO_SPECS}


def test_no_noun_of_the_captions_has_a_word_of_the_demo_classes():
    spoken = []
    for dataset in DATASETS:
        classes = json.loads((PROMPTS / f"demo_{dataset}.json").read_text(encoding="utf-8"))["classes"]
        spoken += [entry["name"] for entry in classes.values()]
    demo = {word for name in spoken for word in name.split()}
    assert not demo & {word for noun in (*NOUNS, *UNKNOWN) for word in noun.split()}


def test_no_colour_comes_near_one_of_the_demo_sets():
    demo = [value for spec in DEMO_SPECS for value in spec.look.values() if isinstance(value, tuple)]
    rng = np.random.default_rng(0)
    for family in FAMILIES * 3:
        look = draw_look(rng, family)
        for name in family.colours:
            assert np.abs(np.subtract(demo, look[name])).max(axis=1).min() > APART


@pytest.mark.parametrize("number", range(len(FAMILIES)), ids=lambda number: FAMILIES[number].nouns[0])
def test_the_damaged_pictures_of_a_scene_differ_from_each_other_within_their_masks(number):
    pictures, masks, record = draw_scene(0, 64, number)
    assert pictures.shape == (1 + DAMAGED, 64, 64, 3) and masks.shape == (DAMAGED, 64, 64)
    assert masks.any((1, 2)).all() and len(set(record.kinds)) == DAMAGED
    again, _, _ = draw_scene(0, 64, number)
    assert (again == pictures).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.nouns[0])
def test_every_scene_is_what_the_defects_expect(family):
    rng = np.random.default_rng(1)
    for _ in range(3):
        scene = family.draw(rng, 64, **draw_look(rng, family))
        assert scene.image.dtype == scene.bare.dtype == np.float32
        assert scene.image.min() >= 0 and scene.image.max() <= 1
        assert scene.body.dtype == bool and scene.parts.dtype == np.int32 and scene.parts.max() >= 1
        for kind in DEFECTS:
            if scene.has_background or kind not in NEEDS_BACKGROUND:
                image, mask = DEFECTS[kind](rng, scene, STYLES["pretraining"])
                assert (image[~mask] == scene.image[~mask]).all()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return open_store(tmp_path_factory.mktemp("store") / "pictures", 0, len(FAMILIES), 64, 1)


def test_a_store_is_opened_again_and_one_of_other_numbers_refused(tmp_path):
    first = open_store(tmp_path / "pictures", 0, 2, 64, 1)
    second = open_store(tmp_path / "pictures", 0, 2, 64, 1)
    assert (first.pictures == second.pictures).all() and first.records == second.records
    assert (first.pictures[1] == draw_scene(0, 64, 1)[0]).all()
    with pytest.raises(InputError, match="not of"):
        open_store(tmp_path / "pictures", 1, 2, 64, 1)


def test_a_step_is_the_same_each_time_and_comes_in_pairs_of_a_scene(store):
    steps = [
        draw_step(np.random.default_rng(0), store, Captions(), Scale(0.5, 0.8, 32), 8, 4) for _ in range(2)
    ]
    assert steps[0].images.equal(steps[1].images) and steps[0].captions == steps[1].captions
    assert steps[0].images.shape == (8, 3, 32, 32) and steps[0].regions.shape == steps[0].covers.shape == (
        8,
        16,
    )
    assert (steps[0].regions.sum(1) - 1).abs().max() < 1e-5
    assert len(steps[0].captions) == len(steps[0].region_captions) == 8


def test_a_caption_names_the_place_where_the_damage_is(store):
    cover = np.zeros((6, 6), np.float32)
    cover[0, 5] = 1.0
    places = Captions().places
    view = view_of(np.random.default_rng(0), store, 3, 1, cover, places)
    assert view.place == "top right" and view.kind == store.records[3].kinds[0]
    assert view_of(np.random.default_rng(0), store, 3, 1, 0 * cover, places).kind == ""


def test_flips_go_along_both_axes_as_told():
    pixels = np.arange(16, dtype=np.float32).reshape(4, 4)
    seen = look_through(pixels, (0, 0, 4), (True, False, False), 4)
    assert (seen == pixels[::-1]).all()
    assert (look_through(pixels, (0, 0, 4), (False, True, True), 4) == pixels[:, ::-1].T).all()
    assert (look_through(pixels, (2, 1, 2), (False,) * 3, 2) == pixels[1:3, 2:4]).all()


def test_the_region_of_a_damaged_picture_is_the_damage_and_that_of_another_often_the_same_place():
    rng, cover, none = np.random.default_rng(0), np.zeros((5, 5), np.float32), np.zeros((5, 5), np.float32)
    cover[1:3, 2] = 0.5
    assert (draw_region(rng, cover, none) == cover).all()
    regions = [draw_region(rng, none, cover) for _ in range(200)]
    assert all(region.any() for region in regions)
    assert 60 < sum((region == cover).all() for region in regions) < 140


def test_where_channels_are_swapped_nothing_is_said_of_colours(store, monkeypatch):
    monkeypatch.setattr(views, "RECOLOURED", 1.0)
    seen = []
    writer = Captions()
    monkeypatch.setattr(writer, "write", lambda rng, view: seen.append(view) or "text")
    swapped = np.random.default_rng(0)
    monkeypatch.setattr(views, "normalise", lambda images: images)
    for _ in range(6):
        draw_step(swapped, store, writer, Scale(0.5, 0.8, 32), 8, 4)
    told = sum(bool(view.colour) for view in seen)
    assert 0 < told < 0.4 * len(seen)  # one order of six leaves them as they are


def test_captions_speak_of_damage_only_where_there_is_some():
    captions, rng = Captions(), np.random.default_rng(0)
    for _ in range(200):
        text = captions.write(rng, View("disc", "red"))
        assert not any(word in text for word in ("damaged", "broken", "abnormal", "crack", " at "))
    told = [captions.write(rng, View("disc", "red", "crack", "dark", "top left")) for _ in range(200)]
    assert sum("at top left." in text for text in told) > 100
    assert sum(any(word in text for word in ("crack", "split", "fracture")) for text in told) > 100


def test_the_sentences_of_the_method_are_among_the_captions():
    captions, rng = Captions(), np.random.default_rng(0)
    view = View("disc", "red", "crack", "", "left")
    written = {captions.write(rng, view) for _ in range(4000)}
    prefix = "X " * 12
    assert f"{prefix}abnormal disc with a jagged crack at left." in written
    assert f"{prefix}damaged disc at left." in written
    assert f"{prefix}flawless disc." in {captions.write(rng, View("disc", "red")) for _ in range(1000)}


def test_every_word_of_a_caption_has_a_row_but_for_the_unknown_nouns():
    captions = Captions()
    tokens = Tokens(captions.words(NOUNS))
    rng = np.random.default_rng(0)
    for kind in ("", *KINDS):
        for _ in range(50):
            text = captions.write(
                rng, View("disc", "red", kind, "brown" if kind else "", "top" if kind else "")
            )
            if not any(noun in text for noun in UNKNOWN):
                rows = tokens.encode([text])[0]
                assert (rows > 0).all(), text
    rows = tokens.encode(["flawless walrus.", "flawless disc."])
    assert (rows[0] == 0).any() and rows.argmax(1).tolist() == [
        int((row == len(tokens) - 1).nonzero()) for row in rows
    ]


@pytest.mark.parametrize(
    "colour, name",
    [
        ((0.05, 0.05, 0.05), "black"),
        ((0.5, 0.5, 0.5), "grey"),
        ((0.9, 0.9, 0.88), "white"),
        ((0.8, 0.1, 0.1), "red"),
        ((0.45, 0.25, 0.1), "brown"),
        ((0.1, 0.6, 0.2), "green"),
        ((0.1, 0.2, 0.8), "blue"),
    ],
)
def test_colours_have_their_names(colour, name):
    assert colour_name(colour) == name
