"""What there is to say of all images of a run together, told from their records one after the other: how
many, what failed and why, how the scores lie, which are the highest. A million take 8 MB.
"""

import heapq
import re
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from filo.records import Record

NAMED = 20  # failed images that are named
REASONS = 50  # that are told apart
OTHERS = "other reasons"
NORMAL = "what is normal"  # beside the descriptions of anomalies

SORTS = ("mean", "normal", "anomalous")  # the first where nobody knows

Sort = Callable[[Record], str]


@dataclass
class Mean:
    """A mean of what is added to it."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


class Tally:
    """What is counted over the images of one class.

    Attributes:
        threshold: of the first image that was given one
        scores: of each sort of images, in order
        cosines: of each sort, the mean cosine of each description and of what is normal
        lowest, highest: of all cosines, 0 and 0.01 if they lie within
        has_boxes, has_outlines: whether any image has
    """

    def __init__(self, sort: Sort, most: int | None) -> None:
        self.sort, self.most = sort, most
        self.scores: dict[str, array] = defaultdict(lambda: array("d"))
        self.cosines: dict[str, dict[str, Mean]] = defaultdict(lambda: defaultdict(Mean))
        self.threshold: float | None = None
        self.lowest, self.highest = 0.0, 0.01
        self.has_boxes = self.has_outlines = False
        self._held: list[tuple[float, int, Record]] = []

    def add(self, record: Record) -> None:
        sort = self.sort(record)
        self.threshold = record.threshold if self.threshold is None else self.threshold
        self.scores[sort].append(record.score)
        if record.kinds:
            for kind, value in ((NORMAL, record.normal_similarity), *record.kinds):
                self.cosines[sort][kind].add(value)
                self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
        self.has_boxes |= bool(record.boxes)
        self.has_outlines |= bool(record.has_mask and record.label)
        entry = (record.score, -record.index, record)
        if self.most is None or len(self._held) < self.most:
            heapq.heappush(self._held, entry)
        else:
            heapq.heappushpop(self._held, entry)

    @property
    def images(self) -> int:
        return sum(map(len, self.scores.values()))

    def scores_of(self, *sorts: str) -> np.ndarray:
        """Give the scores of images of these sorts, float64."""
        return np.concatenate([np.empty(0), *(np.array(self.scores.get(sort, ())) for sort in sorts)])

    @property
    def anomalous(self) -> int | None:
        """How many images are; None where nobody knows."""
        count = len(self.scores.get("anomalous", ()))
        is_known = count or self.scores.get("normal") or not self.scores.get("mean")
        return count if is_known else None

    @property
    def records(self) -> list[Record]:
        """The images with the highest scores, `most` of them or all, in the order of the run."""
        return sorted((record for _, _, record in self._held), key=lambda record: record.index)


def falling(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (-record.score, record.index))


class Summary:
    """What is counted over all images of a run, which hold no more than `most` records of each class.

    Attributes:
        classes: by name, those of `names` first
        failed: how many images did
        reasons: why, and how often, the most frequent first
        named: the first of those that failed
    """

    def __init__(self, sort: Sort, most: int | None = None, names: Iterable[str] = ()) -> None:
        self._sort, self._most = sort, most
        self.classes = {name: Tally(sort, most) for name in names}
        self.failed, self.named = 0, []
        self._reasons: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        if not record.error:
            if record.class_name not in self.classes:
                self.classes[record.class_name] = Tally(self._sort, self._most)
            self.classes[record.class_name].add(record)
            return
        self.failed += 1
        if len(self.named) < NAMED:
            self.named.append(record)
        reason = reason_of(record)
        is_known = reason in self._reasons or len(self._reasons) < REASONS
        self._reasons[reason if is_known else OTHERS] += 1

    @property
    def images(self) -> int:
        return self.failed + sum(tally.images for tally in self.classes.values())

    @property
    def reasons(self) -> dict[str, int]:
        return dict(self._reasons.most_common())

    @property
    def status(self) -> int:
        """What the command leaves with: 0 if every image was done, 1 if some failed, 2 if all did."""
        return 0 if not self.failed else 1 if self.failed < self.images else 2

    def describe(self) -> dict:
        """Give what a run keeps of it beside the classes."""
        named = [{"image": record.image, "error": record.error} for record in self.named]
        return {"images": self.images, "images_failed": self.failed, "failed": named, "reasons": self.reasons}

    def describe_classes(self) -> dict[str, dict]:
        return {
            name: {"images": tally.images, "anomalous": tally.anomalous}
            for name, tally in self.classes.items()
        }


def summarise(
    records: Iterable[Record], sort: Sort, most: int | None = None, names: Iterable[str] = ()
) -> Summary:
    """Take down all records."""
    summary = Summary(sort, most, names)
    for record in records:
        summary.add(record)
    return summary


def by_decision(thresholds: Mapping[str, float] | None = None) -> Sort:
    """Sort images by these thresholds of their classes, or else by the one that they were given."""
    given = thresholds or {}

    def sort(record: Record) -> str:
        threshold = given.get(record.class_name, record.threshold)
        return "mean" if threshold is None else "anomalous" if record.score >= threshold else "normal"

    return sort


def by_label(record: Record) -> str:
    return "anomalous" if record.label == 1 else "normal"


def reason_of(record: Record) -> str:
    """Say why an image failed so that others failed for the same reason: without names and numbers."""
    text = record.error.replace(record.image, "…")
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*", "…", text)
    return re.sub(r"\d[\d.,]*", "…", text)[:120]


def say_what_failed(summary: Summary, path: object) -> None:
    """Name the first images that failed on stderr, and if there are more, the reasons and where all are."""
    for record in summary.named:
        print(f"failed: {record.image}: {record.error}", file=sys.stderr)
    if summary.failed > len(summary.named):
        print(f"and {summary.failed - len(summary.named):,} more failed, see {path}", file=sys.stderr)
        for reason, count in summary.reasons.items():
            print(f"{count:,} failed: {reason}", file=sys.stderr)
