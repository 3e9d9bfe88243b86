"""Curves: answers by hand, and areas as exact as filo.metrics within 1e-3, at next to no memory."""

import json
import tracemalloc

import numpy as np
import pytest

from filo.curves import POINTS, class_curves, thin
from filo.metrics import FPR_LIMIT, class_metrics


def area(curve):
    x, y = map(np.array, curve)
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def areas(curves):
    """What the curves of one class amount to, by the names that filo.metrics has for it."""
    image, pixel = curves["image"], curves["pixel"]
    return {
        "auroc_sp": area(image["roc"]),
        "ap_sp": area(image["pr"]),
        "auroc_px": area(pixel["roc"]),
        "ap_px": area(pixel["pr"]),
        "aupro": area(pixel["pro"]) / FPR_LIMIT,
    }


def blobs(seed, n=12, side=96):
    """Maps that find their rectangles of very different sizes more or less; a third is normal."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, side, side), bool)
    for mask in masks[n // 3 :]:
        for _ in range(3):
            (y, x), (h, w) = rng.integers(0, side - 4, 2), rng.integers(2, side // 4, 2)
            mask[y : y + h, x : x + w] = True
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(0.5, 2.5, (n, 1, 1))
    return maps.astype(np.float32), masks


SHAPES = {
    "even": lambda maps: maps,
    "between 0 and 1": lambda maps: 1 / (1 + np.exp(-maps)),
    "nearly all near 0": lambda maps: np.exp(6 * (maps - 4)),
    "saturated": lambda maps: maps.clip(0, 1),
    "few levels": lambda maps: np.round(maps),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_the_exact_metrics(seed, shape):
    maps, masks = blobs(seed)
    maps = SHAPES[shape](maps).astype(np.float32)
    scores, labels = maps.mean((1, 2)), masks.any((1, 2))
    exact = class_metrics(scores, labels, maps, masks)
    found = areas(class_curves(scores, labels, maps, masks))
    assert found == pytest.approx({name: exact[name] for name in found}, abs=1e-3)


@pytest.mark.parametrize("n", [40, 400, 4000])
def test_areas_over_many_images_are_exact_too(n):
    rng = np.random.default_rng(n)
    labels = rng.random(n) < 0.6
    scores = np.round(rng.normal(size=n) + labels, 2)
    exact = class_metrics(scores, labels)
    curves = class_curves(scores, labels)["image"]
    assert area(curves["roc"]) == pytest.approx(exact["auroc_sp"], abs=1e-3)
    assert area(curves["pr"]) == pytest.approx(exact["ap_sp"], abs=1e-3)


def test_curves_by_hand():
    # falling: anomalous, normal, anomalous, normal
    curves = class_curves(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0]))["image"]
    assert curves["roc"] == [[0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1]]
    assert curves["pr"] == [[0, 0.5, 0.5, 1], [1, 1, 0.66667, 0.66667]]


def test_a_tie_is_one_straight_piece():
    curves = class_curves(np.array([5, 5, 5, 1]), np.array([1, 0, 0, 0]))["image"]
    assert curves["roc"] == [[0, 0.66667, 1], [0, 1, 1]]


def test_overlap_by_hand():
    # ten normal pixels; 9 finds half of the region, 8 a normal pixel, 7 the other half and four normal ones
    maps = np.float32([[[9, 7, 8, 7], [7, 7, 7, 1], [1, 1, 1, 1]]])
    masks = np.zeros((1, 3, 4), bool)
    masks[0, 0, :2] = True
    pixel = class_curves(np.array([1.0]), np.array([1]), maps, masks)["pixel"]
    assert pixel["pro"] == [[0, 0, 0.1, 0.3], [0, 0.5, 0.5, 0.75]]


def test_every_region_counts_the_same_whatever_its_size():
    # the region of one pixel, a corner away from nothing, is missed; the one of nine is found
    maps, masks = np.zeros((1, 6, 6), np.float32), np.zeros((1, 6, 6), bool)
    masks[0, :3, :3] = masks[0, 5, 5] = True
    maps[0, :3, :3] = 1
    pixel = class_curves(np.array([1.0]), np.array([1]), maps, masks)["pixel"]
    assert pixel["pro"][1][1] == 0.5
    masks[0, 3, 3] = masks[0, 4, 4] = True  # now they touch at corners, one region of twelve
    pixel = class_curves(np.array([1.0]), np.array([1]), maps, masks)["pixel"]
    assert pixel["pro"][1][1] == 0.75


def test_curves_are_short_rising_and_fit_for_json():
    maps, masks = blobs(0)
    curves = class_curves(maps.max((1, 2)), masks.any((1, 2)), maps, masks)
    assert json.loads(json.dumps(curves)) == curves
    for curve in [*curves["image"].values(), *curves["pixel"].values()]:
        x, y = curve
        assert 2 <= len(x) == len(y) <= POINTS
        assert all(0 <= value <= 1 for value in [*x, *y])
        assert x == sorted(x)
    assert [curves["pixel"][name][0][-1] for name in ("roc", "pr", "pro")] == [1, 1, FPR_LIMIT]


def test_a_class_that_defines_no_curve_has_none():
    maps, masks = blobs(0)
    assert class_curves(np.array([0.1, 0.2]), np.array([1, 1])) == {"image": None, "pixel": None}
    assert class_curves(np.zeros(12), np.zeros(12), maps, np.zeros_like(masks)) == {
        "image": None,
        "pixel": None,
    }
    assert class_curves(np.zeros(12), masks.any((1, 2)), maps, ~np.zeros_like(masks))["pixel"] is None


def test_memory_stays_far_below_a_copy_of_the_maps():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((40, 300, 300), np.float32), np.zeros((40, 300, 300), bool)
    masks[10:, 50:90, 60:200] = True
    tracemalloc.start()
    try:
        class_curves(maps.max((1, 2)), masks.any((1, 2)), maps, masks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < maps.nbytes / 2


def test_quantized_maps_have_the_curves_of_their_floats():
    maps, masks = blobs(1)
    levels = (SHAPES["between 0 and 1"](maps) * 255).astype(np.uint8)
    of_levels, of_floats = (
        class_curves(np.arange(12), masks.any((1, 2)), each, masks)
        for each in (levels, levels.astype(np.float32))
    )
    assert of_levels == of_floats


def test_thinning_keeps_the_ends_and_drops_points_on_a_line():
    assert thin(np.array([0, 0.25, 0.5, 1]), np.array([0, 0.25, 0.5, 1])) == [[0, 1], [0, 1]]
    x = np.linspace(0, 1, 5000)
    xs, ys = thin(x, x**3)
    assert len(xs) <= POINTS and (xs[0], ys[0], xs[-1], ys[-1]) == (0, 0, 1, 1)
