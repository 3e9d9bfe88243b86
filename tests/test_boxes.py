"""Boxes as the published program uses them; `FILO_BOXES_GOLDEN` names another file of recorded numbers."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from filo.grounding.boxes import PRESETS, counts, find_position, to_corners, weight_map
from filo.prompts import FOLDER

DEFAULT = Path(__file__).parent / "golden" / "filo_boxes.json"
GOLDEN = json.loads(Path(os.environ.get("FILO_BOXES_GOLDEN", DEFAULT)).read_text())
POSITIONS = json.loads((FOLDER / "templates.json").read_text())["positions"]
OFFICIAL, PAPER = PRESETS["official"], PRESETS["paper"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: " ".join(case["phrases"]) or "no box")
def test_position_and_map_are_the_published_programs(case):
    side, words = GOLDEN["image_size"], GOLDEN["descriptions"] + GOLDEN["general"]
    anomaly_map = np.random.default_rng(GOLDEN["map_seed"]).random((side, side)).astype(np.float32)
    boxes = to_corners(np.array(case["boxes_cxcywh01"], np.float32).reshape(-1, 4), side)
    parts = [re.fullmatch(r"(.*)\((.*)\)", phrase).groups() for phrase in case["phrases"]]
    kept = [i for i, (phrase, _) in enumerate(parts) if counts(phrase, words, OFFICIAL)]
    scores = np.array([float(score) for _, score in parts])
    position = find_position(boxes[kept], scores[kept], side, OFFICIAL)
    assert ([] if position is None else [POSITIONS[position]]) == case["position"]
    weighted = weight_map(anomaly_map, boxes[kept], OFFICIAL)
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
    weighted = weight_map(np.ones((3, 5), np.float32), boxes, OFFICIAL)
    assert weighted.dtype == np.float32
    low = np.float32(0.7)
    assert weighted.tolist() == [[1, 1, 1, 1, low], [low, 1, 1, 1, low], [low] * 5]


def test_a_box_over_the_left_edge_is_clipped_by_the_paper_and_lost_by_the_program():
    box = np.array([[-2.0, 0.0, 2.0, 3.0]])
    ones = np.ones((3, 5), np.float32)
    assert (weight_map(ones, box, PAPER)[:, :2] == 1).all()
    assert (weight_map(ones, box, OFFICIAL) < 1).all()  # columns -2 (that is 3) to 2: none


def test_without_boxes_everything_is_weakened():
    assert (weight_map(np.ones((2, 2), np.float32), np.empty((0, 4)), PAPER) == np.float32(0.7)).all()
