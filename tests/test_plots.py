"""Heatmaps: one scale for all, colours in order for every eye, outlines and boxes where they belong."""

import numpy as np
import pytest
from PIL import Image

from filo.plots import NATURAL, Scale, heatmap, overlay, run_scale, with_bar

GREY = Image.new("RGB", (80, 60), (128, 128, 128))
LEVELS = np.linspace(0, 1, 33, dtype=np.float32)[None]
# what people without red or green cones see, linear RGB (Vienot, Brettel and Mollon 1999)
NO_RED = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
NO_GREEN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def pixels(picture):
    return np.asarray(picture).astype(int)


def lightness(colours):
    linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def test_lightness_rises_evenly_so_that_colours_keep_their_order_in_grey():
    steps = np.diff(lightness(heatmap(LEVELS, NATURAL)[0].astype(float))[1:])
    assert (steps > 0).all() and steps.max() < 2.5 * steps.mean()


@pytest.mark.parametrize("cones", [NO_RED, NO_GREEN], ids=["no red cones", "no green cones"])
def test_levels_stay_apart_for_the_colour_blind(cones):
    linear = (heatmap(LEVELS[:, ::8], NATURAL)[0] / 255) ** 2.2
    seen = (linear @ cones.T).clip(0, 1) ** (1 / 2.2) * 255
    assert (np.linalg.norm(np.diff(seen, axis=0), axis=1) > 35).all()


def test_a_value_has_one_colour_whatever_else_is_in_its_map():
    scale = Scale(0.2, 0.6, "a test")
    calm, loud = np.full((2, 2), 0.3), np.array([[0.3, 0.9], [0.1, 0.5]])
    assert np.array_equal(heatmap(calm, scale)[0, 0], heatmap(loud, scale)[0, 0])
    ends = heatmap(np.array([[-5, 0.2, 0.6, 7]]), scale)[0]
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[2], ends[3])


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, np.nan), (-np.inf, 1)])
def test_a_scale_rises(ends):
    with pytest.raises(ValueError, match="wanted two rising numbers"):
        Scale(*ends, "a test")


def test_the_scale_of_a_run_is_that_of_all_its_values_together():
    rng = np.random.default_rng(0)
    maps = [rng.beta(2, 8, (30 + i, 40)) for i in range(5)]
    scale = run_scale(iter(maps))
    values = np.concatenate([m.ravel() for m in maps])
    expected = np.quantile(values, [0.5, 0.999])
    assert [scale.low, scale.high] == pytest.approx(expected, abs=2e-3)
    assert "5 maps of this run" in scale.origin
    assert run_scale(maps[::-1]) == scale


@pytest.mark.parametrize("maps", [[], [np.full((4, 4), 0.3)], [np.zeros((2, 2)), np.zeros((3, 3))]])
def test_without_a_spread_the_scale_is_the_natural_one(maps):
    assert run_scale(maps) == NATURAL


def test_an_image_shows_through_less_the_higher_the_value():
    ramp = np.repeat(np.linspace(0, 1, 80)[None], 60, 0)
    row = pixels(overlay(GREY, ramp, NATURAL))[30]
    assert row[0].tolist() == [128, 128, 128]
    striped = Image.fromarray(np.tile(np.uint8([[[0] * 3], [[255] * 3]]), (30, 80, 1)))
    striped = pixels(overlay(striped, ramp, NATURAL))
    contrast = np.abs(striped[31] - striped[30]).sum(1)
    assert contrast[0] == 765 and contrast[-1] > 80  # still recognisable under the highest value
    assert (np.diff(contrast) <= 0).all()


def test_a_map_of_any_size_covers_the_whole_image():
    corner = np.zeros((4, 4))
    corner[3, 3] = 1
    changed = (pixels(overlay(GREY, corner, NATURAL)) != 128).any(2)
    assert changed.shape == (60, 80) and changed[-1, -1] and not changed[:30, :40].any()


@pytest.mark.parametrize("ground", [0, 255])
def test_an_outline_is_seen_on_dark_and_on_light_and_covers_no_defect(ground):
    image, mask = Image.new("RGB", (80, 60), (ground,) * 3), np.zeros((60, 80), bool)
    mask[20:24, 30:33] = True
    drawn = pixels(overlay(image, np.zeros((6, 8)), NATURAL, mask))
    assert (drawn[mask] == ground).all()
    changed = (drawn != ground).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert 14 <= rows[0] < 20 and 24 <= rows[-1] < 30
    assert 24 <= columns[0] < 30 and 33 <= columns[-1] < 39


def test_a_mask_of_another_size_fits_and_an_empty_one_changes_nothing():
    small, whole = np.zeros((6, 8), bool), np.zeros((60, 80), bool)
    assert overlay(GREY, np.zeros((6, 8)), NATURAL, small) == overlay(GREY, np.zeros((6, 8)), NATURAL)
    small[2, 3] = whole[20:30, 30:40] = True
    images = [overlay(GREY, np.zeros((6, 8)), NATURAL, mask) for mask in (small, whole)]
    assert images[0] == images[1]


@pytest.mark.parametrize(
    "corners",
    [(10, 10, 40, 30), (0, 0, 80, 60), (79, 59, 80, 60), (5.4, 5.4, 5.4, 5.4), (-9, -9, 500, 500)],
    ids=str,
)
def test_boxes_are_drawn_wherever_they_lie(corners):
    box = {"corners": corners, "score": 0.51, "phrase": "a very long phrase of a defect, beyond the image"}
    drawn = overlay(GREY, np.zeros((6, 8)), NATURAL, boxes=[box])
    assert drawn.size == GREY.size and drawn != GREY


def test_a_box_without_words_leaves_its_inside_alone():
    drawn = pixels(overlay(GREY, np.zeros((6, 8)), NATURAL, boxes=[{"corners": (10, 10, 40, 30)}]))
    changed = (drawn != 128).any(2)
    assert changed[10:31, 10:41].any() and not changed[15:26, 15:36].any()
    changed[10:31, 10:41] = False
    assert not changed.any()


def test_a_caption_stands_below_and_wraps():
    plain, short, long = (
        overlay(GREY, np.zeros((6, 8)), NATURAL, caption=text)
        for text in ("", "0.5", "score 0.51, anomalous, ünïcödé 漢字, " * 4)
    )
    assert plain.size == GREY.size and plain.size[1] < short.size[1] < long.size[1]
    assert np.array_equal(pixels(long)[:60], pixels(plain))


def test_a_bar_shows_every_colour_and_says_what_the_ends_are():
    picture = with_bar(GREY.resize((400, 300)), Scale(0.25, 0.75, "the calibration"))
    assert picture.width > 400 and picture.height > 300  # the origin is written below
    beside = {tuple(colour) for colour in pixels(picture)[:300, 400:].reshape(-1, 3).tolist()}
    for colour in heatmap(np.array([[0.25, 0.75]]), Scale(0.25, 0.75, ""))[0]:
        assert tuple(colour.tolist()) in beside
    assert (pixels(picture)[:300, :400] == 128).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7)])
def test_odd_images_do_not_break(size):
    image, mask = Image.new("RGB", size), np.ones(size[::-1], bool)
    box = {"corners": (0, 0, *size), "score": 0.5, "phrase": "rust"}
    assert (
        with_bar(overlay(image, np.ones((3, 3)), NATURAL, mask, [box], "all of it"), NATURAL).width > size[0]
    )
