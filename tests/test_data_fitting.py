"""Is a script that was pointed at the folder of another dataset told so, and which script fits?"""

from pathlib import Path

import colondb
import deep_pcb
import magnetic_tile
import mvtec
import pytest
import visa

import fitting
import layouts
from tests.folders import command, picture, run, text
from tests.sets import FORMS, Form

each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def refusal(layout: layouts.Layout, root: Path, capsys) -> str:
    """The line with which a script ends; it must write nothing."""
    with pytest.raises(SystemExit, match="2"):
        run(layout, root)
    assert not list(root.rglob("meta.json"))
    return capsys.readouterr().err


@each_form
def test_all_other_scripts_name_the_one_that_fits(tmp_path: Path, capsys, form: Form):
    root = form.make(tmp_path)
    for layout in fitting.all_layouts():
        if layout.name != form.script:
            line = refusal(layout, root, capsys)
            assert line.startswith(f"error: {root} ") and line.count("\n") == 1, layout.name
            assert f" {form.layout.title} " in line and f"not {layout.title}: run " in line, layout.name
            assert f" data/{form.script}.py " in line, layout.name


def test_the_line_says_what_was_found(tmp_path: Path):
    root = FORMS["brainmri"].make(tmp_path)
    done = command("mvtec.py", "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {root} holds brain_tumor_dataset/, so it is BrainMRI and not MVTec AD: "
        "run data/brainmri.py on it\n"
    )


def test_older_scripts_are_told_too(tmp_path: Path, capsys):
    picture(tmp_path / "tiles/MT_Free/Imgs/a.jpg")
    text(tmp_path / "boards/PCBData/test.txt", "")
    assert "holds MT_Free/, so it is the magnetic tile set" in refusal(
        visa.LAYOUT, tmp_path / "tiles", capsys
    )
    assert "run data/deep_pcb.py" in refusal(mvtec.LAYOUT, tmp_path / "boards", capsys)
    assert "run data/deep_pcb.py" in refusal(magnetic_tile.LAYOUT, tmp_path / "boards", capsys)
    assert "run data/magnetic_tile.py" in refusal(deep_pcb.LAYOUT, tmp_path / "tiles", capsys)


def test_what_a_folder_holds_counts_more_than_its_name(tmp_path: Path, capsys):
    root = tmp_path / "colondb"
    picture(root / "images/cju0qkwl35piu0993l0dewei2.jpg")
    picture(root / "masks/cju0qkwl35piu0993l0dewei2.jpg")
    wanted = (
        f"error: {root} holds images/cju0qkwl35piu0993l0dewei2.jpg, so it is Kvasir and not CVC-ColonDB: "
    )
    assert refusal(colondb.LAYOUT, root, capsys).startswith(wanted)


@pytest.mark.parametrize("name", ["kvasir", "Kvasir-SEG"])
def test_a_name_counts_where_nothing_else_tells_two_sets_apart(tmp_path: Path, capsys, name: str):
    root = tmp_path / name
    picture(root / "images/1.png")
    picture(root / "masks/1.png")
    assert refusal(colondb.LAYOUT, root, capsys) == (
        f"error: {root} is called {name}, so it is Kvasir and not CVC-ColonDB: run data/kvasir.py on it\n"
    )
    root.rename(tmp_path / "polyps")
    assert len(run(colondb.LAYOUT, tmp_path / "polyps")["test"]["colon"]) == 1


def test_a_set_of_ones_own_in_the_form_of_mvtec_is_nobody_elses(tmp_path: Path):
    picture(tmp_path / "gear/train/good/000.png")
    picture(tmp_path / "gear/test/good/000.png")
    assert list(run(mvtec.LAYOUT, tmp_path)["test"]) == ["gear"]


def test_one_of_several_sets_in_a_common_folder_is_found(tmp_path: Path):
    root = tmp_path / "root"
    for name in ("colondb, among others", "kvasir, the folder itself"):
        FORMS[name].make(tmp_path)
    (root / "TestDataset/Kvasir/images").mkdir(parents=True)
    assert run(colondb.LAYOUT, root)["test"]["colon"][0]["img_path"] == "TestDataset/CVC-ColonDB/images/1.png"


def test_a_folder_that_leads_out_of_the_root_is_refused(tmp_path: Path, capsys):
    made = FORMS["colondb, the folder itself"].make(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    (root / "CVC-ColonDB").symlink_to(made)
    assert f"{root}/CVC-ColonDB is a link that leaves the root" in refusal(colondb.LAYOUT, root, capsys)
