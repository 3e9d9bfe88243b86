"""Very many images: shards that need no word between them, what a merge makes of them and what it refuses."""

import csv
import io
import json
import random
import shutil
from pathlib import Path

import pytest

from filo.errors import InputError
from filo.records import LINES, iterate_records, read_records, read_small
from filo.shards import Shard, find_shards, parse_shard
from tests.commands import flags, run
from tests.killing import kill, run_job, run_killed, start, terminate, wait
from tests.test_predict import noise
from tests.test_processes import gone

# which images


def test_every_path_is_in_one_shard_whatever_the_others_and_their_order():
    paths = [Path(f"parts/{i % 7}/{i}.png") for i in range(3000)]
    for of in (1, 2, 3, 8):
        shards = [Shard(number, of) for number in range(1, of + 1)]
        counts = [sum(map(shard.has, paths)) for shard in shards]
        assert sum(counts) == len(paths) and min(counts) > 0.8 * len(paths) / of
    assert [Shard(1, 3).has(path) for path in paths[::-1]] == [Shard(1, 3).has(path) for path in paths][::-1]


def test_a_path_is_in_the_same_shard_on_every_machine_and_however_it_is_spelt():
    names = ("a/b.png", "./a/b.png", "a//b.png", "a/x/../b.png", "ä\udcff.png", "c.png")
    where = [next(n for n in range(1, 6) if Shard(n, 5).has(Path(name))) for name in names]
    assert where == [1, 1, 1, 1, 1, 3]  # noted once; another hash would part what is unfinished otherwise


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "1/1001", "-1/4", "a/b", "1/4/2", "1.0/4", "²/4"]
)
def test_a_bad_shard_is_refused_with_what_is_wanted(text):
    with pytest.raises(InputError, match="wanted I/N, the I-th of N, counted from 1"):
        parse_shard(text)


def test_shards_are_found_by_their_folders(tmp_path):
    for name in ("shard_2_of_10", "shard_10_of_10", "shard_0_of_3", "shard_1_of_3.bak", "small"):
        (tmp_path / name).mkdir()
    (tmp_path / "shard_1_of_10").touch()
    assert find_shards(tmp_path) == [Shard(2, 10), Shard(10, 10)] and find_shards(tmp_path / "none") == []
    assert str(parse_shard("2/10")) == "2/10" and parse_shard("2/10").folder == "shard_2_of_10"


# commands


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of parts with a list of them: of two classes, one image twice, one broken, one missing."""
    folder = tmp_path_factory.mktemp("images")
    names = [f"{kind}/{i:02d}.png" for kind in ("wood", "hex_nut") for i in range(9)]
    for i, name in enumerate(names):
        noise(folder / name, seed=i)
    (folder / "wood/03.png").write_bytes(b"")
    lines = [f"{folder / name}\t{name.split('/')[0]}" for name in [*names, "wood/gone.png"]]
    lines += [f"{folder}/./wood/05.png\twood"]
    random.Random(0).shuffle(lines)
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def command(model, images, tmp_path, monkeypatch, capfd):
    """Run filo.predict on the list; None leaves a flag out."""

    def command(*arguments, **changes):
        values = model | {"list": images / "list.txt", "out": tmp_path / "out", "batch_size": 1}
        values = {name: value for name, value in (values | changes).items() if value is not None}
        return run(monkeypatch, capfd, "filo/predict.py", *arguments, *flags(**values))

    return command


@pytest.fixture
def merge(tmp_path, monkeypatch, capfd):
    return lambda *more, out="out": run(monkeypatch, capfd, "filo/merge.py", tmp_path / out, *more)


@pytest.fixture(scope="module")
def model(trained):
    weights = trained / "filo.safetensors"
    return {"prompts": "prompts/demo_mvtec.json", "ckpt_path": weights, "device": "cpu"}


@pytest.fixture(scope="module")
def sharded(model, images, tmp_path_factory):
    """The folder of three finished shards, not merged; the list of the second was in another order."""
    folder = tmp_path_factory.mktemp("sharded")
    lines = (images / "list.txt").read_text().splitlines()
    (folder / "other.txt").write_text("\n".join(lines[::-1]))
    for number in (1, 2, 3):
        named = folder / "other.txt" if number == 2 else images / "list.txt"
        arguments = flags(**model, list=named, shard=f"{number}/3", out=folder / "out", batch_size=1)
        status = wait(start("filo/predict.py", arguments, folder / "said"))
        assert status in (0, 1), (folder / "said").read_text()
    return folder / "out"


@pytest.fixture(scope="module")
def whole(model, images, tmp_path_factory):
    """The folder of the prediction by one process, of the list in order."""
    folder = tmp_path_factory.mktemp("whole")
    lines = sorted(set((images / "list.txt").read_text().replace("/./", "/").splitlines()))
    (folder / "sorted.txt").write_text("\n".join(lines))
    arguments = flags(**model, list=folder / "sorted.txt", out=folder / "out", batch_size=1)
    assert wait(start("filo/predict.py", arguments, folder / "said")) == 1, (folder / "said").read_text()
    return folder / "out"


@pytest.fixture
def shards(sharded, tmp_path):
    return Path(shutil.copytree(sharded, tmp_path / "out"))


def one_line(done, said):
    status, _, err = done
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert status == 2 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0], err


def told(record, folder):
    """What a record says, without where its pictures lie, and the pictures."""
    small = read_small(folder, record)
    heatmap = (folder / record.heatmap).read_bytes() if record.heatmap else None
    pixels = small and (small.image.tobytes(), small.anomaly_map.tobytes())
    said = (record.image, record.class_name, record.score, record.kinds, record.position, record.error)
    return (*said, heatmap, pixels)


def assert_same_prediction(merged, whole):
    records, wanted = (
        [told(record, folder) for record in iterate_records(folder)] for folder in (merged, whole)
    )
    assert records == wanted and len(records) == 19
    assert [record.index for record in iterate_records(merged)] == [*range(19)]
    tables = [list(csv.DictReader((folder / "predictions.csv").open())) for folder in (merged, whole)]
    for mine, theirs in zip(*tables, strict=True):
        assert bool(mine.pop("heatmap")) == bool(theirs.pop("heatmap")) and mine == theirs
    abouts = [json.loads((folder / "predict.json").read_text()) for folder in (merged, whole)]
    for name in ("classes", "images", "failed", "images_failed", "reasons", "scoring", "scale", "hashes"):
        assert abouts[0][name] == abouts[1][name]
    assert (merged / "report.html").read_text().count("<img") == 17


def test_shards_merge_into_what_one_process_gives(shards, whole, merge):
    status, out, err = merge()
    assert status == 1 and "17 of 19 images are done, 2 failed" in out and "report.html" in out
    assert "failed: " in err and "gone.png: no such file" in err and err.count("\n") == 2
    assert_same_prediction(shards, whole)
    about = json.loads((shards / "predict.json").read_text())
    assert about["classes"]["wood"]["images"] == 8 and about["images_computed"] == 19
    assert about["shards"].keys() == {"1/3", "2/3", "3/3"} and about["arguments"]["shard"] is None


def test_what_failed_can_be_looked_at_again(shards, command, merge, images, tmp_path):
    assert merge()[0] == 1
    failed = (shards / "failed.txt").read_text().splitlines()
    assert sorted(failed) == [f"{images}/wood/03.png\twood", f"{images}/wood/gone.png\twood"]
    status, _, err = command(list=shards / "failed.txt", out=tmp_path / "again")
    assert status == 2 and err.count("failed: ") == 2
    highest = (shards / "highest.txt").read_text().splitlines()
    assert len(highest) == 17 and {line.split("\t")[1] for line in highest} == {"wood", "hex_nut"}
    scores = {record.image: record.score for record in iterate_records(shards)}
    of_wood = [scores[line.split("\t")[0]] for line in highest if line.endswith("wood")]
    assert of_wood == sorted(of_wood, reverse=True)
    assert command(list=shards / "highest.txt", out=tmp_path / "best", no_report=True)[0] == 0


def test_merging_again_gives_the_same_and_other_runs_are_kept(shards, merge, command):
    assert merge()[0] == 1
    first = {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    (shards / "predictions.csv").unlink()
    assert merge()[0] == 1
    assert {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()} == first
    assert merge("--no_report")[0] == 1 and not (shards / "report.html").exists()
    one_line(command(shard=None), "holds a run of filo.merge")
    one_line(
        command(shard="1/3"), "holds another run (predict.json): choose another --out, or add --overwrite"
    )


def test_a_merge_is_a_run_that_can_be_calibrated_and_reported(shards, merge, tmp_path, monkeypatch, capfd):
    merge("--no_report")
    arguments = [shards, "--normal", "--rate", "0.2", "--out", tmp_path / "d.json"]
    status, out, err = run(monkeypatch, capfd, "filo/calibrate.py", *arguments)
    assert (status, err) == (0, "") and "note: 2 images of the run failed" in out
    assert json.loads((tmp_path / "d.json").read_text())["scale"]["origin"].startswith("median of 17 normal")
    assert run(monkeypatch, capfd, "filo/report/__main__.py", shards)[0] == 0


def test_a_shard_without_images_is_a_shard(command, merge, images, tmp_path):
    path = images / "wood/00.png"
    (tmp_path / "one.txt").write_text(f"{path}\twood\n")
    found = [command(list=tmp_path / "one.txt", shard=f"{i}/2", no_report=True) for i in (1, 2)]
    assert [status for status, _, _ in found] == [0, 0]
    assert sorted(out.splitlines()[0].split(": ")[1] for _, out, _ in found) == [
        "0 of 1 images",
        "1 of 1 images",
    ]
    assert merge()[0] == 0 and [r.image for r in read_records(tmp_path / "out")] == [str(path)]


def test_images_that_are_named_twice_are_looked_at_once_and_that_is_said(command, images, tmp_path):
    status, _, err = command(no_report=True)
    assert status == 1 and err.count("note: 1 images are named more than once; each is looked at once") == 1
    named = [record.image for record in iterate_records(tmp_path / "out")]
    assert len(named) == 19 and sum(name.endswith("wood/05.png") for name in named) == 1


def test_a_list_comes_from_the_standard_input_beside_images_that_are_named(
    command, images, tmp_path, monkeypatch
):
    text = f"{images}/wood/00.png\n{images}/hex_nut/00.png\thex_nut\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert command(images / "wood/01.png", list="-", no_report=True, **{"class": "wood"})[0] == 0
    found = [(Path(record.image).name, record.class_name) for record in iterate_records(tmp_path / "out")]
    assert found == [("00.png", "hex_nut"), ("01.png", "wood"), ("00.png", "wood")]


def test_without_pictures_there_are_records_a_table_and_a_report(command, images, tmp_path):
    status, out, _ = command(no_pictures=True)
    assert status == 1 and "report: " in out
    assert not {"small", "heatmaps"} & {path.name for path in (tmp_path / "out").iterdir()}
    page = (tmp_path / "out/report.html").read_text()
    assert "filo.predict without --no_pictures keeps them" in page and "<img" not in page
    assert page.count('class="card"') == 17


# what is refused


def test_nothing_to_look_at_is_one_line(command):
    one_line(command(list=None), "nothing to look at: name files, folders or globs, or a list")
    one_line(command(list="none.txt"), "the list none.txt cannot be read")
    one_line(command(shard="0/4"), "--shard '0/4': wanted I/N, the I-th of N, counted from 1")


def missing(out):
    shutil.rmtree(out / "shard_2_of_3")
    return "has no shard 2/3: run its command, the one of 1/3 with --shard 2/3"


def unfinished(out):
    (out / "shard_3_of_3/unfinished.json").write_text("{}")
    return "shard 3/3 in"


def not_even_begun(out):
    (out / "shard_3_of_3/predict.json").unlink()
    return "is not finished: run its command again, it goes on"


def two_sets(out):
    (out / "shard_1_of_4").mkdir()
    return "holds shards of 3 and of 4"


def none_at_all(out):
    for path in out.iterdir():
        shutil.rmtree(path)
    return "holds no shards: name what `filo.predict --shard` was given as --out"


def another_place(out):
    (out / "shard_1_of_3").rename(out / "x")
    shutil.copytree(out / "shard_2_of_3", out / "shard_1_of_3")
    return "it says that it is 2/3"


def damaged(out):
    (out / "shard_1_of_3/predict.json").write_text('{"shard": []}')
    return "predict.json is damaged (TypeError"


def damaged_line(out):
    with (out / "shard_1_of_3" / LINES).open("a") as file:
        file.write("{")
    return "is damaged (JSONDecodeError)"


def lost_line(out):
    path = out / "shard_1_of_3" / LINES
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    return "but the shards say that they have 19 and have 18: run them again"


def other_run(out):
    (out / "args.json").write_text('{"images": []}')
    return "holds a run of filo.predict (args.json)"


def mine(out):
    (out / "predictions.csv").write_text("mine")
    return "predictions.csv is there and of no run"


BAD = [
    missing,
    unfinished,
    not_even_begun,
    two_sets,
    none_at_all,
    another_place,
    damaged,
    damaged_line,
    lost_line,
]
BAD += [other_run, mine]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_merge_that_cannot_be_is_one_line(spoil, shards, merge):
    said = spoil(shards)
    before = {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    one_line(merge(), said)
    after = {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before and not (shards / "predict.json").exists()


@pytest.mark.parametrize("what", ["flags", "list", "weights"])
def test_shards_of_different_predictions_are_not_merged(what, shards, command, merge, images, tmp_path):
    changes = {"flags": {"heatmap_side": 99}, "list": {"list": tmp_path / "more.txt"}, "weights": {}}[what]
    (tmp_path / "more.txt").write_text((images / "list.txt").read_text() + "more.png\twood\n")
    assert command(shard="2/3", overwrite=True, **changes)[0] in (0, 1)
    if what == "weights":
        path = shards / "shard_2_of_3/predict.json"
        path.write_text(path.read_text().replace('"CLIP weights": "', '"CLIP weights": "0'))
    said = {"flags": "--heatmap_side 1024 there, 99 here", "list": "images of all shards 20 there, 21 here"}
    one_line(merge(), said.get(what, "CLIP weights "))


def test_a_shard_goes_where_no_other_run_is(command, images, tmp_path):
    assert command(no_report=True)[0] == 1
    one_line(command(shard="1/2"), "holds a run of filo.predict (predict.json): choose another --out")
    assert not (tmp_path / "out/shard_1_of_2").exists()


# stopped and killed


def contents(folder):
    """All files of a run but those that say when and how fast it ran."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("predict.json", "args.json", "report.html")
    }


def test_shards_and_a_merge_that_are_killed_end_as_they_would(sharded, model, images, merge, tmp_path):
    killed = 0
    for number in (1, 2, 3):
        shard = {"shard": f"{number}/3", "out": tmp_path / "out", "batch_size": 1}
        arguments = flags(**model, list=images / "list.txt", **shard)
        ends = int((sharded / f"shard_{number}_of_3/failed.txt").exists())
        killed += run_killed("filo/predict.py", arguments, tmp_path, 2, 60, number, ends)
    assert killed >= 3
    assert run_killed("filo/merge.py", [tmp_path / "out"], tmp_path, 3, 12, 0, ends=1) >= 2
    shutil.copytree(sharded, tmp_path / "never")
    assert merge(out="never")[0] == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "never")


def test_sigterm_ends_a_prediction_in_one_line_and_what_is_done_stays(model, images, tmp_path):
    arguments = flags(**model, list=images / "list.txt", out=tmp_path / "out", batch_size=2)
    assert wait(start("filo/predict.py", arguments, tmp_path / "said", 50, terminate)) == 143
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines[-1] == "stopped by SIGTERM" and "Traceback" not in "".join(lines)
    done = len(read_records(tmp_path / "out"))
    assert 2 <= done < 19 and not list(tmp_path.rglob("*.tmp"))
    assert wait(start("filo/predict.py", arguments, tmp_path / "said")) == 1
    assert "going on: " in (tmp_path / "said").read_text() and len(read_records(tmp_path / "out")) == 19


# several processes of one job


@pytest.fixture
def job(model, images, tmp_path):
    """Run filo.predict on the list by some processes; `acts` is what they do to themselves."""

    def job(count, acts=None, **changes):
        values = model | {"list": images / "list.txt", "out": tmp_path / "out", "batch_size": 1} | changes
        return run_job(count, "filo/predict.py", flags(**values), tmp_path, acts)

    return job


def test_processes_predict_as_one_and_once_more_compute_nothing(job, whole, tmp_path):
    statuses, said = job(2)
    assert statuses == [1, 1] and said[1] == "", said
    assert "17 of 19 images are done, 2 failed" in said[0] and said[0].count("failed: ") == 2
    assert_same_prediction(tmp_path / "out", whole)
    about = json.loads((tmp_path / "out/predict.json").read_text())
    assert about["environment"]["processes"] == 2 and about["images_computed"] == 19
    assert about["command"].startswith("python -m filo.predict --prompts")
    assert job(2)[0] == [1, 1]
    assert_same_prediction(tmp_path / "out", whole)
    assert json.loads((tmp_path / "out/predict.json").read_text())["images_computed"] == 0
    statuses, said = job(2, heatmap_side=99)
    assert 2 in statuses and "holds a run of other arguments (--heatmap_side 1024 there, 99 here)" in gone(
        said
    )


def test_a_killed_prediction_of_processes_goes_on_with_as_many(job, whole, tmp_path):
    statuses, said = job(2, {1: (60, kill)})
    assert statuses == [1, -9] and "process 1 (of 0 to 1) is gone without a word" in gone(said)
    assert read_records(tmp_path / "out/shard_2_of_2")
    statuses, said = job(3)
    assert 2 in statuses and "holds shards of 2, not of 3: go on with 2 processes" in gone(said)
    assert job(2)[0] == [1, 1]
    assert_same_prediction(tmp_path / "out", whole)
    assert json.loads((tmp_path / "out/predict.json").read_text())["images_computed"] < 19


def test_more_processes_than_images_are_no_error(job, images, tmp_path):
    (tmp_path / "one.txt").write_text(f"{images}/wood/00.png\twood\n")
    statuses, said = job(3, list=tmp_path / "one.txt")
    assert statuses == [0, 0, 0] and "1 of 1 images are done, 0 failed" in said[0], said
    assert len(read_records(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shard": "1/2"}, "--shard 1/2: each of the 2 processes looks at a shard of its own: leave it out"),
        ({"list": "-"}, "2 processes cannot all read the standard input: put the list into a file"),
    ],
)
def test_processes_take_neither_a_shard_nor_the_standard_input(changes, line, job, tmp_path):
    statuses, said = job(2, **changes)
    assert 2 in statuses and line in gone(said) and not (tmp_path / "out").exists()
