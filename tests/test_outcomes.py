"""Evaluation, prediction and box detection that are killed go on: what is done is not computed again."""

import json
import shutil
import signal
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from filo import outcomes
from filo.evaluate import evaluate
from filo.inputs import Input
from filo.outcomes import Kept, open_kept
from filo.prediction_state import take_up
from filo.records import LINES, Record, iterate_records, write_records
from filo.worklist import Worklist
from tests import test_box_cache
from tests.commands import flags, run
from tests.killing import run_killed, start, terminate, wait
from tests.test_evaluate import CPU, SIDE, Brightness, dataset  # noqa: F401, a fixture
from tests.trees import put

ABOUT = {"checkpoint": "a", "config": (1, 2)}


class Stop(Exception):
    pass


class Stopping(Brightness):
    """Stops at a batch, counted from 0."""

    def __init__(self, at=None):
        super().__init__()
        self.at = at

    def answer(self, images, class_names, boxes=None):
        if len(self.batches) == self.at:
            raise Stop
        return super().answer(images, class_names, boxes)


def keep(folder, data, about=ABOUT):
    return Kept(folder / "unfinished", data.entries, SIDE, about, {"packages": {"torch": "1"}})


def evaluated(folder, data, batch_size=3, at=None, about=ABOUT, most=10**6, **how):
    """Evaluate with outcomes kept; give the results, None if it was stopped, and the batches computed."""
    kept, method = keep(folder, data, about), Stopping(at)
    kept.take_up(most)
    try:
        return evaluate(method, data, batch_size, CPU, kept=kept, **how), method.batches
    except Stop:
        return None, method.batches


@pytest.mark.parametrize("how", [{}, {"with_curves": True}, {"eval_size": 8}], ids=str)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_stopped_evaluation_goes_on_with_the_batch_in_work(at, how, dataset, tmp_path):  # noqa: F811
    wanted = evaluate(Brightness(), dataset, 3, CPU, **how)
    assert evaluated(tmp_path, dataset, at=at, **how)[0] is None
    results, batches = evaluated(tmp_path, dataset, **how)
    assert results == wanted and len(batches) == 3 - at
    again, batches = evaluated(tmp_path, dataset, **how)  # stopped after the last image
    assert again == wanted and batches == []


def test_a_finished_class_keeps_no_maps(dataset, tmp_path):  # noqa: F811
    evaluated(tmp_path, dataset, at=2)
    assert {path.name for path in (tmp_path / "unfinished").iterdir()} == {
        *("about.json", "class_000.json", "class_001.maps")
    }


def test_only_images_that_were_also_recorded_count(dataset, tmp_path):  # noqa: F811
    evaluated(tmp_path, dataset, at=2)
    results, batches = evaluated(tmp_path, dataset, most=2)
    assert results == evaluate(Brightness(), dataset, 3, CPU) and len(batches) == 3


def test_of_a_damaged_file_the_whole_blocks_before_the_damage_count(dataset, tmp_path):  # noqa: F811
    wanted = evaluate(Brightness(), dataset, 1, CPU)
    evaluated(tmp_path, dataset, 1, at=3)
    path = tmp_path / "unfinished" / "class_000.maps"
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        for content in (bytes(damaged), whole[:place]):
            path.write_bytes(content)
            kept = keep(tmp_path, dataset)
            assert kept.take_up(8) <= 3 * place // len(whole)
            path.parent.mkdir(exist_ok=True)
            (path.parent / "about.json").write_text(json.dumps(kept.about))
    path.write_bytes(whole[:-5])
    results, batches = evaluated(tmp_path, dataset, 1)
    assert results == wanted and len(batches) == 6


def block(said, pixels):
    """A block whose checksum is right, whatever it holds."""
    content = (said if isinstance(said, bytes) else json.dumps(said).encode()) + b"\n" + pixels
    return b"%08x " % zlib.crc32(content) + content


BAD_BLOCKS = {
    "a side of terabytes": lambda said, pixels: block(said | {"side": 10**10}, pixels),
    "another side": lambda said, _: block(said | {"side": 7}, bytes(4 * 7**2)),
    "another side, said to be ours": lambda said, _: block(said, bytes(4 * 7**2)),
    "a side of kind bool": lambda said, pixels: block(said | {"side": True}, pixels),
    "lists without end": lambda _, pixels: block(b"[" * 200_000, pixels),
    "lists without end and a wrong checksum": lambda *_: b"00000000 " + b"[" * 200_000 + b"\n",
    "a line without end": lambda *_: b"00000000 " + b"x" * 3_000_000,
    "no object": lambda _, pixels: block(3, pixels),
    "no score": lambda said, pixels: block({k: v for k, v in said.items() if k != "score"}, pixels),
    "a score that is text": lambda said, pixels: block(said | {"score": "x"}, pixels),
    "a score that is none": lambda said, pixels: block(said | {"score": float("nan")}, pixels),
    "similarities that are text": lambda said, pixels: block(said | {"similarities": ["x"]}, pixels),
    "a map that is not finite": lambda said, pixels: block(said, b"\xff" * len(pixels)),
}


@pytest.mark.parametrize("how", BAD_BLOCKS)
def test_a_block_that_was_never_written_here_and_what_follows_is_computed_again(
    how,
    dataset,  # noqa: F811
    tmp_path,
):
    wanted = evaluate(Brightness(), dataset, 1, CPU)
    evaluated(tmp_path, dataset, 1, at=3)
    path = tmp_path / "unfinished" / "class_000.maps"
    first, rest = path.read_bytes().split(b"\n", 1)
    pixels, rest = rest[: 4 * SIDE**2], rest[4 * SIDE**2 :]
    second, more = rest.split(b"\n", 1)
    begin = first + b"\n" + pixels
    path.write_bytes(begin + BAD_BLOCKS[how](json.loads(second[9:]), more[: 4 * SIDE**2]) + rest)
    results, batches = evaluated(tmp_path, dataset, 1)
    assert results == wanted and len(batches) == 7


BAD_RESULTS = {
    ("result",): [None, 3, "abc", {"x": 1}, [], {}],
    ("result", "class_name"): ["a_class", 3, None],
    ("result", "normal"): [1, True, "2", 2.0],
    ("result", "anomalous"): [-1],
    ("result", "metrics"): [None, {}, [], {"auroc_px": 0.5}],
    ("result", "metrics", "auroc_px"): ["x", float("nan"), 1, True],
    ("result", "notes"): ["x", [3], None],
    ("result", "curves"): [3, [], {"image": 3}, {"image": {"roc": 3}}, {"image": {"roc": [[0.1], []]}}],
    ("result", "curves", "image", "roc", 0): [["x"], "x", None],
    ("images",): [None, 3, []],
    ("checksum",): [None, 3, "0" * 8],
    (): [None, 3, [], {}],
}


def test_a_result_that_was_never_written_here_is_computed_again(dataset, tmp_path):  # noqa: F811
    wanted = evaluate(Brightness(), dataset, 1, CPU, with_curves=True)
    evaluated(tmp_path, dataset, 1, at=6, with_curves=True)
    whole = shutil.copytree(tmp_path / "unfinished", tmp_path / "whole")
    said = json.loads((whole / "class_000.json").read_text())
    assert keep(tmp_path, dataset).take_up(8) == 6
    for place, value in ((place, value) for place, of_place in BAD_RESULTS.items() for value in of_place):
        shutil.copytree(whole, tmp_path / "unfinished", dirs_exist_ok=True)
        changed = put(said, place, value)
        if place[:1] == ("result",):  # the right checksum of what is wrong
            changed["checksum"] = f"{zlib.crc32(json.dumps(changed['result']).encode()):08x}"
        (tmp_path / "unfinished" / "class_000.json").write_text(json.dumps(changed))
        results, batches = evaluated(tmp_path, dataset, 1, with_curves=True)
        assert results == wanted and len(batches) == 8, (place, value)


def test_a_result_of_which_a_digit_changed_is_computed_again(dataset, tmp_path):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=6)
    path = tmp_path / "unfinished" / "class_000.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(put(said, ("result", "metrics", "auroc_px"), 0.123)))
    assert keep(tmp_path, dataset).take_up(8) == 0


@pytest.mark.parametrize(
    "about",
    [
        {"about": 3},
        {"about": {}, "environment": 5},
        {"about": {"checkpoint": "a", "config": [1, 2]}, "environment": 5},
        [["about", 3]],
        3,
        None,
    ],
    ids=str,
)
def test_an_about_that_is_none_is_as_if_nothing_were_there(about, dataset, tmp_path):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=6)
    (tmp_path / "unfinished" / "about.json").write_text(json.dumps(about))
    assert keep(tmp_path, dataset).take_up(8) == 0


def test_an_environment_of_other_kinds_is_another_environment(dataset, tmp_path, capsys):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=6)
    path = tmp_path / "unfinished" / "about.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"environment": {"packages": 5}}))
    assert keep(tmp_path, dataset).take_up(8) == 6
    assert "began elsewhere (torch null there, 1 here)" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["image", "mask"])
def test_a_changed_image_or_mask_and_what_follows_is_computed_again(change, dataset, tmp_path):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=3)
    path = getattr(dataset.entries[1], change)
    path.write_bytes(path.read_bytes() + b"\0")
    assert len(evaluated(tmp_path, dataset, 1)[1]) == 7


def test_outcomes_of_something_else_are_not_taken_and_that_is_said(dataset, tmp_path, capsys):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=6)
    assert len(evaluated(tmp_path, dataset, 1, about=ABOUT | {"checkpoint": "b"})[1]) == 8
    assert (
        "is of something else (checkpoint a there, b here), so this one begins anew"
        in capsys.readouterr().err
    )


def test_another_machine_is_said(dataset, tmp_path, capsys):  # noqa: F811
    evaluated(tmp_path, dataset, 1, at=6)
    kept = Kept(tmp_path / "unfinished", dataset.entries, SIDE, ABOUT, {"packages": {"torch": "2"}})
    assert kept.take_up(8) == 6
    assert "began elsewhere (torch 1 there, 2 here), so last digits may differ" in capsys.readouterr().err


def test_a_full_disk_is_said_once_and_the_evaluation_ends_as_ever(
    dataset,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    wanted, crc, calls = evaluate(Brightness(), dataset, 1, CPU), outcomes.zlib.crc32, []

    def full(*args):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return crc(*args)

    kept = keep(tmp_path, dataset)
    monkeypatch.setattr(outcomes, "zlib", SimpleNamespace(crc32=full))
    assert evaluate(Brightness(), dataset, 1, CPU, kept=kept) == wanted
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device; the test goes on" in err
    monkeypatch.undo()
    assert keep(tmp_path, dataset).take_up(8) == 2


def test_nothing_is_kept_where_nobody_wants_it(dataset, tmp_path):  # noqa: F811
    kept = open_kept(tmp_path, dataset.entries, SIDE, ABOUT, {}, is_wanted=False)
    evaluate(Brightness(), dataset, 1, CPU, kept=kept)
    assert not list(tmp_path.glob("unfinished*"))


# ---- commands


@pytest.fixture(scope="module")
def tested(wood, trained, grounding, tmp_path_factory):
    """Flags of a test whose boxes are on disk, its folder, and how many moments it has."""
    folder = tmp_path_factory.mktemp("tested")
    values = {"dataset": "demo_mvtec", "data_path": wood, "ckpt_path": trained / "filo.safetensors"}
    values |= {"device": "cpu", "batch_size": 2, "report": True, **grounding}
    for name in ("boxes", "whole"):  # the first looks for the boxes
        status = wait(start("test.py", flags(**values, save_path=folder / name), folder / "said"))
        assert status == 0, (folder / "said").read_text()
    return values, folder / "whole", int((folder / "said.moments").read_text())


def assert_same_test(folder, wanted):
    names = [{p.relative_to(f).as_posix() for p in f.rglob("*")} for f in (folder, wanted)]
    assert names[0] == names[1]
    for name in ("table.md", "curves.json", LINES):
        assert (folder / name).read_bytes() == (wanted / name).read_bytes()
    one, other = (json.loads((f / "results.json").read_text()) for f in (folder, wanted))
    for key in ("classes", "mean", "notes", "scoring", "images"):
        assert one[key] == other[key]


KILLED = [pytest.param(4, 0), pytest.param(20, 1, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("kills", "seed"), KILLED)
def test_a_cached_evaluation_killed_at_random_moments_ends_as_one_that_never_was(
    kills, seed, tested, tmp_path
):
    values, wanted, moments = tested
    arguments = flags(**values, save_path=tmp_path / "run")
    killed = run_killed("test.py", arguments, tmp_path, kills, 2 * moments // kills, seed)
    assert killed >= kills // 2
    assert_same_test(tmp_path / "run", wanted)


def test_an_evaluation_stopped_by_ctrl_c_computes_no_image_again(tested, tmp_path, monkeypatch, capfd):
    values, wanted, _ = tested
    from filo.methods.filo import FiLoModel

    look, seen = FiLoModel.look, []

    def stop_at_third(model, images):
        seen.append(len(images))
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return look(model, images)

    monkeypatch.setattr(FiLoModel, "look", stop_at_third)
    arguments = flags(**values, save_path=tmp_path / "run")
    status, _, err = run(monkeypatch, capfd, "test.py", *arguments)
    assert status == 130 and "stopped by the keyboard" in err and "Traceback" not in err
    status, out, err = run(monkeypatch, capfd, "test.py", *arguments)
    assert status == 0 and "going on: 4 of 6 images are done already" in out and seen[3:] == [2], err
    assert_same_test(tmp_path / "run", wanted)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["images_computed"] == 2


def test_sigterm_ends_an_evaluation_in_one_line_and_it_goes_on(tested, tmp_path):
    values, wanted, moments = tested
    arguments = flags(**values, save_path=tmp_path / "run")
    for at in (moments // 3, moments // 2):
        assert wait(start("test.py", arguments, tmp_path / "said", at, terminate)) == 143
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines[-1] == "stopped by SIGTERM" and "Traceback" not in "".join(lines)
    assert wait(start("test.py", arguments, tmp_path / "said")) == 0
    assert "images are done already" in (tmp_path / "said").read_text()
    assert_same_test(tmp_path / "run", wanted)


@pytest.fixture(scope="module")
def predicted(wood, trained, tmp_path_factory):
    """Arguments of a prediction in which one image fails, its folder, and how many moments it has."""
    folder = tmp_path_factory.mktemp("predicted")
    images = shutil.copytree(wood / "wood" / "test", folder / "images")
    (images / "good" / "zz.png").touch()
    values = {
        "class": "wood",
        "prompts": "prompts/demo_mvtec.json",
        "ckpt_path": trained / "filo.safetensors",
    }
    arguments = [images, *flags(**values, device="cpu", batch_size=2, heatmap_side=64)]
    out = ["--out", folder / "whole"]
    status = wait(start("filo/predict.py", [*arguments, *out], folder / "said"))
    assert status == 1, (folder / "said").read_text()
    return arguments, folder / "whole", int((folder / "said.moments").read_text())


def assert_same_prediction(folder, wanted):
    names = [{p.relative_to(f).as_posix() for p in f.rglob("*")} for f in (folder, wanted)]
    assert names[0] == names[1]
    for path in wanted.rglob("*"):
        if path.is_file() and path.name not in ("args.json", "predict.json", "report.html"):
            assert (folder / path.relative_to(wanted)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(("kills", "seed"), KILLED)
def test_a_prediction_killed_at_random_moments_ends_as_it_would(kills, seed, predicted, tmp_path):
    arguments, wanted, moments = predicted
    arguments = [*arguments, "--out", tmp_path / "run"]
    killed = run_killed("filo/predict.py", arguments, tmp_path, kills, 2 * moments // kills, seed, ends=1)
    assert killed >= kills // 2
    assert_same_prediction(tmp_path / "run", wanted)


def test_a_stopped_prediction_looks_at_no_finished_batch_again(predicted, tmp_path, monkeypatch, capfd):
    arguments, wanted, _ = predicted
    from filo.predictor import FiLo

    judge, seen = FiLo.judge, []

    def stop_at_third(filo, pictures, name):
        seen.append(len(pictures))
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return judge(filo, pictures, name)

    monkeypatch.setattr(FiLo, "judge", stop_at_third)
    arguments = [*arguments, "--out", tmp_path / "run"]
    assert run(monkeypatch, capfd, "filo/predict.py", *arguments)[0] == 130
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", *arguments, "--scale", "0", "0.5")
    assert status == 2 and "other arguments (--scale null there, [0.0, 0.5] here, scale " in err
    status, out, err = run(monkeypatch, capfd, "filo/predict.py", *arguments)
    assert status == 1 and "going on: 4 of 7 images are done already" in out and sum(seen[3:]) == 3, err
    assert_same_prediction(tmp_path / "run", wanted)
    before = (tmp_path / "run" / LINES).read_bytes()
    status, _, err = run(monkeypatch, capfd, "filo/predict.py", *arguments)
    assert status == 2 and "holds another run" in err and (tmp_path / "run" / LINES).read_bytes() == before


BAD_RECORDS = {
    "no record": lambda _: {"index": 1},
    "a heatmap that is a number": lambda row: row | {"heatmap": 5},
    "a heatmap outside the run": lambda row: row | {"heatmap": "/etc/passwd"},
    "a heatmap above the run": lambda row: row | {"heatmap": "heatmaps/../../x.jpg"},
    "another number": lambda row: row | {"index": 7},
    "another image": lambda row: row | {"image": "other.png"},
    "a score that is text": lambda row: row | {"score": "x"},
    "a list": lambda _: [],
}


@pytest.mark.parametrize("at", [1, 2], ids=["in the middle", "at the end"])
@pytest.mark.parametrize("how", BAD_RECORDS)
def test_records_before_the_first_that_no_run_wrote_count(how, at, tmp_path, monkeypatch):
    work = Worklist()
    work.add(Input(tmp_path / f"{i}.png", tmp_path, "nut") for i in range(4))
    work.settle({})
    drawn = [item.heatmap for item in work.items()]
    records = [
        Record(i, str(tmp_path / f"{i}.png"), "nut", (4, 3), 0.5, heatmap=f"heatmaps/{drawn[i]}")
        for i in range(3)
    ]
    (tmp_path / "heatmaps").mkdir()
    for record in records:
        (tmp_path / record.heatmap).touch()
    write_records(tmp_path, records)
    take = partial(take_up, tmp_path, work, 1, lambda _: 1)
    done, left = take()
    assert (done, [[item.number for item in batch] for batch in left]) == (3, [[3]])
    lines = (tmp_path / LINES).read_text().splitlines()
    lines[at] = json.dumps(BAD_RECORDS[how](json.loads(lines[at])))
    (tmp_path / LINES).write_text("\n".join(lines) + "\n")
    looked, is_file = [], Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: looked.append(path) or is_file(path))
    done, left = take()
    assert (done, [[item.number for item in batch] for batch in left]) == (at, [[i] for i in range(at, 4)])
    assert list(iterate_records(tmp_path)) == records[:at]
    assert all(path.resolve().is_relative_to(tmp_path) for path in looked) and looked


def test_more_records_than_images_are_cut(tmp_path):
    work = Worklist()
    work.add([Input(tmp_path / "0.png", tmp_path, "nut")])
    work.settle({})
    write_records(tmp_path, [Record(i, str(tmp_path / "0.png"), "nut", error="gone") for i in range(2)])
    done, left = take_up(tmp_path, work, 1, lambda _: 1)
    assert (done, list(left), len(list(iterate_records(tmp_path)))) == (1, [], 1)


requests, cache = test_box_cache.requests, test_box_cache.cache


def test_a_stopped_detection_loses_only_the_batch_in_work(requests, cache, monkeypatch):
    fake, savez = test_box_cache._Fake(), np.savez
    written = []

    def stop_in_the_middle(file, **arrays):
        written.append(1)
        if len(written) == 4:
            file.write(b"half")
            raise KeyboardInterrupt
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        test_box_cache.find(requests, cache, fake, batch_size=1)
    assert len(list(cache.folder.rglob("*.npz"))) == 3
    assert test_box_cache.find(requests, cache, fake, batch_size=1).detected == 4
    assert len(fake.calls) == 8
