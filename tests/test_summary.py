"""What there is to say of all images of a run together, and that hardly any of them are held for it."""

import tracemalloc

import numpy as np
import pytest

from filo.records import Record
from filo.summary import OTHERS, by_decision, by_label, falling, reason_of, say_what_failed, summarise


def scored(*scores, name="nut", **fields):
    return [Record(i, f"{i}.png", name, score=score, **fields) for i, score in enumerate(scores)]


def failures(*errors):
    return [Record(i, f"parts/{i}.png", "nut", error=error) for i, error in enumerate(errors)]


def test_images_are_counted_by_class_and_decision():
    given = scored(0.1, 0.7, 0.5, threshold=0.5) + scored(0.3, name="bolt") + failures("gone")
    found = summarise(given, by_decision(), names=("screw",))
    assert found.images == 5 and found.failed == 1 and found.status == 1
    assert found.describe_classes() == {
        "screw": {"images": 0, "anomalous": 0},
        "nut": {"images": 3, "anomalous": 2},
        "bolt": {"images": 1, "anomalous": None},
    }
    assert summarise(given, by_decision({"nut": 0.6, "bolt": 0.2})).classes["bolt"].anomalous == 1
    assert summarise([], by_decision()).status == 0 and summarise(failures("a"), by_label).status == 2


def test_the_highest_scores_are_held_and_of_equal_ones_the_first():
    tally = summarise(scored(0.5, 0.9, 0.5, 0.1, 0.5), by_decision(), most=3).classes["nut"]
    assert [record.index for record in falling(tally.records)] == [1, 0, 2]
    assert tally.images == 5 and tally.scores_of("mean", "normal").tolist() == [0.5, 0.9, 0.5, 0.1, 0.5]
    assert tally.scores_of("normal").tolist() == []


def test_cosines_are_means_of_each_sort():
    given = scored(0.1, label=0, normal_similarity=0.5, kinds=(("dent", 0.25), ("rust", -0.5)))
    given += scored(0.2, 0.3, label=1, normal_similarity=0.75, kinds=(("dent", 0.5),))
    tally = summarise(given, by_label).classes["nut"]
    means = {sort: {kind: mean.value for kind, mean in own.items()} for sort, own in tally.cosines.items()}
    assert means == {
        "normal": {"what is normal": 0.5, "dent": 0.25, "rust": -0.5},
        "anomalous": {"what is normal": 0.75, "dent": 0.5},
    }
    assert (tally.lowest, tally.highest) == (-0.5, 0.75)


def test_images_that_fail_for_the_same_reason_are_counted_together(capsys):
    errors = [f"cannot be read (cannot identify 'parts/{i}.png', {i} bytes)" for i in range(25)]
    found = summarise(failures(*errors, "no such file", "no such file"), by_decision())
    assert found.reasons == {"cannot be read (cannot identify …, … bytes)": 25, "no such file": 2}
    assert (
        found.describe()["images_failed"] == 27 and len(found.describe()["failed"]) == len(found.named) == 20
    )
    say_what_failed(found, "run/failed.txt")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("failed: parts/0.png: cannot be read") and len(lines) == 23
    assert lines[20:] == [
        "and 7 more failed, see run/failed.txt",
        "25 failed: cannot be read (cannot identify …, … bytes)",
        "2 failed: no such file",
    ]


def test_reasons_without_end_become_others():
    words = ["".join(chr(97 + int(c)) for c in f"{i:03d}") for i in range(90)]
    reasons = summarise(failures(*words), by_decision()).reasons
    assert len(reasons) == 51 and reasons[OTHERS] == 40


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("a/b.png: broken at 12.5 %", "…: broken at … %"),
        ('"x y" of /a/b c', "… of … c"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_reason_has_neither_names_nor_numbers(error, reason):
    assert reason_of(Record(0, "a/b.png", "nut", error=error)) == reason


def test_an_image_takes_eight_bytes():
    def peak(count):
        records = (
            Record(i, f"{i}.png", "nut", score=score, error="" if i % 3 else f"broken {i}")
            for i, score in enumerate(np.random.default_rng(0).random(count))
        )
        tracemalloc.start()
        summary = summarise(records, by_decision(), most=10)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert summary.images == count
        return top

    peak(10)
    small, large = peak(300), peak(3000)
    assert large - small < 2700 * 8 * 2 + 20_000
