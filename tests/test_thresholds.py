"""Thresholds by hand, and against slow searches over every threshold there is."""

import math
import re

import numpy as np
import pytest

from filo.thresholds import choose_threshold, rates
from tests.trees import complaint


def f1_at(scores, labels, threshold):
    """F1 from its definition."""
    found = [score >= threshold for score in scores]
    hits = sum(f and label for f, label in zip(found, labels, strict=True))
    precision, recall = hits / max(1, sum(found)), hits / sum(labels)
    return 0.0 if hits == 0 else 2 * precision * recall / (precision + recall)


def drawn(seed, n=40, levels=12):
    """Scores with many ties, labels that go with them a little."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    labels[:2] = 0, 1
    scores = (rng.integers(0, levels, n) + 3 * labels) / levels - 0.5
    return scores.astype(np.float32).tolist(), labels.tolist()


def test_a_clean_split_is_cut_in_its_middle():
    assert choose_threshold([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], "f1", 0) == pytest.approx(0.4)


def test_f1_by_hand():
    # from 0.5 on: 2 of 3 found, 1 false alarm: F1 4/6; from 0.2 on: all found, 2 false alarms: 6/8
    assert choose_threshold([0.1, 0.2, 0.3, 0.5, 0.6, 0.7], [0, 1, 0, 1, 0, 1], "f1", 0) == pytest.approx(
        0.15
    )


def test_of_equally_good_thresholds_the_highest_is_taken():
    # one alarm fewer and one hit fewer: from 0.8 on 2*1/(1+2), from 0.2 on 2*2/(4+2): both 2/3
    assert choose_threshold([0.2, 0.4, 0.6, 0.8], [1, 0, 0, 1], "f1", 0) == pytest.approx(0.7)


def test_equal_scores_are_never_parted():
    assert choose_threshold([0.1, 0.5, 0.5, 0.5], [0, 0, 1, 1], "f1", 0) == pytest.approx(0.3)
    assert choose_threshold([0.5, 0.5], [0, 1], "f1", 0) == 0.5  # all or none


def test_where_every_image_counts_as_anomalous_none_lies_on_the_threshold():
    scores = [0.2, 0.4, 0.6]
    assert choose_threshold(scores, [1, 1, 0], "f1", 0) == pytest.approx(0.1)
    assert choose_threshold(scores, [1, 1, 0], "fpr", 1.0) == pytest.approx(0.1)
    assert choose_threshold(scores, [0, 0, 0], "quantile", 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(30))
def test_no_threshold_has_a_better_f1(seed):
    scores, labels = drawn(seed)
    threshold = choose_threshold(scores, labels, "f1", 0)
    best = max(f1_at(scores, labels, each) for each in scores)
    assert f1_at(scores, labels, threshold) == pytest.approx(best, abs=1e-12)
    assert all(f1_at(scores, labels, each) < best - 1e-12 for each in scores if each >= threshold + 0.09)
    assert rates(scores, labels, threshold)["f1"] == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rate", [0, 0.05, 0.29, 0.5, 1])
def test_the_lowest_threshold_that_keeps_a_false_positive_rate(seed, rate):
    scores, labels = drawn(seed)
    threshold = choose_threshold(scores, labels, "fpr", rate)
    normal = [score for score, label in zip(scores, labels, strict=True) if not label]
    share = sum(score >= threshold for score in normal) / len(normal)
    assert share <= rate and share == rates(scores, labels, threshold)["false_positive_rate"]
    lower = [score for score in scores if score < threshold]
    if lower:
        assert sum(score >= max(lower) for score in normal) / len(normal) > rate


def test_a_rate_that_is_a_whole_number_of_images_is_reached_in_full():
    scores = [i / 100 for i in range(100)]
    threshold = choose_threshold(scores, [0] * 100, "fpr", 0.29)
    assert sum(score >= threshold for score in scores) == 29  # 0.29 * 100 is 28.999999999999996


def test_a_threshold_for_a_rate_lies_between_neighbours_of_either_label():
    assert choose_threshold([0.1, 0.2, 0.3, 0.8], [0, 0, 1, 1], "fpr", 0) == pytest.approx(0.25)


def test_above_the_highest_score_the_next_number_is_taken():
    threshold = choose_threshold([0.1, 0.2], [0, 0], "fpr", 0.2)
    assert threshold == math.nextafter(0.2, 1)


def test_the_quantile_takes_the_cautious_rank():
    scores = [i / 10 for i in range(19)]  # (19 + 1) * 0.9 = rank 18: one above; 0.95: rank 19, none above
    assert choose_threshold(scores, [0] * 19, "quantile", 0.1) == pytest.approx(1.75)
    assert choose_threshold(scores, [0] * 19, "quantile", 0.05) == math.nextafter(1.8, 2)
    assert choose_threshold([*scores, 99], [0] * 19 + [1], "quantile", 0.1) == pytest.approx(1.75)


def test_the_quantile_keeps_its_rate_on_average():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        scores = rng.normal(size=30)
        found.append(scores[29] >= choose_threshold(scores[:29], [0] * 29, "quantile", 0.1))
    assert 2 / 30 - 0.015 < np.mean(found) < 0.1  # 3 / 30 or less, by the half gap to the next score


@pytest.mark.parametrize(
    ("scores", "labels", "rule", "rate", "pattern"),
    [
        ([1, 2], [0, 0], "f1", 0.01, "f1 needs normal and anomalous images, there are no anomalous ones"),
        ([1, 2], [1, 1], "f1", 0.01, "there are no normal ones"),
        ([1, 2], [1, 1], "fpr", 0.01, "fpr needs normal images"),
        ([1], [1], "quantile", 0.01, "quantile needs normal images"),
        ([1] * 98, [0] * 98, "quantile", 0.01, "98 normal images .* takes 99; .* at least 0.0102"),
        ([1] * 2, [0] * 2, "quantile", 0, "infinitely many"),
        ([1, math.nan], [0, 1], "f1", 0.01, "not a finite number"),
    ],
)
def test_too_few_images_are_one_line(scores, labels, rule, rate, pattern):
    assert re.search(pattern, complaint(lambda: choose_threshold(scores, labels, rule, rate)))


@pytest.mark.parametrize(("rate", "count"), [(0.01, 99), (0.02, 49), (0.07, 14), (0.3, 3), (0.5, 1)])
def test_as_many_images_as_the_message_asks_for_are_enough(rate, count):
    assert choose_threshold(list(range(count)), [0] * count, "quantile", rate) > count - 1
    fewer = [0.0] * (count - 1) or [0.0]
    if count > 1:
        message = complaint(lambda: choose_threshold(fewer, [0] * len(fewer), "quantile", rate))
        assert f"takes {count};" in message


def test_rates_are_none_where_a_label_is_missing():
    assert rates([0.1, 0.9], [0, 0], 0.5) == {
        "true_positive_rate": None,
        "false_positive_rate": 0.5,
        "f1": None,
    }
    assert rates([0.1], [1], 0.5)["true_positive_rate"] == 0 and rates([0.1], [1], 0.5)["f1"] is None
