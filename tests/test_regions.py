"""Boxes around the defects of a mask, worked out by hand and against a search from pixel to pixel."""

import numpy as np
import pytest

from filo.grounding.regions import find_regions


def mask_of(*spots, size=(100, 200)):
    """A mask of (x1, y1, x2, y2) rectangles, right and lower edge not included; size is (height, width)."""
    mask = np.zeros(size, bool)
    for x1, y1, x2, y2 in spots:
        mask[y1:y2, x1:x2] = True
    return mask


def boxes_of(mask, min_area=0.0, merge_distance=0.0):
    return [tuple(box) for box in find_regions(mask, min_area, merge_distance).boxes.tolist()]


def test_a_box_ends_behind_the_last_pixel():
    assert boxes_of(mask_of((10, 20, 13, 21))) == [(10, 20, 13, 21)]
    assert boxes_of(np.ones((4, 6), bool)) == [(0, 0, 6, 4)]
    assert boxes_of(mask_of((199, 99, 200, 100))) == [(199, 99, 200, 100)]


def test_pixels_that_touch_by_a_corner_are_one_defect():
    assert boxes_of(mask_of((0, 0, 2, 2), (2, 2, 4, 4))) == [(0, 0, 4, 4)]
    assert boxes_of(mask_of((0, 0, 2, 2), (3, 2, 5, 4))) == [(0, 0, 2, 2), (3, 2, 5, 4)]


def test_two_specks_near_each_other_get_one_box():
    # from pixel 11 to pixel 15 it is 4 pixels: 4% of the shorter side, 100
    specks = mask_of((10, 50, 12, 52), (15, 50, 17, 52))
    assert boxes_of(specks, merge_distance=0.04) == [(10, 50, 17, 52)]
    assert boxes_of(specks, merge_distance=0.03) == [(10, 50, 12, 52), (15, 50, 17, 52)]
    assert find_regions(specks, 0, 0.04).areas.tolist() == [8]


def test_the_distance_is_rounded_to_whole_pixels():
    specks = mask_of((10, 50, 12, 52), (14, 50, 17, 52))  # from pixel 11 to 14
    assert [len(boxes_of(specks, merge_distance=d)) for d in (0.024, 0.026)] == [2, 1]


def test_both_directions_must_be_near():
    specks = mask_of((10, 50, 11, 51), (14, 53, 15, 54))  # 4 to the right, 3 down
    assert len(boxes_of(specks, merge_distance=0.04)) == 1
    assert len(boxes_of(specks, merge_distance=0.03)) == 2


def test_a_chain_of_specks_is_one_defect():
    dots = mask_of(*((x, 40, x + 1, 41) for x in range(20, 80, 5)))
    assert boxes_of(dots, merge_distance=0.05) == [(20, 40, 76, 41)]


def test_a_lone_speck_is_dropped_and_counted():
    found = find_regions(mask_of((10, 10, 30, 20), (150, 80, 152, 82)), 0.001, 0.01)  # 20 of 20000 pixels
    assert found.boxes.tolist() == [[10, 10, 30, 20]]
    assert found.areas.tolist() == [200] and found.dropped == 1


def test_what_has_just_enough_pixels_is_kept():
    masks = [mask_of((10, 10, 30, 20), (150, 80, 150 + width, 81)) for width in (19, 20)]
    assert [find_regions(mask, 0.001, 0.01).dropped for mask in masks] == [1, 0]


def test_specks_are_measured_after_they_are_joined():
    specks = mask_of((10, 10, 13, 14), (14, 10, 17, 14))  # 12 pixels each
    assert [len(boxes_of(specks, 0.001, d)) for d in (0.0, 0.02)] == [1, 1]
    assert find_regions(specks, 0.001, 0.0).dropped == 1  # too small both, so the first is kept
    assert find_regions(specks, 0.001, 0.02).dropped == 0


def test_an_image_of_nothing_but_specks_keeps_the_largest():
    found = find_regions(mask_of((10, 10, 11, 11), (50, 50, 52, 52), (90, 90, 91, 92)), 0.001, 0.01)
    assert found.boxes.tolist() == [[50, 50, 52, 52]] and found.dropped == 2


def test_a_blank_mask_has_no_boxes():
    found = find_regions(np.zeros((5, 7), bool), 0.001, 0.01)
    assert found.boxes.shape == (0, 4) and found.areas.shape == (0,) and found.dropped == 0


def test_boxes_come_from_top_to_bottom_and_left_to_right():
    spots = [(5, 5, 6, 6), (50, 5, 51, 6), (0, 30, 1, 31), (150, 90, 151, 91)]
    assert boxes_of(mask_of(*spots[::-1])) == spots


def test_areas_belong_to_their_boxes():
    found = find_regions(mask_of((50, 5, 53, 6), (5, 5, 7, 7), (0, 30, 1, 31)), 0, 0)
    assert found.boxes.tolist() == [[5, 5, 7, 7], [50, 5, 53, 6], [0, 30, 1, 31]]
    assert found.areas.tolist() == [4, 3, 1]


def test_a_ring_and_the_speck_inside_it_stay_two():
    ring = mask_of((20, 20, 60, 60))
    ring[25:55, 25:55] = False
    ring[40, 40] = True
    assert boxes_of(ring) == [(20, 20, 60, 60), (40, 40, 41, 41)]


def slow_groups(mask, reach):
    """Walk from pixel to pixel, never further than `reach` along rows and columns."""
    left = set(map(tuple, np.argwhere(mask)))
    while left:
        group, frontier = set(), [left.pop()]
        while frontier:
            y, x = frontier.pop()
            group.add((y, x))
            near = {(v, u) for v, u in left if abs(v - y) <= reach and abs(u - x) <= reach}
            left -= near
            frontier += near
        ys, xs = zip(*group, strict=True)
        yield (min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(group)


@pytest.mark.parametrize("reach", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("density", [0.01, 0.04, 0.2])
def test_any_mask_gives_what_a_walk_from_pixel_to_pixel_finds(reach, density):
    random = np.random.default_rng(reach)
    for shape in ((20, 33), (41, 20), (1, 20), (20, 1)):
        mask = random.random(shape) < density
        if not mask.any():
            continue
        found = find_regions(mask, 0, reach / min(shape))
        pairs = list(zip(map(tuple, found.boxes.tolist()), found.areas.tolist(), strict=True))
        assert sorted(pairs) == sorted(slow_groups(mask, reach))


def test_a_turned_mask_has_turned_boxes():
    mask = np.random.default_rng(0).random((60, 40)) < 0.02
    turned = {(y1, x1, y2, x2) for x1, y1, x2, y2 in boxes_of(mask, 0.0, 0.07)}
    assert set(boxes_of(mask.T, 0.0, 0.07)) == turned
