"""What can go wrong while a command runs ends in one line, and what was written before stays whole."""

import json
import os
import re
import resource
import shutil
from contextlib import suppress

import pytest
import torch

from filo import datasets, files
from filo.datasets import AnomalyDataset, iterate
from filo.errors import InputError, exit_clearly
from filo.features import FeatureStore, FrozenFeatures
from filo.files import append_line, append_text
from filo.meta import read_meta
from filo.records import read_records
from filo.transforms import open_image
from filo.weights import read_weights
from tests.commands import ROOT, flags
from tests.hostile import call, make_checkpoint, make_flags, the_line
from tests.published_files import published_state
from tests.runs import make_prediction, make_test_run
from tests.test_hostile import LOADING, load_by
from tests.trees import complaint, make_root


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("made")
    return folder, make_flags(folder, tiny_config)


@pytest.fixture
def start(made, tmp_path, monkeypatch, capfd):
    """Run a command on a copy of the small dataset; what it writes goes to tmp_path/run."""
    folder, values = made
    root = shutil.copytree(folder / "data", tmp_path / "data")

    def start(script, **changes):
        is_predict = "predict" in script
        given = values[script] | {"out" if is_predict else "save_path": tmp_path / "run"}
        given |= {name: root for name in ("data_path", "train_data_path") if name in given}
        images = [root / "nut", root / "bolt"] if is_predict else []
        return call(monkeypatch, capfd, tmp_path, script, *images, *flags(**given | changes))

    return start


# ---- an image goes away


@pytest.fixture
def vanishing(monkeypatch, tmp_path):
    """Let an image go away right after meta.json, or the folder, was read."""

    def vanish(module, name):
        read = getattr(module, name)

        def read_and_remove(*args):
            found = read(*args)
            (tmp_path / "data" / "nut" / "2.png").unlink()
            return found

        monkeypatch.setattr(module, name, read_and_remove)

    return vanish


@pytest.mark.parametrize(
    ("script", "changes"), [("train.py", {}), ("train.py", {"cache_features": "kept"}), ("test.py", {})]
)
def test_an_image_that_went_away_is_named(script, changes, start, vanishing, tmp_path):
    from filo import meta

    vanishing(meta, "read_meta")
    line = the_line(start(script, **changes))
    assert str(tmp_path / "data" / "nut" / "2.png") in line and "run its script again" in line
    assert "No such file" in line or "no such file" in line
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "run" / "results.json").exists()


def test_an_image_that_went_away_harms_no_other_prediction(start, vanishing, tmp_path):
    from filo import worklist

    vanishing(worklist.Worklist, "settle")
    status, _, err = start("filo/predict.py", no_report=True)
    assert status == 1 and err.count("failed: ") == 1 and "nut/2.png: no such file" in err
    assert [bool(record.error) for record in read_records(tmp_path / "run")].count(False) == 11


# ---- a process that reads images dies


def test_a_reading_process_that_dies_is_one_line(tmp_path, monkeypatch):
    meta = read_meta(make_root(tmp_path / "data"), "test")
    dataset, parent = AnomalyDataset(meta, 8, (0, 0, 0), (1, 1, 1)), os.getpid()

    def die(path):
        if os.getpid() != parent and path.name == "3.png":
            os.kill(os.getpid(), 9)
        return open_image(path)

    monkeypatch.setattr(datasets, "open_image", die)
    message = complaint(lambda: list(iterate(dataset, 2, workers=1)))
    assert "a process that reads images died" in message and "fewer --workers than 1" in message
    assert len(list(iterate(dataset, 2))) == 4  # without such processes


def test_a_fault_of_ours_is_not_taken_for_a_dead_process(tmp_path, monkeypatch):
    dataset = AnomalyDataset(read_meta(make_root(tmp_path / "data"), "test"), 8, (0, 0, 0), (1, 1, 1))
    monkeypatch.setattr(datasets, "open_image", lambda _: (_ for _ in ()).throw(RuntimeError("ours")))
    with pytest.raises(RuntimeError, match="ours"):
        list(iterate(dataset, 2))


# ---- not a number


def spoil(state):
    return state | {"adapter.up.weight": torch.full_like(state["adapter.up.weight"], float("nan"))}


@pytest.mark.parametrize("script", ["test.py", "filo/predict.py"])
def test_a_checkpoint_that_is_not_finite_is_named(script, start, tiny_config, tmp_path):
    path = make_checkpoint(tmp_path / "nan.safetensors", tiny_config, spoil)
    line = the_line(start(script, ckpt_path=path))
    assert str(path) in line and "adapter.up.weight holds values that are not finite" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_a_clip_that_is_not_finite_is_named(script, start, tiny_clip, tmp_path, monkeypatch, tiny_config):
    from filo.clip.build import read_config
    from filo.clip.load import draw_weights

    weights = draw_weights("tiny", read_config(str(tiny_config)), 0)
    weights["visual.proj"][3, 3] = float("inf")
    torch.save(weights, tmp_path / "clip.pt")
    line = the_line(start(script, clip_pretrained=tmp_path / "clip.pt"))
    assert "clip.pt" in line and ("visual.proj" in line or "was trained on the CLIP" in line)


INPUTS = {
    "train.py": "the loss after stage 1, epoch 1, image 0 is nan .*png",
    "test.py": "the model's answer to .*nut/0.png is not finite",
    "filo/predict.py": "nut/0.png is not finite",
}


@pytest.mark.parametrize("script", INPUTS)
def test_an_input_that_is_not_finite_is_named(script, start, tmp_path, monkeypatch):
    monkeypatch.setattr("filo.views.image_tensor", lambda *_: torch.full((3, 56, 56), float("nan")))
    outcome = start(script)
    assert outcome[0] == 2 and re.search(INPUTS[script], outcome[2])
    if "predict" not in script:  # that one tells it of each image
        the_line(outcome)


# ---- a download was interrupted


@pytest.fixture(scope="module")
def whole(made, grounding, tiny_config, tmp_path_factory):
    """A file of every kind that is downloaded or written, complete."""
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("whole")
    torch.save({"filo": published_state(TINY, 56, first_tap=1)}, folder / "filo_train_on_visa.pth")
    from filo.clip.build import read_config
    from filo.clip.load import draw_weights

    torch.save(draw_weights("tiny", read_config(str(tiny_config)), 0), folder / "clip.pt")
    shutil.copy(made[0] / "filo.safetensors", folder)
    return {
        "ckpt_path": [folder / "filo.safetensors", folder / "filo_train_on_visa.pth"],
        "clip_pretrained": [folder / "clip.pt"],
        "grounded_checkpoint": [grounding["grounded_checkpoint"]],
    }


@pytest.mark.parametrize(("script", "flag"), LOADING)
def test_an_interrupted_download_is_named(made, whole, script, flag, tmp_path, monkeypatch, capfd):
    for source in whole.get(flag) or [path for paths in whole.values() for path in paths]:
        path = tmp_path / source.name
        content = source.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        line = load_by(made, monkeypatch, capfd, tmp_path, script, flag, path)
        assert "cut off" in line or "complete" in line, line
        path.unlink()


def test_a_tag_whose_file_in_the_cache_is_cut_off_names_that_file(start, whole, tmp_path, monkeypatch):
    content = whole["clip_pretrained"][0].read_bytes()
    (tmp_path / "cached.pt").write_bytes(content[:5000])
    monkeypatch.setattr("open_clip.download_pretrained", lambda tag: tmp_path / "cached.pt")
    changes = {"clip_model": "ViT-B-32", "clip_pretrained": "openai", "image_size": 64}
    line = the_line(start("train.py", **changes))
    assert str(tmp_path / "cached.pt") in line and "fetch it again" in line


# ---- the disk is full


class FullDisk:
    """Refuses to write a file of one name, as a full disk does: after a part of it."""

    def __init__(self, monkeypatch):
        self.name, replace, append = "", os.replace, files._append_all

        def replace_unless_full(source, target):
            if os.path.basename(target) == self.name:
                raise OSError(28, "No space left on device")
            replace(source, target)

        def append_unless_full(file, content):
            if os.path.basename(file.name) != self.name:
                return append(file, content)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.tell() + len(content) // 2, limits[1]))
            try:
                append(file, content)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(files.os, "replace", replace_unless_full)
        monkeypatch.setattr(files, "_append_all", append_unless_full)


@pytest.fixture
def full_disk(monkeypatch):
    return FullDisk(monkeypatch)


RESULTS = ("table.md", "curves.json", "results.json", "report.html")
PREDICTIONS = ("predictions.jsonl", "predictions.csv", "3.jpg", "predict.json", "report.html")
WRITTEN = [
    *(("test.py", name) for name in ("args.json", "000003.jpg", "predictions.jsonl", *RESULTS)),
    *(("filo/predict.py", name) for name in ("args.json", "000003_map.png", *PREDICTIONS)),
]


@pytest.mark.parametrize(("script", "name"), WRITTEN)
def test_a_full_disk_loses_nothing_that_was_written(script, name, start, full_disk, tmp_path):
    changes, full_disk.name = ({"report": True} if script == "test.py" else {}), name
    line = the_line(start(script, **changes))
    assert name in line and ("No space left" in line or "File too large" in line), line
    assert not list((tmp_path / "run").rglob("*.tmp")) and not list((tmp_path / "run").rglob(f"{name}"))[1:]
    lines = [path for path in (tmp_path / "run").glob("*.jsonl") if path.stat().st_size]
    for path in [*(tmp_path / "run").glob("*.json"), *lines]:
        rows = path.read_text().splitlines() if path in lines else [path.read_text()]
        assert [json.loads(row) for row in rows]
    if name not in ("args.json", "predictions.jsonl", "results.json", "predict.json"):
        return
    full_disk.name = ""  # there is room again: the same command goes through
    overwrite = {} if script == "test.py" else {"overwrite": True}
    assert start(script, **changes, **overwrite)[0] == 0


@pytest.mark.parametrize("make", [make_test_run, make_prediction])
def test_a_full_disk_keeps_the_report_that_is_there(make, full_disk, tmp_path, monkeypatch, capfd):
    run = make(tmp_path / "run")
    (run / "report.html").write_text("the report before")
    full_disk.name = "report.html"
    line = the_line(call(monkeypatch, capfd, tmp_path, "filo/report/__main__.py", run))
    assert "report.html" in line and "No space left" in line
    assert (run / "report.html").read_text() == "the report before"
    assert not list(run.rglob("*.tmp"))


def test_what_is_appended_is_there_as_a_whole_or_not_at_all(tmp_path, full_disk):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    full_disk.name = "lines.jsonl"
    message = complaint(lambda: append_text(path, "x" * 100_000 + "\n"))
    assert str(path) in message and "make room" in message and path.read_text() == '{"a": 1}\n'
    full_disk.name = ""
    append_line(path, {"a": 2})
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_a_full_output_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("filo.errors._drop_output", lambda: None)
    with suppress(OSError), open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as caught:
            exit_clearly(lambda: print("the result"))
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: the output: No space left on device")


def test_what_the_system_refuses_is_one_line(tmp_path, start):
    line = the_line(start("test.py", ckpt_path=tmp_path / ("n" * 300)))
    assert "File name too long" in line and "name another path" in line


def test_a_fault_of_ours_keeps_its_traceback():
    for error in (ValueError("ours"), OSError("ours, without a number")):
        with pytest.raises(type(error), match="ours"):
            exit_clearly(lambda error=error: (_ for _ in ()).throw(error))


def test_an_image_that_cannot_be_hashed_is_one_line(tmp_path):
    dataset = AnomalyDataset(read_meta(make_root(tmp_path / "data"), "test"), 8, (0, 0, 0), (1, 1, 1))
    dataset.entries[2].image.unlink()
    with pytest.raises(InputError, match=r"2\.png cannot be read"):
        FrozenFeatures(None, dataset, FeatureStore(tmp_path / "kept", {}))


def test_a_truncated_file_of_every_form_says_what_to_do(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for kept in (0, 10, 1000, len(content) - 10):
        (tmp_path / "b.pt").write_bytes(content[:kept])
        assert "fetch it again" in complaint(lambda: read_weights(tmp_path / "b.pt"))


def test_every_row_of_the_table_of_faults_has_its_test():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    section = page.split("## What can happen, what the program does\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    source = ""
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?`", row.split(" | ")[-1])
        assert named, row
        for file, name in named:
            source = (ROOT / "tests" / file).read_text() if file else source  # as in the name before
            assert not name or f"def {name}(" in source, name
