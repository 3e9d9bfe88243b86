"""Which folder a run may use, and what of an older one goes: never anything that no run wrote."""

import json

import pytest

from filo.errors import InputError
from filo.run_folder import MERGE, PREDICTION, TEST, TRAINING, clear, find_run, require_free, start_run

LINE = json.dumps({"index": 0, "class_name": "nut", "heatmap": "heatmaps/a.jpg"}) + "\n"
RUNS = {
    "train.py": {
        "args.json": '{"train_data_path": "d"}',
        "log.jsonl": '{"loss": 1}\n',
        "loss.png": "x",
        "stage1_epoch_01.safetensors": "x",
        "filo.safetensors": "x",
        "state.safetensors": "x",
        "tensorboard/events.out.1": "x",
    },
    "test.py": {
        "args.json": '{"data_path": "d", "ckpt_path": "c"}',
        "results.json": '{"arguments": {}}',
        "predictions.jsonl": '{"class_name": "nut"}\n',
        "unfinished/about.json": "{}",
        "unfinished/class_000.maps": "x",
        "table.md": "x",
        "curves.json": "{}",
        "report.html": "x",
        "small/000000.jpg": "x",
        "small/000000_map.png": "x",
        "small/000000_mask.png": "x",
    },
    "filo.predict": {
        "args.json": '{"images": [], "ckpt_path": "c"}',
        "predict.json": '{"arguments": {}}',
        "predictions.jsonl": LINE,
        "predictions.csv": "x",
        "unfinished.json": "{}",
        "report.html": "x",
        "failed.txt": "x",
        "small/000000.jpg": "x",
        "heatmaps/a.jpg": "x",
    },
    "filo.merge": {
        "args.json": '{"shards": 2}',
        "predict.json": '{"arguments": {}, "shards": {}}',
        "predictions.jsonl": LINE.replace("heatmaps", "shard_1_of_2/heatmaps"),
        "predictions.csv": "x",
        "failed.txt": "x",
        "highest.txt": "x",
        "report.html": "x",
    },
}
KINDS = {"train.py": TRAINING, "test.py": TEST, "filo.predict": PREDICTION, "filo.merge": MERGE}
MINE = (
    *("notes.txt", "small/mine.png", "small/2024.jpg", "small/20240131_cat.jpg", "small/000001.png"),
    *("heatmaps/b.jpg", "tensorboard/mine", "stage1.safetensors", "unfinished/mine.json"),
)


def fill(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", RUNS)
def test_clearing_takes_what_a_run_wrote_and_nothing_else(command, tmp_path):
    fill(tmp_path, RUNS[command] | dict.fromkeys(MINE, "mine"))
    clear(tmp_path, KINDS[command])
    assert files(tmp_path) == {*MINE, "args.json"}
    start_run(tmp_path, KINDS[command], {"seed": 1})
    assert json.loads((tmp_path / "args.json").read_text()) == {"seed": 1}


@pytest.mark.parametrize("command", RUNS)
def test_where_there_is_no_run_nothing_is_removed(command, tmp_path):
    fill(tmp_path, {name: "mine" for run in RUNS.values() for name in run if name != "log.jsonl"})
    before = files(tmp_path)
    clear(tmp_path, KINDS[command])
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", RUNS)
def test_a_run_is_known_by_any_of_its_marks(command, tmp_path):
    kind = KINDS[command]
    for mark in kind.marks:
        folder = tmp_path / mark
        fill(folder, {mark: RUNS[command][mark]})
        assert find_run(folder) == (kind, mark)
    fill(tmp_path / "whole", RUNS[command])
    assert find_run(tmp_path / "whole") == (kind, next(iter(kind.marks)))


# command -> command whose run is there -> refused always, without --overwrite, or never
ALWAYS, ASKED, NEVER = "holds a run of", "holds another run .* add --overwrite", None
REFUSED = {
    "train.py": {"train.py": ASKED, "test.py": ALWAYS, "filo.predict": ALWAYS, "filo.merge": ALWAYS},
    "test.py": {"train.py": ALWAYS, "test.py": NEVER, "filo.predict": ALWAYS, "filo.merge": ALWAYS},
    "filo.predict": {"train.py": ALWAYS, "test.py": ASKED, "filo.predict": ASKED, "filo.merge": ALWAYS},
    "filo.merge": {"train.py": ALWAYS, "test.py": ALWAYS, "filo.predict": ALWAYS, "filo.merge": NEVER},
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", RUNS)
@pytest.mark.parametrize("command", RUNS)
def test_a_run_is_thrown_away_by_its_own_command_and_where_that_is_said(command, there, overwrite, tmp_path):
    fill(tmp_path, RUNS[there])
    refused = REFUSED[command][there]
    if refused is NEVER or (refused is ASKED and overwrite):
        require_free(tmp_path, KINDS[command], overwrite)
    else:
        with pytest.raises(InputError, match=refused):
            require_free(tmp_path, KINDS[command], overwrite)
    assert files(tmp_path) == RUNS[there].keys()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("command", RUNS)
def test_what_is_of_no_run_is_not_written_over(command, overwrite, tmp_path):
    require_free(tmp_path / "new", KINDS[command], overwrite)
    names = [name for name in RUNS[command] if name not in ("log.jsonl", "tensorboard/events.out.1")]
    for i, name in enumerate([*names, "results.json", "predict.json"]):
        fill(tmp_path / str(i), {name: "mine"})
        with pytest.raises(InputError, match="is there and of no run, so it is not overwritten: choose"):
            require_free(tmp_path / str(i), KINDS[command], overwrite)
    fill(tmp_path / "other", {"notes.txt": "mine", "report.md": "mine"})
    require_free(tmp_path / "other", KINDS[command], overwrite)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / names[1]).symlink_to("nowhere")
    with pytest.raises(InputError, match="of no run"):
        require_free(tmp_path / "link", KINDS[command], overwrite)


def test_a_training_that_finished_nothing_is_no_obstacle_but_weights_are(tmp_path):
    fill(tmp_path, {"args.json": RUNS["train.py"]["args.json"]})
    require_free(tmp_path, TRAINING)
    fill(tmp_path, {"filo.safetensors": "x"})
    with pytest.raises(InputError, match=r"holds another run \(args\.json\)"):
        require_free(tmp_path, TRAINING)


def test_a_heatmap_of_no_run_costs_the_old_run_nothing(tmp_path):
    fill(tmp_path, RUNS["filo.predict"] | {"heatmaps/b.jpg": "mine"})
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"heatmaps/b\.jpg is there and of no run"):
        start_run(tmp_path, PREDICTION, {}, ["a.jpg", "b.jpg"])
    assert files(tmp_path) == before
    start_run(tmp_path, PREDICTION, {}, ["a.jpg"])
    assert files(tmp_path) == {"heatmaps/b.jpg", "args.json"}


def test_damaged_lines_cost_nothing_of_the_user_s(tmp_path):
    lines = LINE + '{\n[]\nnull\n{"heatmap": 1}\n' + json.dumps({"heatmap": "../mine.jpg"}) + "\n"
    fill(tmp_path / "run", RUNS["filo.predict"] | {"predictions.jsonl": lines})
    fill(tmp_path, {"mine.jpg": "mine"})
    clear(tmp_path / "run", PREDICTION)
    assert files(tmp_path) == {"mine.jpg", "run/args.json"}
