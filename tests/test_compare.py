"""Means of several runs side by side."""

import json

import pytest

from filo.compare import compare
from filo.metrics import COLUMNS
from tests.commands import run
from tests.trees import complaint


@pytest.fixture
def runs(tmp_path):
    for name, value in (("one", 0.5), ("two", 0.91234)):
        (tmp_path / name).mkdir()
        mean = dict.fromkeys(COLUMNS, value) | {"auroc_sp": None}
        (tmp_path / name / "results.json").write_text(json.dumps({"mean": mean}))
    return tmp_path


def test_every_run_is_a_row_in_percent(runs):
    lines = compare([("first", runs / "one"), ("second", runs / "two")]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["run", *COLUMNS]
    place = 1 + COLUMNS.index("auroc_sp")
    assert cells[2][0] == "first" and cells[2][1] == "50.0" and cells[2][place] == "n/a"
    assert cells[3][0] == "second" and cells[3][1] == "91.2"


def test_a_folder_without_results_is_named(runs):
    assert "three/results.json" in complaint(lambda: compare([("x", runs / "three")]))
    (runs / "one" / "results.json").write_text('{"mean": {}}')
    assert "one/results.json" in complaint(lambda: compare([("x", runs / "one")]))


def test_the_command_names_runs_by_folder_or_as_told(runs, monkeypatch, capfd):
    arguments = ("--out", runs / "table.md", f"boxes={runs / 'one'}", runs / "two")
    status, out, _ = run(monkeypatch, capfd, "filo/compare.py", *arguments)
    assert status == 0 and "| boxes" in out and str(runs / "two") in out
    assert (runs / "table.md").read_text() == out
