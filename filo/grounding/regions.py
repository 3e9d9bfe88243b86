"""Where the defects of an image are: its mask -> boxes, each around defect pixels that lie close together."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Regions:
    """Boxes (K, 4), XYXY in pixels of the image, right and lower edge not included, from top to bottom.

    `areas` (K,) counts the defect pixels in each; `dropped` is how many more were too small.
    """

    boxes: np.ndarray
    areas: np.ndarray
    dropped: int


def find_regions(mask: np.ndarray, min_area: float, merge_distance: float) -> Regions:
    """Put boxes around the defects of a boolean mask (H, W).

    Defect pixels belong together if they are at most `merge_distance` of the shorter side apart, along rows
    and columns, or if they touch, also by a corner; so do those that a chain of others joins. What has fewer
    pixels than the share `min_area` of the image is dropped; if all have, the largest is kept.
    """
    if not mask.any():
        return Regions(np.empty((0, 4), int), np.empty(0, int), 0)
    boxes, areas = _measure(*_group(mask, max(1, round(merge_distance * min(mask.shape)))))
    order = np.lexsort(boxes.T[[2, 3, 0, 1]])  # by upper edge, then left
    boxes, areas = boxes[order], areas[order]
    kept = areas >= min_area * mask.size
    if not kept.any():
        kept[areas.argmax()] = True
    return Regions(boxes[kept], areas[kept], int((~kept).sum()))


def _group(mask: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give rows, columns and group numbers of all defect pixels."""
    # blown up to squares of this side, two pixels touch if and only if they are at most that far apart
    blown_up = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    _, labels = cv2.connectedComponents(blown_up, connectivity=8)
    rows, columns = mask.nonzero()
    return rows, columns, labels[rows, columns] - 1


def _measure(rows: np.ndarray, columns: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the box and the number of pixels of every group."""
    count = groups.max() + 1
    boxes = np.empty((count, 4), int)
    for i, values in ((0, columns), (1, rows)):
        boxes[:, i], boxes[:, i + 2] = np.iinfo(int).max, -1
        np.minimum.at(boxes[:, i], groups, values)
        np.maximum.at(boxes[:, i + 2], groups, values + 1)
    return boxes, np.bincount(groups, minlength=count)
