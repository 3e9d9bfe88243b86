"""Boxes as the published program uses them; `FILO_BOXES_GOLDEN` names another file of recorded numbers."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from filo.grounding.boxes import (
    PRESETS,
    Boxes,
    Detection,
    Thresholds,
    counts,
    cut,
    find_position,
    join_tokens,
    locate,
    map_weights,
    select,
    to_corners,
)
from filo.prompts import FOLDER

DEFAULT = Path(__file__).parent / "golden" / "filo_boxes.json"
GOLDEN = json.loads(Path(os.environ.get("FILO_BOXES_GOLDEN", DEFAULT)).read_text())
POSITIONS = json.loads((FOLDER / "templates.json").read_text())["positions"]
OFFICIAL, PAPER = PRESETS["official"], PRESETS["paper"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: " ".join(case["phrases"]) or "no box")
def test_position_and_map_are_the_published_programs(case):
    side, words = GOLDEN["image_size"], GOLDEN["descriptions"] + GOLDEN["general"]
    anomaly_map = np.random.default_rng(GOLDEN["map_seed"]).random((side, side)).astype(np.float32)
    boxes = np.array(case["boxes_cxcywh01"], np.float32).reshape(-1, 4)
    parts = [re.fullmatch(r"(.*)\((.*)\)", phrase).groups() for phrase in case["phrases"]]
    scores = np.array([float(score) for _, score in parts])
    found = Boxes(boxes, scores, tuple(phrase for phrase, _ in parts))
    corners, position = locate(found, words, side, OFFICIAL)
    assert ([] if position is None else [POSITIONS[position]]) == case["position"]
    weighted = anomaly_map * map_weights(corners, side, OFFICIAL)
    assert weighted.mean() == pytest.approx(case["map_mean"], abs=1e-6)
    np.testing.assert_allclose(weighted.mean(1)[::37], case["map_rows"], atol=1e-6)
    np.testing.assert_allclose(weighted.mean(0)[::37], case["map_cols"], atol=1e-6)


def test_corners_by_hand():
    boxes = np.array([[0.5, 0.25, 0.5, 0.5], [0.0, 0.5, 0.2, 0.2]])
    assert to_corners(boxes, 100).tolist() == [[25, 0, 75, 50], [-10, 40, 10, 60]]


@pytest.mark.parametrize(
    ("centre", "official"), [(0, 0), (172, 0), (172.5, None), (173, 1), (344, 1), (344.5, None)]
)
def test_bins_of_the_program_are_closed_with_gaps_between(centre, official):
    box = np.array([[centre - 1, 9, centre + 1, 11]])
    assert find_position(box, np.ones(1), 518, OFFICIAL) == official
    assert find_position(box, np.ones(1), 518, PAPER) == int(centre * 3 / 518)


@pytest.mark.parametrize(("centre", "paper"), [(-5, 0), (517, 2), (517.5, 2), (600, 2)])
def test_a_centre_off_the_image_has_no_position_or_the_nearest(centre, paper):
    box = np.array([[centre - 1, 9, centre + 1, 11]])
    assert find_position(box, np.ones(1), 518, PAPER) == paper
    assert find_position(box, np.ones(1), 518, OFFICIAL) == (2 if centre == 517 else None)


def test_positions_go_row_by_row():
    for cell in range(9):
        x, y = 15 + 30 * (cell % 3), 15 + 30 * (cell // 3)
        for rules in (OFFICIAL, PAPER):
            assert find_position(np.array([[x - 2, y - 2, x + 2, y + 2]]), np.ones(1), 90, rules) == cell


def test_the_best_box_names_the_position_and_on_a_tie_the_later_one():
    boxes = np.array([[0, 0, 10, 10], [80, 0, 90, 10], [0, 80, 10, 90]])
    assert find_position(boxes, np.array([0.9, 0.8, 0.7]), 90, OFFICIAL) == 0
    assert find_position(boxes, np.array([0.5, 0.8, 0.8]), 90, OFFICIAL) == 6
    assert find_position(boxes[:0], np.empty(0), 90, OFFICIAL) == 4


def test_a_description_with_a_capital_counts_in_the_paper_only():
    assert counts("unusual odor spot", ["unusual odor"], OFFICIAL)
    assert not counts("unusual odor", ["Unusual odor"], OFFICIAL)
    assert counts("unusual odor", ["Unusual odor"], PAPER)
    assert not counts("odor", ["unusual odor"], PAPER)


def test_the_union_of_boxes_stays_and_the_rest_is_weakened():
    boxes = np.array([[0.0, 0.0, 2.9, 1.2], [1.0, 0.0, 4.0, 2.0]])
    weights = map_weights(boxes, 5, OFFICIAL)
    assert weights.dtype == np.float32
    low = np.float32(0.7)
    assert weights.tolist() == [[1, 1, 1, 1, low], [low, 1, 1, 1, low], *[[low] * 5] * 3]


def test_a_box_over_the_left_edge_is_clipped_by_the_paper_and_lost_by_the_program():
    box = np.array([[-2.0, 0.0, 2.0, 5.0]])
    assert (map_weights(box, 5, PAPER)[:, :2] == 1).all()
    assert (map_weights(box, 5, OFFICIAL) < 1).all()  # columns -2 (that is 3) to 2: none


def test_a_box_wholly_outside_protects_a_strip_at_the_far_side_or_nothing():
    box = np.array([[-3.0, 0.0, -1.0, 5.0]])
    assert (map_weights(box, 5, OFFICIAL)[:, 2:4] == 1).all()  # columns -3 and -2 from the far side
    assert (map_weights(box, 5, PAPER) < 1).all()


def test_without_boxes_everything_is_weakened():
    assert (map_weights(np.empty((0, 4)), 2, PAPER) == np.float32(0.7)).all()


# ---- from probabilities to boxes

TOKENS = ("[CLS]", "bent", "pin", ".", "scratch", "##ed", "surface", ".", "[SEP]")


def detection(*rows):
    """Boxes of one size in a row, each with the probabilities of some tokens, all others 0.1."""
    probabilities = np.full((len(rows), len(TOKENS)), 0.1, np.float32)
    for i, row in enumerate(rows):
        for token, value in row.items():
            probabilities[i, token] = value
    boxes = np.array([[0.1 * (i + 1), 0.5, 0.2, 0.2] for i in range(len(rows))], np.float32)
    return Detection(boxes, probabilities, TOKENS)


def test_likely_boxes_are_kept_with_their_words():
    kept = select(detection({1: 0.6, 2: 0.3}, {}, {4: 0.26, 5: 0.9}), Thresholds())
    assert kept.phrases == ("bent pin", "scratched")
    assert kept.scores.tolist() == pytest.approx([0.6, 0.9])
    assert kept.boxes[:, 0].tolist() == pytest.approx([0.1, 0.3])


def test_a_probability_at_the_threshold_is_not_above_it():
    both = detection({1: 0.5}, {1: 0.25})
    assert len(select(both, Thresholds()).scores) == 1
    assert select(both, Thresholds(text=0.5)).phrases == ("",)


def test_the_text_threshold_is_its_own():
    answer = detection({1: 0.9, 2: 0.5, 6: 0.2})
    assert select(answer, Thresholds(box=0.1, text=0.6)).phrases == ("bent",)
    assert select(answer, Thresholds(box=0.8, text=0.15)).phrases == ("bent pin surface",)


def test_a_large_box_goes():
    answer = detection({1: 0.9}, {1: 0.5})
    answer.boxes[0, 2:] = 0.9
    assert select(answer, Thresholds()).scores.tolist() == pytest.approx([0.5])
    assert len(select(answer, Thresholds(area=0.82)).scores) == 2


def test_if_nothing_is_left_the_best_of_all_stays_however_large_or_unlikely():
    unlikely = detection({1: 0.15}, {4: 0.2, 5: 0.2})
    assert select(unlikely, Thresholds()).boxes[:, 0].tolist() == pytest.approx([0.2])
    assert select(unlikely, Thresholds()).phrases == ("",)
    large = detection({1: 0.9}, {1: 0.2})
    large.boxes[0, 2:] = 0.9
    assert select(large, Thresholds()).phrases == ("bent",)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["bent", "pin", "."], "bent pin."),
        (["un", "##us", "##ual", ",", "odd"], "unusual, odd"),
        (["top", "-", "left", "!"], "top - left!"),
        (["it", "'", "s", "don", "n't"], "it's donn't"),
        (["[CLS]", "crack", "[SEP]"], "[CLS] crack [SEP]"),
        ([], ""),
    ],
)
def test_word_pieces_are_joined_as_the_tokenizer_does(tokens, text):
    assert join_tokens(tokens) == text
    transformers = pytest.importorskip("transformers")
    decoder = transformers.BertTokenizer.clean_up_tokenization
    assert decoder(" ".join(tokens).replace(" ##", "")) == text


# ---- from boxes to a place


def boxes_at(*centres, scores, phrases):
    boxes = np.array([[x, y, 0.1, 0.1] for x, y in centres], np.float32).reshape(-1, 4)
    return Boxes(boxes, np.array(scores, np.float32), tuple(phrases))


def test_only_boxes_that_count_say_where():
    found = boxes_at((0.1, 0.1), (0.9, 0.9), scores=[0.9, 0.5], phrases=["table", "bent pin"])
    corners, position = locate(found, ["bent pin", "defect"], 90, PAPER)
    np.testing.assert_allclose(corners, [[76.5, 76.5, 85.5, 85.5]], atol=1e-4)
    assert position == 8
    corners, position = locate(found, ["crack"], 90, PAPER)
    assert corners.shape == (0, 4)
    assert position == 4


def test_scores_that_are_written_alike_tie_in_the_program_only():
    found = boxes_at((0.1, 0.1), (0.9, 0.9), scores=[0.309, 0.301], phrases=["dent", "dent"])
    assert locate(found, ["dent"], 90, OFFICIAL)[1] == 8
    assert locate(found, ["dent"], 90, PAPER)[1] == 0


@pytest.mark.parametrize("value", [0.309, 0.29, 0.5, 0.57, 1.0, 0.07, 0.8999999])
def test_a_score_is_cut_as_its_first_four_characters(value):
    score = np.array([value], np.float32)
    assert cut(score)[0] == float(str(score.item())[:4])


def test_a_rejected_box_stays_unscaled_in_the_program_and_protects_one_pixel_at_most():
    for size, pixels in ((1.0, 1), (0.99, 0)):
        found = Boxes(np.array([[0.5, 0.5, size, size]], np.float32), np.ones(1, np.float32), ("table",))
        corners, position = locate(found, ["dent"], 90, OFFICIAL)
        assert (map_weights(corners, 90, OFFICIAL) == 1).sum() == pixels and position == 4
        assert len(locate(found, ["dent"], 90, PAPER)[0]) == 0


@pytest.mark.parametrize("value", [0.29, 0.3, 0.57, 0.07, 0.99])
def test_a_score_that_is_cut_already_stays(value):
    assert cut(np.array([value]))[0] == value


def test_the_position_can_be_switched_off():
    found = boxes_at((0.1, 0.1), scores=[0.9], phrases=["dent"])
    assert locate(found, ["dent"], 90, replace(OFFICIAL, name_position=False))[1] is None
    assert locate(found, ["crack"], 90, replace(OFFICIAL, name_position=False))[1] is None
