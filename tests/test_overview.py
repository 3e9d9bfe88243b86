"""One table over many datasets: order, means, and the published figures beside ours."""

import json

import pytest

from filo.metrics import COLUMNS
from filo.overview import (
    INDUSTRIAL,
    MEDICAL,
    SHOWN,
    footnotes,
    format_lines,
    in_order,
    other_lines,
    read_lines,
)
from filo.report.published import FILE
from tests.commands import run
from tests.trees import complaint

PAPER = json.loads(FILE.read_text())["methods"]["anomalyclip"]["sources"]["paper"]["sets"]
CLASSES = {name: list(entry.get("classes", {})) for name, entry in PAPER.items()}
CLASSES |= {"btad": ["01", "02", "03"], "headct": ["brain"], "isic": ["skin"], "deep_pcb": ["deep_pcb"]}


@pytest.fixture
def make(tmp_path):
    """Write the results of one test as test.py does, all metrics the same but for those that are given."""

    def write(dataset, value=0.5, folder=None, classes=None, trained="mvtec", **given):
        method, undefined = given.pop("method", "anomalyclip"), given.pop("undefined", ())
        arguments = {"dataset": dataset, "shots": given.pop("shots", 0)}
        mean = dict.fromkeys(COLUMNS, value) | dict.fromkeys(undefined) | given
        said = {"method": method, "arguments": arguments, "mean": mean}
        said |= {"classes": dict.fromkeys(classes or CLASSES[dataset]), "trained": {"dataset": trained}}
        path = tmp_path / (folder or f"test_on_{dataset}")
        path.mkdir()
        (path / "results.json").write_text(json.dumps(said))
        return str(path)

    return write


def rows(lines):
    """The table's rows as dicts: of a repeated head `published` each follows the metric before it."""
    head, _, *body = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in format_lines(lines).splitlines()
    )
    names = [f"{head[i - 1]} published" if name == "published" else name for i, name in enumerate(head)]
    return [dict(zip(names, cells, strict=True)) for cells in body]


def test_sets_stand_in_the_papers_order_whatever_order_they_were_given_in(make):
    assert tuple(PAPER) == INDUSTRIAL + MEDICAL  # the tables' own order
    given = ["isic", "deep_pcb", "headct", "visa", "mvtec"]
    table = rows(in_order(read_lines([make(name) for name in given])))
    assert [row["set"] for row in table] == [
        *("mvtec", "visa", "deep_pcb", "mean of 3 industrial"),
        *("headct", "isic", "mean of 2 medical", "mean of 5"),
    ]


def test_ours_and_the_published_figures_stand_side_by_side_in_percent(make):
    table = rows(in_order(read_lines([make("mvtec", 0.91234), make("visa", 0.5)])))
    assert [table[0][metric] for metric in SHOWN] == ["91.2"] * 4
    assert [table[0][f"{metric} published"] for metric in SHOWN] == ["91.5", "96.2", "91.1", "81.4"]
    mean = {metric: (0.91234 + 0.5) / 2 for metric in SHOWN}
    assert {metric: table[2][metric] for metric in SHOWN} == {m: f"{100 * v:.1f}" for m, v in mean.items()}
    assert table[2]["auroc_sp published"] == "86.8" and table[2]["ap_sp published"] == "90.8"
    assert "run" not in table[0] and len(table) == 3  # of one group the mean of all would be the same


def test_what_is_undefined_is_said_and_in_no_mean(make):
    image, pixel = [c for c in COLUMNS if c.endswith("_sp")], [c for c in COLUMNS if not c.endswith("_sp")]
    runs = [make("headct", 0.25, undefined=pixel), make("isic", 0.75, undefined=image), make("mvtec", 0.5)]
    lines = in_order(read_lines(runs))
    by_set = {row["set"]: row for row in rows(lines)}
    assert by_set["headct"]["auroc_px"] == "n/a" and by_set["headct"]["auroc_px published"] == ""
    assert by_set["isic"]["auroc_sp"] == "n/a" and by_set["isic"]["auroc_px published"] == "89.7"
    medical = by_set["mean of 2 medical"]
    assert (medical["auroc_sp"], medical["auroc_px"]) == ("25.0", "75.0")
    assert (medical["auroc_sp published"], medical["auroc_px published"]) == ("93.4", "89.7")
    assert by_set["mean of 3"]["auroc_sp"] == "37.5"
    assert any(note.startswith("- n/a: undefined") for note in footnotes(lines))


def test_a_published_mean_is_over_the_very_sets_that_ours_is_over(make):
    with_unknown = rows(in_order(read_lines([make("mvtec"), make("deep_pcb")])))
    assert with_unknown[0]["auroc_sp published"] == "91.5"
    assert with_unknown[1]["auroc_sp published"] == with_unknown[2]["auroc_sp published"] == ""


def test_of_some_classes_the_published_mean_is_over_these_and_that_is_said(make):
    lines = read_lines([make("mvtec", classes=["bottle", "cable"], trained="visa")])
    row = rows(lines)[0]
    assert row["set"] == "mvtec (2 of 15 classes)" and len(rows(lines)) == 1  # its mean would be the same
    assert row["auroc_sp published"] == f"{(89.3 + 69.8) / 2:.1f}"
    assert any("over the tested ones alone" in note for note in footnotes(lines))


def test_runs_of_two_methods_stand_below_one_another_each_with_its_own_figures(make):
    one, two = make("mvtec", trained="visa"), make("mvtec", 0.6, "filo", trained="btad", method="filo")
    lines = in_order(read_lines([make("visa"), two, one]))
    table = rows(lines)
    assert [(row["set"], row["run"]) for row in table] == [
        ("mvtec", "AnomalyCLIP"),
        ("mvtec", "FiLo"),
        ("visa", "AnomalyCLIP"),
        ("mean of 2 industrial", "AnomalyCLIP"),
        ("mean of 1 industrial", "FiLo"),
    ]
    assert [row["auroc_px published"] for row in table[:2]] == ["91.1", "92.3"]
    notes = "\n".join(footnotes(lines))
    assert "FiLo (auroc_sp, auroc_px) on mvtec: FiLo, arXiv 2404.13671" in notes
    assert "FiLo (ap_sp, aupro_legacy) on mvtec: logs of the released weights" in notes
    assert (
        "FiLo on mvtec is by weights trained on btad, the published figures by such trained on visa" in notes
    )
    assert "AnomalyCLIP on mvtec is by" not in notes


def test_runs_of_one_method_are_told_apart_by_their_names(make):
    first, second = make("mvtec"), make("mvtec", folder="again")
    assert "tell them apart as NAME=FOLDER" in complaint(lambda: read_lines([first, second]))
    table = rows(read_lines([first, f"seed 1={second}"]))
    assert [row["run"] for row in table] == ["AnomalyCLIP", "seed 1"]
    assert "test_on_mvtec is the second run of seed 1" in complaint(
        lambda: read_lines([f"seed 1={second}", f"seed 1={first}"])
    )


def test_references_are_told_in_the_name_and_choose_the_published_figures(make):
    given = {"classes": ["bottle"], "method": "winclip"}
    runs = [make("mvtec", folder=f"shots_{shots}", shots=shots, **given) for shots in (0, 1, 4)]
    lines = read_lines(runs)
    table = rows(in_order(lines + other_lines(lines, ["april-gan"])))
    published = {row["run"]: row["auroc_px published"] for row in table}
    assert published == {
        **{"WinCLIP": "89.5", "WinCLIP, 1 shot": "97.5", "WinCLIP, 4 shots": "97.8"},
        **{"APRIL-GAN, published": "83.4", "APRIL-GAN, 1 shot, published": "96.4"},
        "APRIL-GAN, 4 shots, published": "97.2",
    }
    assert sum("one draw of references" in note for note in footnotes(lines)) == 0  # the paper has them all


def test_other_methods_stand_below_with_their_published_figures_alone(make):
    lines = read_lines([make("mvtec"), make("btad"), make("deep_pcb")])
    table = rows(in_order(lines + other_lines(lines, ["winclip"])))
    beside = [row for row in table if row["run"] == "WinCLIP, published"]
    assert [row["set"] for row in beside] == ["mvtec", "btad", "mean of 2 industrial"]
    assert [row["auroc_sp published"] for row in beside] == ["91.8", "68.2", ""]  # ours is over three
    assert {row["auroc_sp"] for row in beside} == {""}


def test_an_older_run_that_names_no_method_is_of_filo(make, tmp_path):
    folder = make("mvtec")
    said = json.loads((tmp_path / "test_on_mvtec" / "results.json").read_text())
    del said["method"]
    (tmp_path / "test_on_mvtec" / "results.json").write_text(json.dumps(said))
    assert read_lines([folder])[0].name == "FiLo"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"mean": {}}',
        '{"mean": %s}',
        '{"mean": %s, "arguments": {}, "classes": {}}',
        '{"mean": %s, "arguments": {"dataset": 3}, "classes": {}}',
        '{"mean": %s, "arguments": {"dataset": "x"}, "classes": [1]}',
        '{"mean": %s, "arguments": {"dataset": "x"}, "classes": {}, "trained": "y"}',
        '{"mean": %s, "arguments": {"dataset": "x"}, "classes": {}, "method": []}',
        '{"mean": {"auroc_px": NaN}}',
        '{"mean": {"auroc_px": "1"}}',
    ],
)
def test_a_file_that_is_no_result_of_a_test_is_one_line(tmp_path, content, monkeypatch, capfd):
    mean = json.dumps(dict.fromkeys(COLUMNS, 0.5))
    (tmp_path / "results.json").write_text(content.replace("%s", mean))
    status, out, err = run(monkeypatch, capfd, "filo/overview.py", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "results.json") in err and "name a folder that test.py wrote" in err


def test_the_command_prints_the_table_and_writes_it(make, tmp_path, monkeypatch, capfd):
    arguments = (make("mvtec"), make("headct"), "--beside", "april-gan", "--out", tmp_path / "table.md")
    status, out, err = run(monkeypatch, capfd, "filo/overview.py", *arguments)
    assert status == 0 and err == "" and (tmp_path / "table.md").read_text() == out
    assert "| mvtec " in out and "| APRIL-GAN, published |" in out
    assert "- published, APRIL-GAN on headct: AnomalyCLIP, arXiv 2310.18961, a late version, table 2" in out
    for wrong in ((tmp_path / "none",), (*arguments[:1], "--beside", "nobody")):
        status, _, err = run(monkeypatch, capfd, "filo/overview.py", *wrong)
        assert status == 2 and ("none/results.json" in err or "nobody" in err)
