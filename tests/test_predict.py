"""`python -m filo.predict` as a command: what it writes, what it says, and how it ends."""

import csv
import json
import re
import shutil
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from filo.decisions import Decision, Decisions, of_class, write_decisions
from filo.errors import InputError
from filo.plots import Scale, with_bar
from filo.predictor import FiLo
from filo.records import read_records, read_small
from tests.commands import flags, run

PROMPTS = "prompts/demo_mvtec.json"
COLUMNS = "image,class,score,threshold,decision,position,kind,kind_similarity,boxes,error,heatmap"


def noise(path, height=30, width=40, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def predict(trained, tmp_path, monkeypatch, capfd):
    """Run the command, give status, lines printed and said, and what it wrote."""

    def predict(*images, out="out", **changes):
        values = {"class": "wood", "prompts": PROMPTS, "ckpt_path": trained / "filo.safetensors"}
        values |= {"out": tmp_path / out, "device": "cpu", "no_report": True} | changes
        values = {name: value for name, value in values.items() if value is not None}
        status, printed, err = run(monkeypatch, capfd, "filo/predict.py", *images, *flags(**values))
        folder = tmp_path / out
        records = []
        with suppress(InputError):  # there are none
            records = read_records(folder)
        return SimpleNamespace(status=status, out=printed, err=err, folder=folder, records=records)

    return predict


def rows(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def one_line(done, pattern):
    """Assert status 2 and, beside notes, exactly one line on stderr that matches."""
    errors = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert done.status == 2 and len(errors) == 1, done.err
    assert errors[0].startswith("error: ") and re.search(pattern, errors[0]), done.err


def test_a_run_writes_a_table_records_heatmaps_and_a_report(predict, data):
    done = predict(data["mvtec"] / "wood" / "test", no_report=None)
    assert done.status == 0
    names = {"args.json", "predict.json", "predictions.csv", "predictions.jsonl", "report.html"}
    assert names <= {path.name for path in done.folder.iterdir()}
    table, about = rows(done.folder), json.loads((done.folder / "predict.json").read_text())
    assert (done.folder / "predictions.csv").read_text().splitlines()[0] == COLUMNS
    assert len(table) == len(done.records) == about["images"] == 6 and about["failed"] == []
    for row, record in zip(table, done.records, strict=True):
        assert (row["image"], row["class"], float(row["score"])) == (record.image, "wood", record.score)
        assert (row["kind"], float(row["kind_similarity"])) == record.kinds[0]
        assert row["decision"] == row["threshold"] == row["error"] == "" and row["boxes"] == "0"
        assert (
            f"{record.image}: score {record.score:.4f}: most like {row['kind']}, at {record.position}"
            in done.out
        )
        drawn = Image.open(done.folder / row["heatmap"])
        assert drawn.width > 64 and drawn.height > 64
        small = read_small(done.folder, record)
        assert small.image.size == (64, 64) and small.anomaly_map.max() > 0
    assert "6 images in" in done.out and "report.html" in done.out


def test_what_is_needed_to_repeat_a_run_is_in_predict_json(predict, trained, data):
    about_of = predict(data["mvtec"] / "wood" / "test" / "good").folder / "predict.json"
    about = json.loads(about_of.read_text())
    wanted = "command arguments method preset config classes thresholds scale images failed scoring detector"
    wanted += " references hashes trained environment seconds seconds_per_image peak_memory decisions"
    wanted += " images_computed images_failed reasons"
    assert set(wanted.split()) == about.keys()
    assert about["scale"] == {"low": 0.0, "high": 1.0, "origin": "the range a map can take"}
    assert about["detector"] == {"kind": "none"} and about["thresholds"] == {}
    assert "is not there" in about["classes"]["wood"]["undecided"]
    assert PROMPTS in about["hashes"]["prompts"] and about["trained"]["dataset"] == "demo_visa"
    assert json.loads((about_of.parent / "args.json").read_text())["class_name"] == "wood"


def test_scores_are_those_of_test_py_with_a_detector_and_without(
    predict, wood, grounding, test_flags, monkeypatch, capfd, tmp_path
):
    for name, detector in {"without": {}, "with": grounding}.items():
        values = test_flags | {"data_path": wood, "save_path": tmp_path / f"test_{name}"} | detector
        assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
        theirs = read_records(values["save_path"])
        done = predict(wood / "wood" / "test", out=name, batch_size=4, **detector)
        ours = {record.image.split("/data/")[1]: record for record in done.records}
        assert done.status == 0 and len(ours) == len(theirs) == 6
        for record in theirs:
            mine = ours[record.image]
            assert mine.score == pytest.approx(record.score, rel=1e-5, abs=1e-6)
            assert (mine.position, mine.size, mine.boxes) == (record.position, record.size, record.boxes)
    about = json.loads((done.folder / "predict.json").read_text())
    assert about["detector"]["kind"] == "groundingdino" and about["detector"]["detected"] == 0
    assert any(record.boxes for record in done.records)


def test_one_by_one_gives_what_a_batch_gives(predict, data):
    folder = data["mvtec"] / "wood" / "test"
    one, many = (predict(folder, out=str(size), batch_size=size).records for size in (1, 5))
    assert [r.image for r in one] == [r.image for r in many]
    assert [r.score for r in one] == pytest.approx([r.score for r in many], rel=1e-5)


def test_classes_come_from_folders(predict, tmp_path):
    for i, name in enumerate(("wood/good/a.png", "hex nut/a.png", "wood/b.png", "left_hand/c.png")):
        noise(tmp_path / "parts" / name, seed=i)
    done = predict(tmp_path / "parts", tmp_path / "gone", **{"class": None}, class_from_folder=True)
    assert done.status == 1 and done.err.count("nobody described") == done.err.count("'left hand'") == 1
    assert (done.records.pop(0).class_name, "hex_nut, left hand, wood" in done.err) == ("", True)
    assert [(r.class_name, r.image.split("/parts/")[1]) for r in done.records] == [
        ("hex_nut", "hex nut/a.png"),
        ("left hand", "left_hand/c.png"),
        ("wood", "wood/b.png"),
        ("wood", "wood/good/a.png"),
    ]
    about = json.loads((done.folder / "predict.json").read_text())
    assert about["classes"]["left hand"]["kinds"] == 0 and about["classes"]["wood"]["kinds"] > 4
    alone = predict(tmp_path / "parts/hex nut/a.png", out="alone", **{"class": "hex_nut"})
    assert alone.records[0].score == pytest.approx(done.records[0].score, rel=1e-5)


def test_a_class_nobody_described_works_and_says_so(predict, tmp_path):
    done = predict(noise(tmp_path / "a.png"), **{"class": "metal bracket"})
    assert done.status == 0 and "note: nobody described the class 'metal bracket'" in done.err
    assert done.records[0].kinds == () and rows(done.folder)[0]["kind"] == ""


def test_bad_images_among_good_ones_are_listed_and_the_others_are_done(predict, tmp_path):
    for i, name in enumerate("abde"):
        noise(tmp_path / "parts" / f"{name}.png", seed=i)
    (tmp_path / "parts" / "c.png").touch()
    whole = noise(tmp_path / "whole.png").read_bytes()
    (tmp_path / "parts" / "f.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "parts" / "g.txt").write_text("no picture")
    done = predict(tmp_path / "parts", tmp_path / "parts/g.txt", tmp_path / "none.png", batch_size=3)
    assert done.status == 1
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert [re.search(r"(\w+\.\w+): ", line)[1] for line in failed] == ["c.png", "f.png", "g.txt", "none.png"]
    assert "it is empty, 0 bytes" in failed[0] and "no such file" in failed[3]
    assert "in a dataset" not in done.err
    assert [bool(r.error) for r in done.records] == [False, False, True, False, False, True, True, True]
    table, about = rows(done.folder), json.loads((done.folder / "predict.json").read_text())
    assert [bool(row["error"]) for row in table] == [bool(r.error) for r in done.records]
    assert table[2]["score"] == table[2]["heatmap"] == "" and len(about["failed"]) == 4
    alone = predict(tmp_path / "parts/d.png", out="alone")
    assert alone.records[0].score == pytest.approx(done.records[3].score, rel=1e-5)


def test_an_image_that_the_detector_cannot_look_at_harms_no_other(predict, grounding, tmp_path):
    paths = [
        noise(tmp_path / "a.png"),
        noise(tmp_path / "thin.png", 1, 3000),
        noise(tmp_path / "b.png", seed=1),
    ]
    done = predict(*paths, **grounding)
    assert done.status == 1 and "/thin.png: 3000x1 pixels are too thin a strip" in done.err
    assert [bool(record.error) for record in done.records] == [False, True, False]


def test_if_all_images_fail_the_status_is_two(predict, tmp_path):
    (tmp_path / "a.png").touch()
    done = predict(tmp_path / "a.png", no_report=None)
    assert done.status == 2 and "failed: " in done.err and (done.folder / "predict.json").exists()


def test_a_class_whose_images_all_failed_is_no_obstacle_to_a_report(predict, tmp_path):
    noise(tmp_path / "parts" / "wood" / "a.png")
    (tmp_path / "parts" / "hex_nut").mkdir()
    (tmp_path / "parts" / "hex_nut" / "b.png").touch()
    done = predict(tmp_path / "parts", **{"class": None}, class_from_folder=True, no_report=None)
    assert done.status == 1 and (done.folder / "report.html").exists()


def missing_class(tmp_path):
    return {"class": None}, "nothing says what the images show: .*--class, .*--class_from_folder"


def both_classes(tmp_path):
    return {"class_from_folder": True}, "contradict each other"


def ambiguous_class(tmp_path):
    return {"class": "macaroni"}, "may be any of macaroni1, macaroni2"


def empty_name(tmp_path):
    return {"class": " "}, "the class has no name"


def no_images(tmp_path):
    (tmp_path / "parts" / "a.png").unlink()
    return {}, "no image there, nothing that ends in .*png"


def no_checkpoint(tmp_path):
    return {"ckpt_path": tmp_path / "none.safetensors"}, "no such checkpoint"


def other_run(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text('{"arguments": {}}')
    return {}, r"holds another run \(results\.json\): choose another --out, or add --overwrite"


def training_run(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.jsonl").touch()
    return {"overwrite": True}, r"holds a run of train\.py \(log\.jsonl\): choose another --out"


def falling_scale(tmp_path):
    return {"scale": [0.5, 0.5]}, "wanted two rising numbers"


def a_file_for_a_folder(tmp_path):
    (tmp_path / "out").touch()
    return {}, "out is a file: name a folder by --out"


def damaged_decisions(tmp_path):
    (tmp_path / "d.json").write_text("{")
    return {"decisions": tmp_path / "d.json"}, r"d\.json holds no thresholds"


def other_layers(tmp_path):
    return {"features_list": [1, 2, 3]}, r"trained with features_list \(1, 2, 4\), not \(1, 2, 3\): leave"


def no_decisions(tmp_path):
    return {"decisions": tmp_path / "none.json"}, r"none\.json: no such file"


BAD = [
    missing_class,
    both_classes,
    ambiguous_class,
    empty_name,
    no_images,
    no_checkpoint,
    other_run,
    training_run,
    falling_scale,
    a_file_for_a_folder,
    damaged_decisions,
    no_decisions,
    other_layers,
]


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_one_line(make, predict, tmp_path):
    noise(tmp_path / "parts" / "a.png")
    changes, pattern = make(tmp_path)
    done = predict(tmp_path / "parts", **changes)
    one_line(done, pattern)
    assert not done.records


def test_another_run_is_overwritten_on_request_and_nothing_of_it_is_left(predict, data, tmp_path):
    predict(data["mvtec"] / "wood" / "test")
    kept = noise(tmp_path / "out" / "mine.png")
    done = predict(noise(tmp_path / "a.png"), overwrite=True)
    assert done.status == 0 and len(done.records) == len(rows(done.folder)) == 1
    assert [path.name for path in (done.folder / "heatmaps").iterdir()] == ["a.jpg"] and kept.exists()
    assert len(list((done.folder / "small").iterdir())) == 2


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [None, True])
@pytest.mark.parametrize(
    "name",
    [
        "small/000001.jpg",
        "small/b.jpg",
        "heatmaps/mine.jpg",
        "predictions.csv",
        "predictions.jsonl",
        "predict.json",
        "report.html",
        "args.json",
    ],
)
def test_what_is_of_no_run_is_neither_removed_nor_written_over(predict, tmp_path, name, overwrite):
    noise(tmp_path / "parts" / "a.png")
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = contents(tmp_path)
    values = {} if overwrite is None else {"overwrite": True}
    one_line(predict(tmp_path / "parts", **values), "of no run, so it is not overwritten: .*another --out")
    assert contents(tmp_path) == before


def test_overwriting_keeps_pictures_that_the_run_does_not_list(predict, tmp_path):
    noise(tmp_path / "parts" / "a.png")
    assert predict(tmp_path / "parts").status == 0
    mine = [noise(tmp_path / "out" / name) for name in ("heatmaps/b.jpg", "small/b.jpg", "small/7.jpg")]
    assert predict(tmp_path / "parts", overwrite=True).status == 0
    noise(tmp_path / "parts" / "b.png")
    before = contents(tmp_path / "out")
    one_line(predict(tmp_path / "parts", overwrite=True), r"heatmaps/b\.jpg is there and of no run")
    assert contents(tmp_path / "out") == before and set(mine) <= before.keys()


def test_a_run_that_was_stopped_can_be_overwritten(predict, tmp_path, monkeypatch):
    noise(tmp_path / "parts" / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr("filo.output.write_small", lambda *_: (_ for _ in ()).throw(InputError("stopped")))
        one_line(predict(tmp_path / "parts"), "stopped")
    one_line(predict(tmp_path / "parts", no_heatmaps=True), "holds an unfinished run of other arguments")
    for name in ("predictions.jsonl", "unfinished.json"):
        (tmp_path / "out" / name).unlink()
    one_line(predict(tmp_path / "parts"), r"holds another run \(args\.json\)")
    assert predict(tmp_path / "parts", overwrite=True).status == 0


def test_images_that_lie_where_the_run_draws_are_refused(predict, tmp_path):
    assert predict(noise(tmp_path / "a.png")).status == 0
    before = contents(tmp_path)
    for name in ("small", "heatmaps"):
        done = predict(tmp_path / "out" / name, overwrite=True)
        one_line(done, "lies where the run puts its pictures: choose another --out")
    assert contents(tmp_path) == before


def test_a_run_may_lie_beside_the_images(predict, tmp_path):
    path = noise(tmp_path / "out" / "a.png")
    for values in ({}, {"overwrite": True}):
        done = predict(tmp_path / "out", **values)
        assert done.status == 0 and [record.image for record in done.records] == [str(path)]


def test_a_folder_whose_name_is_no_class_harms_no_other(predict, tmp_path):
    for i, name in enumerate(("wood/a.png", "_/b.png", "macaroni/c.png", f"{'q7 ' * 80}/d.png")):
        noise(tmp_path / "parts" / name, seed=i)
    done = predict(tmp_path / "parts", **{"class": None}, class_from_folder=True, no_report=None)
    errors = {record.image[-5:]: record.error for record in done.records}
    assert done.status == 1 and errors["a.png"] == "" and "the class has no name" in errors["b.png"]
    assert "may be any of macaroni1" in errors["c.png"] and "is too long" in errors["d.png"]
    kept = contents(done.folder)
    again = predict(
        tmp_path / "parts/_",
        tmp_path / "parts/macaroni",
        **{"class": None},
        class_from_folder=True,
        overwrite=True,
    )
    one_line(again, "the class has no name.*1 more cannot be done")
    assert contents(done.folder) == kept


def test_a_class_name_that_is_too_long_costs_no_earlier_run(predict, tmp_path):
    before = contents(predict(noise(tmp_path / "a.png")).folder)
    done = predict(tmp_path / "a.png", overwrite=True, **{"class": "long " * 80})
    one_line(done, "the class name 'long .*is too long")
    assert contents(done.folder) == before


def test_a_full_disk_ends_the_run_with_one_line(predict, data, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    one_line(predict(data["mvtec"] / "wood" / "test"), "No space left on device")


def test_a_disk_that_fills_up_keeps_what_was_written(predict, data, monkeypatch):
    from filo import files

    replace, count = files.os.replace, [0]

    def filling(*paths):
        count[0] += 1
        if count[0] > 8:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr("os.replace", filling)
    done = predict(data["mvtec"] / "wood" / "test", batch_size=1)
    one_line(done, "No space left on device")
    assert 1 <= len(done.records) < 6


# heatmaps and names


def test_heatmaps_have_names_of_their_own(predict, tmp_path):
    names = ["x/a.png", "y/a.png", "y/A.jpg", "a.png", "sp ace/ä;=b.png", "sp ace/ä_b.png"]
    paths = [noise(tmp_path / "parts" / name, seed=i) for i, name in enumerate(names)]
    (tmp_path / "parts" / "link.png").symlink_to(paths[0])
    done = predict(*paths, tmp_path / "parts", paths[0])
    assert done.status == 0
    found = {
        record.image.split("/parts/")[1]: row["heatmap"]
        for record, row in zip(done.records, rows(done.folder), strict=True)
    }
    assert found == {
        "x/a.png": "heatmaps/a.jpg",
        "y/a.png": "heatmaps/a_2.jpg",
        "y/A.jpg": "heatmaps/A_3.jpg",
        "a.png": "heatmaps/a_4.jpg",
        "sp ace/ä;=b.png": "heatmaps/ä_b.jpg",
        "sp ace/ä_b.png": "heatmaps/ä_b_2.jpg",
        "link.png": "heatmaps/link.jpg",
    }
    assert len(list((done.folder / "heatmaps").iterdir())) == 7


def test_a_heatmap_has_the_image_s_size_or_the_one_that_was_asked_for(predict, tmp_path):
    path = noise(tmp_path / "a.png", 150, 400)
    for out, changes, size in (("whole", {}, (400, 150)), ("half", {"heatmap_side": 200}, (200, 75))):
        done = predict(path, out=out, **changes)
        blank = with_bar(Image.new("RGB", (size[0], size[1])), Scale(0.0, 1.0, "x"))
        drawn = Image.open(done.folder / "heatmaps" / "a.jpg")
        assert drawn.width == blank.width and drawn.height > blank.height  # the caption is below
    assert done.records[0].size == (400, 150)


def test_no_heatmaps_on_request(predict, tmp_path):
    done = predict(noise(tmp_path / "a.png"), no_heatmaps=True)
    assert (
        done.status == 0 and not (done.folder / "heatmaps").exists() and rows(done.folder)[0]["heatmap"] == ""
    )


def test_boxes_are_drawn_where_they_are_in_a_smaller_heatmap(predict, grounding, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "filo.result.overlay", lambda image, *_, boxes, caption: drawn.append((image.size, boxes)) or image
    )
    done = predict(noise(tmp_path / "a.png", 80, 120), heatmap_side=60, **grounding)
    (size, boxes), whole = drawn[0], done.records[0].boxes
    assert size == (60, 40) and len(boxes) == len(whole) > 0
    for box, other in zip(boxes, whole, strict=True):
        assert box["corners"] == pytest.approx([corner / 2 for corner in other["corners"]])


def test_all_heatmaps_share_the_scale_that_was_asked_for(predict, data):
    done = predict(data["mvtec"] / "wood" / "test", scale=[0.1, 0.6])
    about = json.loads((done.folder / "predict.json").read_text())
    assert about["scale"] == {"low": 0.1, "high": 0.6, "origin": "given by --scale"}


def test_a_spreadsheet_runs_nothing(predict, tmp_path, monkeypatch):
    for name in ("=1+1.png", "@SUM.png", "-2.png"):
        noise(tmp_path / "parts" / name)
    (tmp_path / "parts" / "+3.png").touch()
    done = predict(tmp_path / "parts", **{"class": "=cmd()"})
    table = rows(done.folder)
    assert done.status == 1 and {row["class"] for row in table} == {"'=cmd()"}
    assert all(row["image"].startswith("/") for row in table)  # paths begin with a folder here
    from filo.output import _cell

    assert [_cell(value) for value in ("=1", "+1", "-1", "@a", "\t=1", -0.5, "a=1", None)] == [
        "'=1",
        "'+1",
        "'-1",
        "'@a",
        "'\t=1",
        -0.5,
        "a=1",
        None,
    ]


def test_a_name_that_is_no_text_does_no_harm(predict, tmp_path):
    path = noise(tmp_path / "parts" / "a.png")
    path.rename(str(tmp_path / "parts" / "b\udcffc\n.png"))
    for i, named in enumerate((tmp_path / "parts", tmp_path / "parts" / "b\udcffc\n.png")):
        done = predict(named, out=str(i))
        assert done.status == 0 and done.records[0].image.endswith("b\ufffdc\n.png")
        assert rows(done.folder)[0]["image"].endswith("b\ufffdc\n.png")
        assert (done.folder / rows(done.folder)[0]["heatmap"]).exists()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (3000, 2)])
def test_no_image_is_too_small_or_too_thin(predict, tmp_path, height, width):
    done = predict(noise(tmp_path / "a.png", height, width), no_report=None)
    assert done.status == 0 and done.records[0].size == (width, height)
    assert (done.folder / "heatmaps" / "a.jpg").exists()


# decisions


@pytest.fixture
def decided(trained, tmp_path):
    """A checkpoint with a threshold for wood beside it."""

    def decided(threshold):
        weights = shutil.copy(trained / "filo.safetensors", tmp_path / "filo.safetensors")
        scoring = FiLo.load(weights, prompts=[PROMPTS], device="cpu")
        scoring.know("wood")
        scoring = scoring.scoring()
        made = Decision(threshold, "f1", None, 2, 2, {}, {}, "2026", of_class(scoring, "wood"))
        scale = Scale(0.3, 0.7, "by hand")
        path = tmp_path / "filo.decisions.json"
        write_decisions(Decisions(path, {"wood": made}, scale, of_class(scoring, None)))
        return weights

    return decided


def test_a_threshold_beside_the_checkpoint_decides(predict, decided, data):
    folder = data["mvtec"] / "wood" / "test"
    scores = sorted(record.score for record in predict(folder, out="before").records)
    done = predict(folder, ckpt_path=decided(scores[3]))
    assert (done.status, done.err) == (0, "")
    for row, record in zip(rows(done.folder), done.records, strict=True):
        assert row["decision"] == ("anomalous" if record.score >= scores[3] - 1e-9 else "normal")
        assert float(row["threshold"]) == record.threshold == scores[3]
    assert [row["decision"] for row in rows(done.folder)].count("anomalous") == 3
    lines = (done.folder / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["is_anomalous"] for line in lines] == [r.is_anomalous for r in done.records]
    about = json.loads((done.folder / "predict.json").read_text())
    assert about["thresholds"] == {"wood": scores[3]}
    assert about["scale"] == {"low": 0.3, "high": 0.7, "origin": "by hand"}


def test_a_threshold_made_otherwise_is_not_used_and_that_is_said(predict, decided, data):
    done = predict(data["mvtec"] / "wood" / "test" / "good", ckpt_path=decided(0.1), image_size=70)
    assert done.status == 0 and rows(done.folder)[0]["decision"] == ""
    assert "no decision for wood: its threshold in" in done.err and "image_size 56, not 70" in done.err
    assert "looking at 70 pixels, trained at 56" in done.err


def test_memory_does_not_grow_with_the_number_of_images(predict, data, monkeypatch):
    """What is open at once is one batch."""
    from filo.pictures import Picture

    alive, most = set(), [0]
    opened = Picture.open

    def watch(picture):
        alive.add(id(picture))
        most[0] = max(most[0], len(alive))
        return opened(picture)

    monkeypatch.setattr(Picture, "open", watch)
    monkeypatch.setattr(Picture, "__del__", lambda picture: alive.discard(id(picture)), raising=False)
    assert (
        predict(data["mvtec"] / "wood" / "test", data["mvtec"] / "fabric" / "test", batch_size=2).status == 0
    )
    assert most[0] <= 4
