"""Metrics: answers by hand, equality with scikit-learn and with slow loops over thresholds and regions."""

import tracemalloc

import cv2
import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from filo import metrics
from filo.metrics import COLUMNS, binary_metrics, class_metrics, mean_metrics, pixel_metrics

SEEDS = range(5)


def stack(*images):
    return np.array(images, np.float32)


def random_maps(seed, levels=None, dtype=np.float32, n=3, side=14):
    """Maps loosely tied to their masks, rounded to a few levels for many ties; the last image is normal."""
    rng = np.random.default_rng(seed)
    masks = rng.random((n, side, side)) > rng.uniform(0.55, 0.9)
    masks[-1] = False
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(0, 3)
    if levels:
        maps = np.round(maps * levels / 6) / levels
    return maps.astype(dtype), masks


def regions_of(masks, connectivity=8):
    for index, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)
        for region in range(1, count):
            yield index, labels == region


def slow_exact_aupro(maps, masks, connectivity=8):
    regions = list(regions_of(masks, connectivity))
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        fpr.append(found[~masks].mean())
        pro.append(np.mean([found[index][region].mean() for index, region in regions]))
    fpr, pro = np.array(fpr), np.array(pro)
    inside = fpr <= 0.3
    after = int(np.argmax(~inside))  # the first point beyond the limit
    slope = (pro[after] - pro[after - 1]) / (fpr[after] - fpr[after - 1])
    at_limit = pro[after - 1] + slope * (0.3 - fpr[after - 1])
    return auc(np.append(fpr[inside], 0.3), np.append(pro[inside], at_limit)) / 0.3


def slow_legacy_aupro(maps, masks):
    lowest, highest = maps.min(), maps.max()
    regions, fpr, pro = list(regions_of(masks)), [], []
    for threshold in np.arange(lowest, highest, (highest - lowest) / 200):
        found = maps > threshold
        fpr.append(found[~masks].mean())
        pro.append(np.mean([found[index][region].mean() for index, region in regions]))
    fpr, pro = np.array(fpr), np.array(pro)
    pro, fpr = pro[fpr < 0.3], fpr[fpr < 0.3]
    return auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), pro)


def sklearn_metrics(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    return {
        "auroc": roc_auc_score(labels, scores),
        "f1": np.nanmax(f1),
        "ap": average_precision_score(labels, scores),
    }


def test_scores_in_order_by_hand():
    # descending labels 1 0 1 0: 3 of 4 pairs in order; precision 1 and 2/3 at the hits; best F1 at P 2/3, R 1
    assert binary_metrics([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(
        {"auroc": 3 / 4, "f1": 4 / 5, "ap": (1 + 2 / 3) / 2}
    )


def test_tied_scores_are_one_threshold():
    # one threshold finds both anomalous samples and one normal, the pairs inside the tie count half
    assert binary_metrics([0.5, 0.5, 0.5, 0.1], [1, 0, 1, 0]) == pytest.approx(
        {"auroc": 3 / 4, "f1": 4 / 5, "ap": 2 / 3}
    )


def test_constant_scores_are_chance():
    assert binary_metrics([7, 7, 7, 7], [0, 0, 0, 1]) == pytest.approx({"auroc": 0.5, "f1": 0.4, "ap": 0.25})


def test_hopeless_scores_have_an_f1_above_zero():
    assert binary_metrics([0.1, 0.9], [1, 0]) == pytest.approx({"auroc": 0.0, "f1": 2 / 3, "ap": 0.5})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [2, 10, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn(seed, levels, dtype):
    maps, masks = random_maps(seed, levels, dtype)
    expected = sklearn_metrics(maps.ravel(), masks.ravel())
    assert binary_metrics(maps.ravel(), masks.ravel().astype(int)) == pytest.approx(expected, abs=1e-12)
    pixel = pixel_metrics(maps, masks)
    assert {name: pixel[f"{name}_px"] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_exact_aupro_by_hand():
    # Ten normal pixels. Threshold 9 finds half of the only region, 8 one normal pixel, 7 the other half and
    # 4 normal pixels: the curve goes (0, 0) (0, .5) (.1, .5) and rises to (.5, 1), passing (.3, .75)
    maps = stack([[9, 7, 8, 7], [7, 7, 7, 1], [1, 1, 1, 1]])
    masks = np.zeros((1, 3, 4), bool)
    masks[0, 0, :2] = True
    assert pixel_metrics(maps, masks)["aupro"] == pytest.approx((0.1 * 0.5 + 0.2 * (0.5 + 0.75) / 2) / 0.3)


def test_legacy_aupro_by_hand():
    # Ten normal pixels, two of them above 0, a region at 1 and 100: thresholds 0, 0.5, .. 99.5. 0 and 0.5
    # give (fpr .2, pro 1), 1 to 9.5 (.2, .5), 10 to 49.5 (.1, .5) and from 50 on (0, .5). Stretched, fpr ends
    # at 1, where the fall from pro 1 to .5 has no area
    maps = stack([[100, 1, 10, 50], [0, 0, 0, 0], [0, 0, 0, 0]])
    masks = np.zeros((1, 3, 4), bool)
    masks[0, 0, :2] = True
    assert pixel_metrics(maps, masks)["aupro_legacy"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [2, 10, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_aupro_equals_a_loop_over_every_threshold(seed, levels, dtype):
    maps, masks = random_maps(seed, levels, dtype)
    assert pixel_metrics(maps, masks)["aupro"] == pytest.approx(slow_exact_aupro(maps, masks), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [10, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_legacy_aupro_equals_a_loop_over_its_thresholds(seed, levels, dtype):
    maps, masks = random_maps(seed, levels, dtype)
    expected = slow_legacy_aupro(maps, masks)
    assert pixel_metrics(maps, masks)["aupro_legacy"] == pytest.approx(expected, abs=1e-12)


def test_legacy_thresholds_may_be_200_or_201():
    lengths = set()
    for seed in range(30):
        lowest, highest = np.sort(np.random.default_rng(seed).random(2, dtype=np.float32))
        lengths.add(len(metrics._legacy_thresholds(lowest, highest)))
    assert lengths == {200, 201}


def test_many_small_chunks_change_nothing(monkeypatch):
    maps, masks = random_maps(3, levels=5)
    whole = pixel_metrics(maps, masks)
    monkeypatch.setattr(metrics, "CHUNK", 7)
    assert pixel_metrics(maps, masks) == pytest.approx(whole, abs=1e-12)


def test_quantized_maps_score_like_their_floats():
    maps, masks = random_maps(1)
    levels = np.clip(maps * 40 + 100, 0, 255).astype(np.uint8)
    assert pixel_metrics(levels, masks) == pytest.approx(pixel_metrics(levels.astype(np.float64), masks))


def test_pixels_that_touch_at_a_corner_are_one_region():
    # one region of 3 pixels, 2 of them found at fpr 0; by edges alone it would be two, 1/1 and 1/2 found
    maps = stack([[9, 0, 0, 0], [0, 9, -1, 0], [0, 0, 0, 0]])
    masks = np.zeros((1, 3, 4), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 1, 2] = True
    assert pixel_metrics(maps, masks)["aupro"] == pytest.approx(2 / 3)
    assert slow_exact_aupro(maps, masks, connectivity=4) == pytest.approx(3 / 4)


def test_regions_are_not_joined_across_images():
    # at the same place in both images: 1 of 1 pixel found and 0 of 3 make 1/2; one region would make 1/4
    maps = np.zeros((2, 4, 5), np.float32)
    masks = np.zeros((2, 4, 5), bool)
    masks[0, 0, 0] = masks[1, 0, :3] = True
    maps[0, 0, 0], maps[1, 0, :3] = 2, -1
    assert pixel_metrics(maps, masks)["aupro"] == pytest.approx(1 / 2)


def test_the_order_of_images_does_not_matter():
    maps, masks = random_maps(5, n=6)
    scores, labels = maps.max((1, 2)), masks.any((1, 2))
    order = np.random.default_rng(0).permutation(6)
    shuffled = class_metrics(scores[order], labels[order], maps[order], masks[order])
    assert shuffled == pytest.approx(class_metrics(scores, labels, maps, masks), abs=1e-12)


def test_only_legacy_aupro_depends_on_more_than_the_order_of_scores():
    maps, masks = random_maps(6, dtype=np.float64)
    before, after = pixel_metrics(maps, masks), pixel_metrics(np.exp(5 * maps), masks)
    assert abs(before.pop("aupro_legacy") - after.pop("aupro_legacy")) > 1e-3
    assert before == pytest.approx(after, abs=1e-12)


def test_inputs_are_left_alone_and_need_not_be_contiguous():
    maps, masks = random_maps(2)
    maps_before, masks_before = maps.copy(), masks.copy()
    turned = pixel_metrics(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1))
    assert turned == pytest.approx(pixel_metrics(maps, masks), abs=1e-12)
    assert np.array_equal(maps, maps_before) and np.array_equal(masks, masks_before)


def test_plus_and_minus_zero_are_one_score():
    assert binary_metrics([0.0, -0.0], [0, 1])["auroc"] == binary_metrics([-0.0, 0.0], [0, 1])["auroc"] == 0.5


def test_a_constant_map_is_chance_without_legacy_aupro():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 0, :2] = True
    assert pixel_metrics(np.full((1, 4, 4), 0.5, np.float32), masks) == pytest.approx(
        # the curve is the diagonal: area 0.3^2 / 2, over 0.3
        {"auroc_px": 0.5, "f1_px": 2 / 9, "ap_px": 1 / 8, "aupro": 0.15, "aupro_legacy": None}
    )


def test_legacy_aupro_is_undefined_when_its_points_share_one_rate():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 0, :2] = True
    result = pixel_metrics(masks.astype(np.float32), masks)  # a perfect map: fpr is 0 at all thresholds
    assert result == {"auroc_px": 1, "f1_px": 1, "ap_px": 1, "aupro": pytest.approx(1), "aupro_legacy": None}


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_defines_nothing(label):
    maps, masks = np.random.default_rng(0).random((2, 5, 5)), np.full((2, 5, 5), bool(label))
    assert class_metrics([0.1, 0.2], [label, label], maps, masks) == dict.fromkeys(COLUMNS)


def test_no_images_define_nothing():
    nothing = class_metrics([], [], np.empty((0, 5, 5), np.float32), np.empty((0, 5, 5), bool))
    assert nothing == dict.fromkeys(COLUMNS)


def test_a_class_without_maps_has_image_metrics_only():
    result = class_metrics([0.1, 0.9], [0, 1])
    assert tuple(result) == COLUMNS
    assert {name for name, value in result.items() if value is not None} == {"auroc_sp", "f1_sp", "ap_sp"}


def test_results_are_plain_floats():
    maps, masks = random_maps(0)
    result = class_metrics(maps.max((1, 2)), masks.any((1, 2)), maps, masks)
    assert {type(value) for value in result.values()} == {float}


def test_the_mean_leaves_out_undefined_values():
    rows = [{"a": 0.5, "b": None, "c": None}, {"a": 1.0, "b": 0.25, "c": None}]
    assert mean_metrics(rows) == {"a": 0.75, "b": 0.25, "c": None}
    assert mean_metrics([]) == dict.fromkeys(COLUMNS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rejects_values_that_are_not_finite(value):
    maps, masks = random_maps(0)
    maps[1, 2, 3:5] = value
    with pytest.raises(ValueError, match=r"maps are not finite: 2 of 588"):
        pixel_metrics(maps, masks)
    with pytest.raises(ValueError, match=r"scores are not finite: 1 of 2"):
        binary_metrics([0.5, value], [0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [0, 1, 1]), r"scores \(2,\) and labels \(3,\)"),
        (([0.1, 0.2], [0, 255]), r"labels must be 0 .* got \[0, 255\]"),
        (([0.1, 0.2], [0, 1], np.zeros((2, 3, 3))), "maps and masks belong together"),
        (([0.1, 0.2], [0, 1], np.zeros((1, 3, 3)), np.zeros((1, 3, 3), bool)), "1 maps for 2 image scores"),
        (([0.1], [0], np.zeros((1, 3, 3)), np.zeros((1, 3, 4), bool)), r"one shape \(n, H, W\)"),
        (([0.1], [0], np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3), bool)), r"one shape \(n, H, W\)"),
        (([0.1], [0], np.zeros((1, 3, 3)), np.zeros((1, 3, 3), np.uint8)), "masks must be bool, got uint8"),
        (
            ([0.1], [0], np.zeros((1, 3, 3), int), np.zeros((1, 3, 3), bool)),
            "maps must be floats .* got int64",
        ),
    ],
)
def test_rejects_input_that_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        class_metrics(*arguments)


@pytest.mark.parametrize("anomalous", [0.02, 0.9], ids=["few", "most"])
def test_memory_is_at_most_twice_what_is_given_that_included(anomalous):
    rng = np.random.default_rng(0)
    maps = rng.random((83, 256, 256), np.float32)  # as in the benchmark, of half the side
    masks = np.zeros(maps.shape, bool)
    masks[:60, :, : round(256 * anomalous)] = True
    tracemalloc.start()
    class_metrics(maps.max((1, 2)), masks.any((1, 2)), maps, masks)
    beside = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    given = maps.nbytes + masks.nbytes
    assert given + beside <= 2 * given
