"""train.py and test.py as commands: a whole round, and one clear line with status 2 for every bad input."""

import argparse
import json
import re
import shutil
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from filo.decisions import read_decisions
from filo.metrics import COLUMNS
from filo.records import read_records
from filo.synthetic import DATASETS
from tests.commands import ROOT, flags, run


def test_a_run_writes_arguments_log_and_a_checkpoint_per_epoch(trained, train_flags):
    names = {"args.json", "log.jsonl", "stage1_epoch_01.safetensors", "stage2_epoch_01.safetensors"}
    assert {path.name for path in trained.iterdir()} == names | {"filo.safetensors", "loss.png"}
    assert json.loads((trained / "args.json").read_text())["n_ctx"] == 2
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [(1, 1), (2, 1)]
    assert all(line["loss"] > 0 and line["rss_gb"] > 0 for line in lines)
    last, final = (load_file(trained / f"{n}.safetensors") for n in ("stage2_epoch_01", "filo"))
    assert last.keys() == final.keys() and not [name for name in final if name.startswith("clip.")]


def test_stage_two_changes_the_adapter_alone(trained):
    first, second = (load_file(trained / f"stage{n}_epoch_01.safetensors") for n in (1, 2))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"adapter.down.weight", "adapter.up.weight"}


def test_the_same_seed_gives_the_same_weights(trained, train_flags, tmp_path, monkeypatch, capfd):
    weights = {}
    for name, changes in {"same": {}, "workers": {"workers": 2}, "other": {"seed": 1}}.items():
        folder = tmp_path / name
        status, _, err = run(
            monkeypatch, capfd, "train.py", *flags(**train_flags | changes, save_path=folder)
        )
        assert status == 0, err
        weights[name] = load_file(folder / "filo.safetensors")
    wanted = load_file(trained / "filo.safetensors")
    assert all(torch.equal(weights["same"][name], wanted[name]) for name in wanted)
    assert all(torch.equal(weights["workers"][name], wanted[name]) for name in wanted)
    assert not all(torch.equal(weights["other"][name], wanted[name]) for name in wanted)


def test_evaluation_prints_the_table_and_writes_all_that_is_needed_to_repeat_it(
    test_flags, trained, data, monkeypatch, capfd
):
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**test_flags))
    assert (status, err) == (0, "")
    results = json.loads((test_flags["save_path"] / "results.json").read_text())
    table = (test_flags["save_path"] / "table.md").read_text()
    assert table in out
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert rows == [*sorted(spec.name.replace("_", " ") for spec in DATASETS["mvtec"]), "mean"]
    assert results["mean"].keys() == set(COLUMNS)
    assert results["images"] == 6 * len(DATASETS["mvtec"]) and results["classes"]["fabric"]["anomalous"] == 4
    assert set(results["hashes"]) == {"checkpoint", "clip_weights", "meta.json", "prompts"}
    assert results["trained"]["dataset"] == "demo_visa" and results["preset"] == "official"
    assert torch.__version__.startswith(results["environment"]["packages"]["torch"])
    assert results["peak_memory"]["rss_gb"] > 0 and results["seconds"] > 0
    assert "test.py" in results["command"]


def test_batches_give_what_single_images_give(test_flags, tmp_path, monkeypatch, capfd):
    means = []
    for size in (1, 5):
        values = test_flags | {"batch_size": size, "save_path": tmp_path / str(size)}
        assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
        means.append(json.loads((tmp_path / str(size) / "results.json").read_text())["mean"])
    # rounding differs by 1e-7, which moves the 200 thresholds of the legacy estimate with the maps' extremes
    legacy = [mean.pop("aupro_legacy") for mean in means]
    assert legacy[0] == pytest.approx(legacy[1], abs=2e-3)
    assert means[0] == pytest.approx(means[1], abs=1e-4)


def test_the_preset_paper_trains_and_tests(train_flags, test_flags, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "paper"
    status, _, err = run(
        monkeypatch, capfd, "train.py", *flags(**train_flags, preset="paper", save_path=folder)
    )
    assert (status, err) == (0, "")
    values = test_flags | {"ckpt_path": folder / "filo.safetensors"}
    assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
    results = json.loads((test_flags["save_path"] / "results.json").read_text())
    assert results["preset"] == "paper"


def test_keep_last_leaves_one_checkpoint_of_each_stage(train_flags, tmp_path, monkeypatch, capfd):
    values = train_flags | {"epoch": 2, "adapter_epoch": 2, "keep": "last", "save_path": tmp_path / "run"}
    assert run(monkeypatch, capfd, "train.py", *flags(**values))[0] == 0
    assert sorted(path.name for path in (tmp_path / "run").glob("stage*")) == [
        "stage1_epoch_02.safetensors",
        "stage2_epoch_02.safetensors",
    ]


def test_a_warning_when_the_dataset_under_test_was_trained_on(test_flags, data, monkeypatch, capfd):
    values = test_flags | {"dataset": "demo_visa", "data_path": data["visa"]}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**values))
    assert status == 0 and "not zero-shot" in err


def test_masks_may_be_missing_in_testing(test_flags, data, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(data["mvtec"], tmp_path / "bare")
    edit_meta(root, lambda rows: rows[-1].update(mask_path=""))
    status, out, _ = run(monkeypatch, capfd, "test.py", *flags(**test_flags | {"data_path": root}))
    assert status == 0 and "without a mask: no pixel metrics" in out and "n/a" in out


def edit_meta(root, change):
    """Change the test entries of the first class of a meta.json."""
    path = root / "meta.json"
    meta = json.loads(path.read_text())
    change(next(iter(meta["test"].values())))
    path.write_text(json.dumps(meta))


# bad input: (flag values, words of the one line); `{root}` is a copy of the dataset that a test may spoil


def spoil_nothing(root):
    pass


def drop_meta(root):
    (root / "meta.json").unlink()


def other_schema(root):
    (root / "meta.json").write_text('{"test": [{"image": "a.png"}]}')


def path_outside(root):
    edit_meta(root, lambda rows: rows[0].update(img_path="../../secret.png"))


def broken_image(root):
    meta = json.loads((root / "meta.json").read_text())
    name = next(iter(meta["test"].values()))[0]["img_path"]
    (root / name).write_bytes((root / name).read_bytes()[:300])


def small_mask(root):
    meta = json.loads((root / "meta.json").read_text())
    for row in next(iter(meta["test"].values())):
        if row["mask_path"]:
            Image.new("L", (8, 8), 255).save(root / row["mask_path"])


def without_mask(root):
    edit_meta(root, lambda rows: next(row for row in rows if row["anomaly"]).update(mask_path=""))


def unknown_class(root):
    path = root / "meta.json"
    meta = json.loads(path.read_text())
    meta["test"]["gizmo"] = [{**row, "cls_name": "gizmo"} for row in meta["test"].popitem()[1]]
    path.write_text(json.dumps(meta))


BAD_DATA = {
    "no folder": (shutil.rmtree, "no such dataset folder"),
    "no meta.json": (drop_meta, r"meta\.json does not exist.*python data/"),
    "another schema": (other_schema, r"meta\.json is not in the expected form"),
    "a path that leads out": (path_outside, r"secret\.png' leads out of the dataset's root"),
    "a broken image": (broken_image, r"cannot be read as an image"),
    "a mask of another size": (small_mask, r"is 8x8 pixels, its image 64x64"),
    "a class without prompts": (unknown_class, r"'gizmo' has no prompts in .*add \"gizmo\""),
}
BAD_MODEL = {
    "an unknown model": ({"clip_model": "ViT-L-14-335"}, r"unknown CLIP model 'ViT-L-14-335'.*ViT-L-14-336"),
    "an unknown tag": (
        {"clip_model": "ViT-B-32", "clip_pretrained": "opnai", "image_size": 64},
        r"'opnai' is neither a file nor a weights tag .*openai",
    ),
    "no weights file": ({"clip_pretrained": "none/weights.pt"}, r"none/weights\.pt: no such weights file"),
    "an unreadable weights file": (
        {"clip_pretrained": "README.md"},
        r"README\.md is no weights file",
    ),
    "an image size off the patch": ({"image_size": 57}, r"57 is no multiple of the 14-pixel patch.*try 56"),
}
BAD_TRAINING = {
    "another seed than a number": ({"clip_pretrained": "drawn:" + "9" * 23}, "wanted a number below"),
    "a device of no use": ({"device": "meta"}, r"device 'meta' cannot be used"),
    "a blur wider than the image": ({"preset": "paper", "image_size": 14}, "too small for a blur of 33"),
    "more learned vectors than fit": ({"n_ctx": 80}, "learn fewer by --n_ctx"),
    "taps beyond the tower": (
        {"features_list": [1, 5]},
        r"features_list \[1, 5\]: wanted rising.*between 1 and 4",
    ),
    "an unknown dataset name": (
        {"dataset": "gizmos"},
        r"no prompts for the dataset 'gizmos'.*there are: .*mvtec",
    ),
    "nothing to train": ({"epoch": 0, "adapter_epoch": 0}, "leave nothing to train"),
    "a rate that blows up": (
        {"decoder_learning_rate": 1e30, "epoch": 3},
        r"loss after stage 1, epoch \d, image \d+ is",
    ),
    "a device that is not there": ({"device": "cuda:77"}, r"device 'cuda:77' cannot be used"),
}


def one_line(outcome, pattern):
    """Assert status 2 and exactly one line on stderr that matches."""
    status, _, err = outcome
    assert status == 2, err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(pattern, err), err


@pytest.mark.parametrize("what", BAD_DATA)
@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_bad_data_is_one_line(script, what, data, train_flags, test_flags, tmp_path, monkeypatch, capfd):
    spoil, pattern = BAD_DATA[what]
    if script == "train.py":
        root = shutil.copytree(data["visa"], tmp_path / "bad")
        values = train_flags | {"train_data_path": root, "save_path": tmp_path / "run"}
    else:
        root = shutil.copytree(data["mvtec"], tmp_path / "bad")
        values = test_flags | {"data_path": root}
    spoil(root)
    one_line(run(monkeypatch, capfd, script, *flags(**values)), pattern)
    assert not (tmp_path / "run" / "filo.safetensors").exists()
    assert not (tmp_path / "results" / "results.json").exists()


@pytest.mark.parametrize("what", [*BAD_MODEL, *BAD_TRAINING])
def test_bad_training_input_is_one_line(what, train_flags, tmp_path, monkeypatch, capfd):
    change, pattern = (BAD_MODEL | BAD_TRAINING)[what]
    values = train_flags | {"save_path": tmp_path / "run"} | change
    one_line(run(monkeypatch, capfd, "train.py", *flags(**values)), pattern)


@pytest.mark.parametrize("what", BAD_MODEL)
def test_bad_models_are_one_line_in_testing_too(what, test_flags, monkeypatch, capfd):
    change, pattern = BAD_MODEL[what]
    one_line(run(monkeypatch, capfd, "test.py", *flags(**test_flags | change)), pattern)


def test_training_without_masks_is_refused(data, train_flags, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(data["visa"], tmp_path / "bare")
    without_mask(root)
    values = train_flags | {"train_data_path": root, "save_path": tmp_path / "run"}
    one_line(run(monkeypatch, capfd, "train.py", *flags(**values)), "1 anomalous images .* have no mask")


def test_a_folder_that_holds_a_run_is_kept_unless_told_otherwise(
    train_flags, trained, tmp_path, monkeypatch, capfd
):
    folder = shutil.copytree(trained, tmp_path / "run")
    values = train_flags | {"save_path": folder, "seed": 9}
    one_line(run(monkeypatch, capfd, "train.py", *flags(**values)), "holds another run.*--overwrite")
    assert (folder / "filo.safetensors").read_bytes() == (trained / "filo.safetensors").read_bytes()
    assert run(monkeypatch, capfd, "train.py", *flags(**values, overwrite=True))[0] == 0
    assert (folder / "filo.safetensors").read_bytes() != (trained / "filo.safetensors").read_bytes()


def missing_checkpoint(trained, folder):
    return folder / "none.safetensors"


def truncated_checkpoint(trained, folder):
    path = folder / "cut.safetensors"
    path.write_bytes((trained / "filo.safetensors").read_bytes()[:-100])
    return path


def foreign_checkpoint(trained, folder):
    save_file({"a": torch.zeros(1)}, folder / "foreign.safetensors")
    return folder / "foreign.safetensors"


def other_architecture(trained, folder):
    """A checkpoint whose header speaks of other tensors than it holds."""
    from safetensors import safe_open

    path = folder / "other.safetensors"
    with safe_open(trained / "filo.safetensors", "pt") as file:
        metadata = file.metadata()
    state = load_file(trained / "filo.safetensors")
    state["linear_heads.0.weight"] = torch.zeros(7, 7)
    save_file(state, path, metadata)
    return path


BAD_CHECKPOINTS = {
    missing_checkpoint: r"none\.safetensors: no such checkpoint",
    truncated_checkpoint: r"cut\.safetensors is no readable safetensors file",
    foreign_checkpoint: r"foreign\.safetensors is no checkpoint",
    other_architecture: r"linear_heads\.0\.weight \(wanted \(24, 32\), found \(7, 7\)\)",
}


@pytest.mark.parametrize("make", BAD_CHECKPOINTS, ids=lambda make: make.__name__)
def test_bad_checkpoints_are_one_line(make, trained, test_flags, tmp_path, monkeypatch, capfd):
    values = test_flags | {"ckpt_path": make(trained, tmp_path)}
    one_line(run(monkeypatch, capfd, "test.py", *flags(**values)), BAD_CHECKPOINTS[make])


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"features_list": [1, 2, 3]}, r"trained with features_list \(1, 2, 4\), not \(1, 2, 3\)"),
        ({"n_ctx": 12}, "trained with n_ctx 2, not 12"),
        ({"clip_pretrained": "drawn:1"}, r"was trained on the CLIP .*drawn:0.*--clip_pretrained"),
    ],
)
def test_flags_that_contradict_the_checkpoint_are_one_line(change, pattern, test_flags, monkeypatch, capfd):
    one_line(run(monkeypatch, capfd, "test.py", *flags(**test_flags | change)), pattern)


def test_another_image_size_is_allowed_and_said(test_flags, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**test_flags, image_size=70))
    assert status == 0 and "tested at 70 pixels, trained at 56" in err


COMMANDS = [
    path.relative_to(ROOT).as_posix()
    for folder, pattern in (("", "*.py"), ("filo", "**/*.py"), ("data", "*.py"), ("prompts", "*.py"))
    for path in sorted((ROOT / folder).glob(pattern))
    if '__name__ == "__main__"' in path.read_text()
]
FLAGS = {"train.py": 28, "test.py": 28, "filo/predict.py": 28, "filo/calibrate.py": 6}  # so many at least


@pytest.mark.parametrize("script", COMMANDS)
def test_every_flag_has_a_help_text(script, monkeypatch, capfd):
    parsers = []

    def parse_args(parser):
        parsers.append(parser)
        raise SystemExit(0)

    monkeypatch.setattr("argparse.ArgumentParser.parse_args", parse_args)
    run(monkeypatch, capfd, script)
    given = list(flags_of(parsers[0]))
    assert len(given) >= FLAGS.get(script, 2)
    assert [name for name, text in given if not text or len(text.split()) < 3] == []
    assert "%" not in "".join(text for _, text in given)  # argparse would take it for a field


def flags_of(parser):
    """Give name and help text of every flag of a parser and of its subcommands, those too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from ((each.dest, each.help) for each in action._choices_actions)
            for command in action.choices.values():
                yield from flags_of(command)
        else:
            yield action.dest, action.help


def test_the_commands_are_known():
    assert {"train.py", "test.py", "filo/predict.py", "filo/bench/__main__.py", "data/visa.py"} < set(
        COMMANDS
    )


@pytest.mark.parametrize(
    ("script", "values"),
    [
        ("train.py", {"seed": "9" * 23}),
        ("train.py", {"image_size": 800_000}),
        ("train.py", {"workers": 100_000}),
        ("train.py", {"learning_rate": "nan"}),
        ("train.py", {"epoch": -1}),
        ("train.py", {"aug_rate": 1.5}),
        ("test.py", {"ckpt_path": "a", "batch_size": 0}),
        ("test.py", {"ckpt_path": "a", "seed": "x"}),
    ],
)
def test_values_out_of_range_are_named_by_argparse(script, values, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, script, *flags(**values))
    assert status == 2 and "wanted a" in err and "Traceback" not in err


def test_a_results_folder_that_cannot_be_written_is_noticed_first(test_flags, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("filo.evaluate.evaluate", lambda *_: pytest.fail("evaluated for nothing"))
    values = test_flags | {"save_path": tmp_path / "file" / "results"}
    one_line(run(monkeypatch, capfd, "test.py", *flags(**values)), "cannot write")


def test_a_run_that_finished_nothing_is_no_obstacle(train_flags, data, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(data["visa"], tmp_path / "bad")
    broken_image(root)
    values = train_flags | {"save_path": tmp_path / "run"}
    spoilt = values | {"train_data_path": root}
    one_line(run(monkeypatch, capfd, "train.py", *flags(**spoilt)), "cannot be read as an image")
    assert run(monkeypatch, capfd, "train.py", *flags(**values))[0] == 0


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


CACHED = [
    {"aug_rate": 0.5, "batch_size": 1},
    *(pytest.param(c, marks=pytest.mark.slow) for c in ({}, {"preset": "paper"})),
]


@pytest.mark.parametrize("changes", CACHED, ids=str)
def test_cached_features_give_the_losses_of_a_live_run(changes, train_flags, tmp_path, monkeypatch, capfd):
    values = train_flags | {"epoch": 2, "adapter_epoch": 2} | changes
    losses = {}
    for name, cache in (
        ("live", {}),
        ("first", {"cache_features": "kept"}),
        ("again", {"cache_features": "kept"}),
    ):
        cache = {key: tmp_path / value for key, value in cache.items()}
        status, out, err = run(
            monkeypatch, capfd, "train.py", *flags(**values | cache, save_path=tmp_path / name)
        )
        assert (status, err) == (0, "")
        losses[name] = losses_of(tmp_path / name)
    assert losses["first"] == pytest.approx(losses["live"], rel=1e-5)
    assert losses["again"] == pytest.approx(losses["live"], rel=1e-5)
    images = 6 * len(DATASETS[values["dataset"].removeprefix("demo_")])
    assert f"features: {images} images" in out and ("0 of them still" in out) == ("aug_rate" not in changes)


def test_features_of_another_clip_are_refused_by_name(train_flags, tmp_path, monkeypatch, capfd):
    values = train_flags | {"cache_features": tmp_path / "kept", "save_path": tmp_path / "one"}
    assert run(monkeypatch, capfd, "train.py", *flags(**values))[0] == 0
    values |= {"features_list": [1, 3, 4], "save_path": tmp_path / "two"}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**values))
    assert status == 2 and "features_list [1, 2, 4] there, [1, 3, 4] here" in err and err.count("\n") == 1


def test_another_precision_is_close_and_recorded(test_flags, tmp_path, monkeypatch, capfd):
    means = {}
    for precision in ("fp32", "bf16"):
        values = test_flags | {"precision": precision, "save_path": tmp_path / precision}
        status, _, err = run(monkeypatch, capfd, "test.py", *flags(**values))
        assert status == 0, err
        results = json.loads((tmp_path / precision / "results.json").read_text())
        assert results["arguments"]["precision"] == precision
        means[precision] = results["mean"]["auroc_px"]
    assert means["bf16"] == pytest.approx(means["fp32"], abs=0.02) and means["bf16"] != means["fp32"]


def test_compiling_is_for_cuda(test_flags, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**test_flags, compile=True))
    assert status == 2 and "--compile is for CUDA" in err and err.count("\n") == 1


def test_a_report_comes_with_the_test_and_again_from_its_files(
    test_flags, trained, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "run"
    values = test_flags | {"save_path": folder, "report": True}
    status, out, err = run(monkeypatch, capfd, "test.py", *flags(**values))
    assert status == 0, err
    page = (folder / "report.html").read_text()
    assert f"report: {folder / 'report.html'}" in out and "hex nut" in page and "fabric" in page
    records = read_records(folder)
    results = json.loads((folder / "results.json").read_text())
    assert len(records) == results["images"] and {record.label for record in records} == {0, 1}
    curves = json.loads((folder / "curves.json").read_text())
    assert set(curves) == set(results["classes"])
    (folder / "report.html").unlink()
    (folder / "curves.json").unlink()
    status, _, err = run(monkeypatch, capfd, "filo/report/__main__.py", folder)
    assert status == 0, err
    again = (folder / "report.html").read_text()
    assert "No curves over pixels" in again and "No curves over pixels" not in page
    assert page.count("<svg") > again.count("<svg") > 0


def test_a_test_keeps_thresholds_beside_the_checkpoint(test_flags, trained, tmp_path, monkeypatch, capfd):
    shutil.copy(trained / "filo.safetensors", tmp_path)
    checkpoint = tmp_path / "filo.safetensors"
    values = test_flags | {"ckpt_path": checkpoint, "save_path": tmp_path / "run", "calibrate": "f1"}
    status, _, err = run(monkeypatch, capfd, "test.py", *flags(**values))
    assert status == 0, err
    kept = read_decisions(tmp_path / "filo.decisions.json")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(kept.classes) == set(results["classes"]) and kept.scale is not None
    for name in kept.classes:
        assert kept.find(name, results["scoring"]) == (kept.classes[name].threshold, "")
        assert results["thresholds"][name] == kept.classes[name].threshold
    assert results["decisions"].endswith("chosen on these very images, hence optimistic")
    values = values | {"calibrate": "fpr", "rate": 0.4, "report": True}  # read by its own report
    assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
    again = read_decisions(tmp_path / "filo.decisions.json")
    assert {decision.rate for decision in again.classes.values()} == {0.4} and again.scale == kept.scale
    page = (tmp_path / "run" / "report.html").read_text()
    assert "filo.decisions.json, chosen on these very images" in page and "best F1" not in page


def test_damaged_thresholds_are_noticed_before_anything_is_tested(
    test_flags, trained, tmp_path, monkeypatch, capfd
):
    shutil.copy(trained / "filo.safetensors", tmp_path)
    (tmp_path / "filo.decisions.json").write_text("{")
    monkeypatch.setattr("filo.evaluate.evaluate", lambda *_: pytest.fail("evaluated for nothing"))
    values = test_flags | {"ckpt_path": tmp_path / "filo.safetensors"}
    for changes in ({}, {"report": True}, {"calibrate": "f1"}):
        outcome = run(monkeypatch, capfd, "test.py", *flags(**values | changes))
        one_line(outcome, r"filo\.decisions\.json holds no thresholds .*; remove it and calibrate again")
    assert not test_flags["save_path"].exists()


def test_thresholds_kept_before_are_those_of_the_results(test_flags, trained, tmp_path, monkeypatch, capfd):
    shutil.copy(trained / "filo.safetensors", tmp_path)
    values = test_flags | {"ckpt_path": tmp_path / "filo.safetensors"}
    found = []
    for changes in ({"calibrate": "f1"}, {}):
        assert run(monkeypatch, capfd, "test.py", *flags(**values | changes))[0] == 0
        found.append(json.loads((test_flags["save_path"] / "results.json").read_text()))
    assert found[0]["thresholds"] == found[1]["thresholds"]
    assert len(found[0]["thresholds"]) == len(DATASETS["mvtec"])
    assert [each["decisions"].endswith("hence optimistic") for each in found] == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("predict.json", '{"arguments": {}}', "holds a run of filo.predict"),
        ("log.jsonl", "", "holds a run of train.py"),
        ("predict.json", "{}", "of no run, so it is not overwritten: choose another --save_path"),
        ("report.html", "mine", "of no run, so it is not overwritten"),
        ("curves.json", "{}", "of no run, so it is not overwritten"),
    ],
)
def test_nothing_is_tested_into_a_folder_with_something_else(
    name, content, pattern, test_flags, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / name).write_text(content)
    one_line(run(monkeypatch, capfd, "test.py", *flags(**test_flags, report=True)), pattern)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: content}


def test_an_earlier_test_makes_room_for_the_next(test_flags, tmp_path, monkeypatch, capfd):
    assert run(monkeypatch, capfd, "test.py", *flags(**test_flags, report=True))[0] == 0
    folder, mine = test_flags["save_path"], ("notes.txt", "small/mine.jpg")
    for name in mine:
        (folder / name).write_text("mine")
    assert run(monkeypatch, capfd, "test.py", *flags(**test_flags))[0] == 0
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"args.json", "table.md", "results.json", "predictions.jsonl", *mine}


def test_tensorboard_is_named_where_it_is_missing(train_flags, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    values = train_flags | {"save_path": tmp_path / "run", "tensorboard": True}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**values))
    assert status == 2 and "pip install tensorboard" in err and err.count("\n") == 1


@pytest.mark.parametrize("epochs", [(0, 1), (1, 0)])
def test_a_stage_may_be_left_out(train_flags, tmp_path, monkeypatch, capfd, epochs):
    values = train_flags | {"save_path": tmp_path, "epoch": epochs[0], "adapter_epoch": epochs[1]}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**values))
    assert status == 0, err
    assert (tmp_path / "filo.safetensors").exists() and (tmp_path / "loss.png").exists()


def test_a_refused_run_leaves_the_one_before_as_it_was(train_flags, tmp_path, monkeypatch, capfd):
    values = train_flags | {"cache_features": tmp_path / "kept", "save_path": tmp_path / "run"}
    assert run(monkeypatch, capfd, "train.py", *flags(**values))[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    values |= {"features_list": [1, 3, 4], "overwrite": True}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**values))
    assert status == 2 and "features_list" in err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before
