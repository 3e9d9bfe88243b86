"""How images are looked at one batch after the other, without a model: what is done, and what is held."""

import sys
import tracemalloc
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filo import look, pictures
from filo.errors import ImageError
from filo.inputs import Input
from filo.look import look_at_all
from filo.output import write_failed
from filo.plots import NATURAL
from filo.records import iterate_records, read_records
from filo.result import Result
from filo.summary import by_decision, summarise
from filo.worklist import Worklist

PICTURE = Image.new("RGB", (8, 8))
MAP = np.zeros((8, 8), np.float32)


class Fake:
    """Answers for FiLo; of every hundred images one cannot be judged."""

    def __init__(self):
        self.batches = []

    def judge(self, of_batch, class_name):
        self.batches.append(len(of_batch))
        scores = [int(picture.path.stem) / 10_000 for picture in of_batch]
        if len(of_batch) == 1 and scores[0] * 10_000 % 100 == 50:
            raise ImageError(f"{of_batch[0].path}: too thin")
        if any(score * 10_000 % 100 == 50 for score in scores):
            raise ImageError("one of them is too thin")
        about = (None, "", 0.5, (("dent", 0.25),), "center", (), PICTURE.size, MAP, NATURAL)
        return [Result(class_name, s, *about, p) for s, p in zip(scores, of_batch, strict=True)]


@pytest.fixture
def prediction(tmp_path, monkeypatch):
    """Look at so many images, which are all the same picture; of every hundred one is missing."""

    def open_image(path, in_dataset):
        if int(path.stem) % 100 == 49:
            raise ImageError(f"{path}: no such file")
        return PICTURE

    monkeypatch.setattr(pictures, "open_image", open_image)
    monkeypatch.setattr(look, "count_pixels", lambda path: 64)

    def prediction(count, folder="run", **changes):
        args = Namespace(**{"batch_size": 8, "heatmap_side": 64, "no_pictures": True} | changes)
        run, work, filo = tmp_path / folder, Worklist(), Fake()
        run.mkdir(exist_ok=True)
        work.add(Input(Path("parts") / NAMES[i], Path("parts"), "nut") for i in range(count))
        work.settle({}, not args.no_pictures)
        with (tmp_path / "said").open("w") as file, redirect_stdout(file):
            computed = look_at_all(run, filo, work, args)
        summary = summarise(iterate_records(run), by_decision(), most=1)
        write_failed(run, iterate_records(run), work.items())
        return run, computed, summary, filo

    return prediction


NAMES = [sys.intern(f"{i}.png") for i in range(2000)]  # as pathlib does, in a table that grows by leaps


def test_every_image_gets_its_record_and_one_that_fails_harms_no_other(prediction):
    run, computed, summary, filo = prediction(120)
    assert computed == summary.images == 120 and summary.failed == 2
    assert [r.error for r in iterate_records(run) if r.error] == ["no such file", "too thin"]
    assert (run / "failed.txt").read_text() == "parts/49.png\tnut\nparts/50.png\tnut\n"
    assert filo.batches.count(1) == 7 and len((run / "predictions.csv").read_text().splitlines()) == 121


@pytest.mark.parametrize("left", [0, 1, 7, 8, 9, 119, 120])
def test_what_is_done_is_not_looked_at_again(left, prediction):
    run = prediction(120)[0]
    whole = {name: (run / name).read_bytes() for name in ("predictions.jsonl", "predictions.csv")}
    lines = whole["predictions.jsonl"].splitlines(keepends=True)
    (run / "predictions.jsonl").write_bytes(b"".join(lines[:left]) + lines[-1][:40])
    computed = prediction(120)[1]
    assert computed == 120 - left // 8 * 8
    assert {name: (run / name).read_bytes() for name in whole} == whole


def test_pictures_are_kept_and_of_a_stopped_run_drawn_anew(prediction):
    run = prediction(10, no_pictures=False)[0]
    assert len(list((run / "small").iterdir())) == 20 and len(list((run / "heatmaps").iterdir())) == 10
    (run / "heatmaps/9.jpg").unlink()  # the last file of all
    assert prediction(10, no_pictures=False)[1] == 2
    assert prediction(10, no_pictures=False)[1] == 0 and len(read_records(run)) == 10


def test_memory_does_not_grow_with_the_number_of_images(prediction):
    def peak(count):
        tracemalloc.start()
        prediction(count, str(count))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(100)
    few, many = peak(200), peak(2000)
    assert many < few + 1800 * 8 * 2 + 50_000  # the scores, in an array that grows ahead
