"""`python -m filo.calibrate`: from runs of test.py and filo.predict to thresholds beside the checkpoint."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from filo.calibrate import calibrate_run, choose_scale
from filo.decisions import decisions_path, read_decisions
from filo.files import sha256_of
from filo.records import Record, write_record, write_small
from filo.synthetic import DATASETS
from tests.commands import flags, run

SCORES = {"nut": [(0.1, 0), (0.2, 0), (0.6, 1), (0.9, 1)], "bolt": [(0.3, 0), (0.5, 1), (0.4, 0), (0.7, 1)]}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "weights" / "filo.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def make_run(folder, checkpoint, scores=SCORES, labelled=True, maps=False, **changes):
    """What a run leaves, written by hand."""
    folder.mkdir()
    about = {
        "command": "python test.py",
        "arguments": {"ckpt_path": str(checkpoint), "dataset": "workshop"},
        "scoring": {
            "checkpoint": sha256_of(checkpoint),
            "image_size": 56,
            "texts": dict.fromkeys(scores, "0" * 64),
        },
    }
    (folder / ("results.json" if labelled else "predict.json")).write_text(json.dumps(about | changes))
    index = 0
    for name, rows in scores.items():
        for score, label in rows:
            write_record(
                folder, Record(index, f"{index}.png", name, (4, 4), score, label=label if labelled else None)
            )
            if maps:
                write_small(folder, index, Image.new("RGB", (4, 4)), np.full((4, 4), maps[label], np.float32))
            index += 1
    return folder


def calibrate(monkeypatch, capfd, *arguments):
    return run(monkeypatch, capfd, "filo/calibrate.py", *arguments)


def test_every_class_gets_its_threshold_and_its_provenance(tmp_path, checkpoint, monkeypatch, capfd):
    folder = make_run(tmp_path / "run", checkpoint)
    status, out, err = calibrate(monkeypatch, capfd, folder)
    assert (status, err) == (0, "")
    assert (
        "nut: anomalous from 0.4 on (f1; 2 normal, 2 anomalous images; finds 100.0 %; false alarms 0.0 %"
        in out
    )
    made = read_decisions(decisions_path(checkpoint)).classes
    assert {name: each.threshold for name, each in made.items()} == pytest.approx({"nut": 0.4, "bolt": 0.45})
    nut = made["nut"]
    assert (nut.rule, nut.rate, nut.normal, nut.anomalous) == ("f1", None, 2, 2)
    assert nut.achieved == {"true_positive_rate": 1, "false_positive_rate": 0, "f1": 1}
    assert nut.source == {"run": str(folder), "dataset": "workshop", "command": "python test.py"}
    assert nut.settings == {"checkpoint": sha256_of(checkpoint), "image_size": 56, "texts": "0" * 64}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", nut.date)


def test_other_classes_stay(tmp_path, checkpoint):
    calibrate_run(make_run(tmp_path / "one", checkpoint, {"nut": SCORES["nut"]}))
    calibrate_run(make_run(tmp_path / "two", checkpoint, {"bolt": SCORES["bolt"]}), "fpr", 0.5)
    made = read_decisions(decisions_path(checkpoint)).classes
    assert {name: each.rule for name, each in made.items()} == {"nut": "f1", "bolt": "fpr"}
    assert made["bolt"].rate == 0.5


def test_a_file_elsewhere_is_written_on_request(tmp_path, checkpoint, monkeypatch, capfd):
    folder = make_run(tmp_path / "run", checkpoint)
    assert calibrate(monkeypatch, capfd, folder, "--out", tmp_path / "there.json")[0] == 0
    assert (tmp_path / "there.json").exists() and not decisions_path(checkpoint).exists()


def test_normal_images_alone_give_a_quantile(tmp_path, checkpoint, monkeypatch, capfd):
    scores = {"nut": [(i / 100, 0) for i in range(99)]}
    folder = make_run(tmp_path / "run", checkpoint, scores, labelled=False)
    status, _, err = calibrate(monkeypatch, capfd, folder)
    assert status == 2 and "has no labels: add --normal" in err and err.count("\n") == 1
    status, out, _ = calibrate(monkeypatch, capfd, folder, "--normal")
    assert status == 0 and "quantile 0.01; 99 normal, 0 anomalous images; false alarms 0.0 %" in out
    assert read_decisions(decisions_path(checkpoint)).classes["nut"].threshold == np.nextafter(0.98, 1)


def test_a_class_with_too_few_images_is_left_out_and_said(tmp_path, checkpoint, monkeypatch, capfd):
    folder = make_run(tmp_path / "run", checkpoint, SCORES | {"rod": [(0.1, 0)]})
    status, out, _ = calibrate(monkeypatch, capfd, folder)
    assert status == 1 and "rod: no threshold, the rule f1 needs normal and anomalous images" in out
    assert read_decisions(decisions_path(checkpoint)).classes.keys() == {"nut", "bolt"}


def test_nothing_is_written_if_no_class_is_left(tmp_path, checkpoint, monkeypatch, capfd):
    folder = make_run(tmp_path / "run", checkpoint, {"rod": [(0.1, 0)]})
    status, out, err = calibrate(monkeypatch, capfd, folder, "--rule", "quantile")
    assert status == 2 and "takes 99" in out and "no class of" in err and err.count("\n") == 1
    assert not decisions_path(checkpoint).exists()


def test_too_few_images_for_a_rate_are_said(tmp_path, checkpoint, monkeypatch, capfd):
    folder = make_run(tmp_path / "run", checkpoint)
    status, out, _ = calibrate(monkeypatch, capfd, folder, "--rule", "fpr")
    assert status == 0 and out.count("too few normal images to tell a rate of 0.01 from none") == 2


def test_images_that_failed_are_left_out_and_counted(tmp_path, checkpoint):
    folder = make_run(tmp_path / "run", checkpoint)
    write_record(folder, Record(99, "bad.png", "nut", error="broken", label=1))
    done = calibrate_run(folder)
    assert done.lines[0] == "note: 1 images of the run failed and are left out"
    assert done.classes["nut"].anomalous == 2


def no_run(folder, checkpoint):
    folder.mkdir()


def no_scoring(folder, checkpoint):
    make_run(folder, checkpoint, scoring=None)


def no_checkpoint(folder, checkpoint):
    make_run(folder, checkpoint)
    checkpoint.unlink()


def another_checkpoint(folder, checkpoint):
    make_run(folder, checkpoint)
    checkpoint.write_bytes(b"others")


def anomalous_after_all(folder, checkpoint):
    make_run(folder, checkpoint)


def damaged(folder, checkpoint):
    make_run(folder, checkpoint)
    (folder / "results.json").write_text("{")


BAD = {
    no_run: ((), "holds no finished run"),
    no_scoring: ((), "does not say how its scores were made"),
    no_checkpoint: ((), r"filo\.safetensors is not there: .*--out"),
    another_checkpoint: ((), "is not the one of the run any more"),
    anomalous_after_all: (("--normal",), r"2\.png of .* is labelled anomalous; leave --normal out"),
    damaged: ((), r"results\.json does not say"),
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_runs_are_one_line(make, tmp_path, checkpoint, monkeypatch, capfd):
    arguments, pattern = BAD[make]
    make(tmp_path / "run", checkpoint)
    status, _, err = calibrate(monkeypatch, capfd, tmp_path / "run", *arguments)
    assert status == 2 and re.search(pattern, err) and err.count("\n") == 1, err


@pytest.mark.parametrize(("flag", "value"), [("--rate", "1.5"), ("--rate", "nan"), ("--rule", "best")])
def test_values_out_of_range_are_named_by_argparse(flag, value, monkeypatch, capfd):
    assert calibrate(monkeypatch, capfd, "run", flag, value)[0] == 2


# the scale of heatmaps


def scale_of(folder, values):
    """Choose the scale of a run whose maps are given, [(values, label)]."""
    folder.mkdir()
    records = [Record(i, "", "", label=label) for i, (_, label) in enumerate(values)]
    for i, (pixels, _) in enumerate(values):
        write_small(folder, i, Image.new("RGB", (20, 20)), np.resize(np.float32(pixels), (20, 20)))
    return choose_scale(folder, ((record, record.label) for record in records))


def test_the_scale_goes_from_normal_s_median_to_the_top_of_the_anomalous(tmp_path):
    rng = np.random.default_rng(0)
    normal, bad = rng.random((3, 400)), rng.random((4, 400))
    scale = scale_of(tmp_path / "run", [(each, 0) for each in normal] + [(each, 1) for each in bad])
    assert scale.low == pytest.approx(np.median(normal), abs=2e-3)
    assert scale.high == pytest.approx(np.quantile(bad, 0.999), abs=2e-3)
    assert scale.origin.startswith("median of 3 normal images to 99.9th percentile of 4 anomalous ones, in ")


def test_without_anomalous_images_it_ends_at_one_and_without_normal_ones_there_is_none(tmp_path):
    scale = scale_of(tmp_path / "normal", [([0.25], 0)])
    assert (scale.low, scale.high) == (pytest.approx(0.25, abs=1e-4), 1.0)
    assert scale_of(tmp_path / "bad", [([0.25], 1)]) is None
    assert scale_of(tmp_path / "flat", [([0.5], 0), ([0.5], 1)]) is None


def test_the_scale_is_kept_with_the_thresholds(tmp_path, checkpoint):
    calibrate_run(make_run(tmp_path / "run", checkpoint, maps=(0.25, 0.75)))
    made = read_decisions(decisions_path(checkpoint))
    assert (made.scale.low, made.scale.high) == pytest.approx((0.25, 0.75), abs=1e-4)
    assert made.scale_settings == {"checkpoint": sha256_of(checkpoint), "image_size": 56}


# a whole round


def test_a_run_of_test_py_decides_what_filo_predict_sees_later(
    test_flags, trained, data, tmp_path, monkeypatch, capfd
):
    weights = shutil.copy(trained / "filo.safetensors", tmp_path / "filo.safetensors")
    values = test_flags | {"ckpt_path": weights}
    assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
    assert calibrate(monkeypatch, capfd, values["save_path"])[0] == 0
    made = read_decisions(tmp_path / "filo.decisions.json").classes
    assert made.keys() == {spec.name for spec in DATASETS["mvtec"]}
    folder = data["mvtec"] / "hex_nut" / "test"
    asked = {"class": "Hex nut", "ckpt_path": weights, "out": tmp_path / "out", "no_report": True}
    status, out, err = run(monkeypatch, capfd, "filo/predict.py", folder, *flags(**asked, device="cpu"))
    assert status == 0 and err.startswith("note: class hex_nut: described in") and err.count("\n") == 1
    found, f1 = out.count(", anomalous"), made["hex_nut"].achieved["f1"]
    hits = sum("/good/" not in line for line in out.splitlines() if ", anomalous" in line)
    assert found + out.count(", normal") == 6 and 2 * hits / (4 + found) == pytest.approx(f1)
