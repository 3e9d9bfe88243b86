"""fewshot.sh: which tests it runs, with which flags, and what it says where something is missing."""

import shutil

import pytest
from test_scripts import (  # noqa: F401
    ROOT,
    bash,
    calls_of,
    checkout,
    stand_in,
    with_data,
)

from tests.commands import run

FEW, ZERO = ["--preset", "few-shot"], ["--preset", "zero-shot"]


@pytest.fixture
def scripts(checkout):  # noqa: F811
    shutil.copy(ROOT / "fewshot.sh", checkout)
    return checkout


def few_shot(folder, words="", **variables):
    """Run the script with a stand-in for Python; give the command lines of its tests, and the last call."""
    status, _, err = bash(folder, f"bash fewshot.sh {words}", PYTHON=str(stand_in(folder)), **variables)
    assert status == 0, err
    *calls, last = calls_of(folder)
    return [call for call in calls if "test.py" in call], last


@pytest.mark.parametrize("method", ["fade", "winclip"])
def test_every_set_is_tested_without_and_with_references_and_all_ends_in_one_table(scripts, method):
    with_data(scripts)
    tests, last = few_shot(scripts, METHOD=method)
    wanted = [(name, shots) for name in ("mvtec", "visa") for shots in "0124"]
    value = {flag: [call[call.index(flag) + 1] for call in tests] for flag in ("--dataset", "--shots")}
    assert list(zip(*value.values(), strict=True)) == wanted
    assert all(call[call.index("--method") + 1] == method for call in tests)
    folders = [f"./results/{method}/{name}_{shots}shot" for name, shots in wanted]
    assert [call[call.index("--save_path") + 1] for call in tests] == folders
    for call, (_, shots) in zip(tests, wanted, strict=True):
        text = " ".join(call)
        assert ("--seed 0 1 2 3 4" in text) == (shots != "0")
        recipe = {"fade": ZERO if shots == "0" else FEW, "winclip": []}[method]
        assert " ".join(recipe) in text and ("--preset" in text) == (method == "fade")
    assert last[:4] == ["-m", "filo.overview", "--out", f"./results/{method}/table.md"]
    runs = " ".join(last[4:]).split(f"{method}, ")[1:]
    assert [run.strip() for run in runs] == [
        f"{shots} shots={folder}" for (_, shots), folder in zip(wanted, folders, strict=True)
    ]


@pytest.mark.parametrize("method", ["fade", "winclip"])
def test_it_passes_only_flags_that_the_program_has(scripts, method, monkeypatch, capfd):
    with_data(scripts)
    tests, _ = few_shot(scripts, METHOD=method)
    used = {word for call in tests for word in call if word.startswith("--")}
    shown = run(monkeypatch, capfd, "test.py", "--method", method, "--help")[1]
    assert used and {flag for flag in used if flag not in shown} == set()


def test_sets_are_named_and_further_flags_handed_on(scripts):
    with_data(scripts, ("mpdd",))
    (scripts / "disk").mkdir()
    (scripts / "disk" / "meta.json").write_text("{}")
    tests, _ = few_shot(scripts, "mpdd btad=disk --text-model-type max", GPUS="2")
    assert [call[call.index("--data_path") + 1] for call in tests] == ["./data/mpdd"] * 4 + ["disk"] * 4
    assert all(call[-2:] == ["--text-model-type", "max"] for call in tests)
    assert all("torch.distributed.run" in call and "--nproc_per_node=2" in call for call in tests)


def test_what_is_missing_or_unknown_is_said_before_anything_runs(scripts):
    status, _, err = bash(scripts, "bash fewshot.sh", PYTHON=str(stand_in(scripts)))
    assert status == 2 and "the dataset mvtec is not in ./data/mvtec" in err
    status, _, err = bash(scripts, "bash fewshot.sh", METHOD="filo")
    assert status == 2 and err.count("\n") == 1 and "METHOD=filo: wanted fade or winclip" in err
    assert not (scripts / "calls").exists()
