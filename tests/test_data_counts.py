"""Are the numbers of test images compared with the published ones?"""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import mpdd
import pytest

import fitting
import layouts
from tests.folders import DATA, command, picture, run, tree
from tests.sets import FORMS

PUBLISHED = {  # normal and anomalous test images, AnomalyCLIP, arXiv 2310.18961
    "mvtec": (467, 1258),
    "visa": (962, 1200),
    "mpdd": (176, 282),
    "btad": (451, 290),
    "sdd": (181, 74),
    "dagm": (6996, 1054),
    "dtd_synthetic": (357, 947),
    "headct": (100, 100),
    "brainmri": (98, 155),
    "br35h": (1500, 1500),
    "covid19": (1341, 219),
    "isic": (0, 379),
    "clinicdb": (0, 612),
    "colondb": (0, 380),
    "kvasir": (0, 1000),
    "endo": (0, 200),
    "tn3k": (0, 614),
}
SMALL = replace(mpdd.LAYOUT, counts=(12, 12))  # those of MPDD as the tests draw it


def check(layout: layouts.Layout, root: Path, *flags: str) -> int:
    """Run --check in this process and give the status."""
    try:
        layouts.run(layout, layouts.arguments("").parse_args(["--root", str(root), "--check", *flags]))
    except SystemExit as end:
        return end.code
    return 0


def test_every_set_states_its_published_numbers():
    assert {each.name: each.counts for each in fitting.all_layouts() if each.counts} == PUBLISHED


def test_every_set_has_its_prompts_and_is_told_from_others():
    for layout in fitting.all_layouts():
        assert (DATA.parent / "prompts" / f"{layout.name}.json").is_file(), layout.name
        assert layout.signs, layout.name


def test_a_whole_set_is_ok_and_nothing_is_written(tmp_path: Path, capsys):
    root = FORMS["mpdd"].make(tmp_path)
    before = tree(tmp_path)
    assert check(SMALL, root) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "\nmpdd: ok: 12 normal test images, as published; 12 anomalous test images, as published\n"
    )
    assert out.splitlines()[-3].split()[:4] == ["all", "6", "12", "12"]
    assert tree(tmp_path) == before


def test_a_set_with_images_missing_or_too_many_says_how_many_and_ends_with_status_1(tmp_path: Path, capsys):
    root = FORMS["mpdd, the folder itself"].make(tmp_path)
    (root / "tubes/test/good/000.png").unlink()
    (root / "tubes/test/good/001.png").unlink()
    picture(root / "connector/test/parts_mismatch/000.png")
    assert check(SMALL, root) == 1
    out, err = capsys.readouterr()
    assert out.endswith(
        "\nmpdd: differs: 10 normal test images, 2 fewer than the 12 published; "
        "13 anomalous test images, 1 more than the 12 published\n"
    )
    assert err.startswith("anomalous image without mask: connector/test/parts_mismatch/000.png")


def test_a_damaged_image_does_not_count(tmp_path: Path):
    root = FORMS["mpdd, the folder itself"].make(tmp_path)
    (root / "tubes/test/good/000.png").write_bytes(b"no picture")
    assert check(SMALL, root) == 1


def test_only_the_sums_over_all_classes_are_compared(tmp_path: Path):
    layout = replace(FORMS["btad"].layout, counts=(6, 6))
    assert check(layout, FORMS["btad"].make(tmp_path)) == 0


def test_check_runs_as_a_command_without_a_package(tmp_path: Path):
    done = command("kvasir.py", "--root", FORMS["kvasir"].make(tmp_path), "--check", "--quick")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == (
        "kvasir: differs: 0 normal test images, as published; "
        "2 anomalous test images, 998 fewer than the 1000 published"
    )


def test_without_check_the_summary_says_that_the_numbers_differ(tmp_path: Path, capsys):
    root = FORMS["mpdd"].make(tmp_path)
    run(mpdd.LAYOUT, root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == (
        "not as published: 12 normal test images, 164 fewer than the 176 published; "
        "12 anomalous test images, 270 fewer than the 282 published"
    )
    run(SMALL, root)
    assert "published" not in capsys.readouterr().out


def test_a_set_without_published_numbers_cannot_be_checked(tmp_path: Path):
    done = command("folder.py", "--root", tmp_path, "--check")
    wanted = "error: --check: no numbers of test images are published for your images\n"
    assert (done.returncode, done.stderr) == (2, wanted)


def test_check_and_out_exclude_each_other(tmp_path: Path):
    done = command("mpdd.py", "--root", tmp_path, "--check", "--out", tmp_path / "view")
    assert done.returncode == 2 and "not allowed with argument" in done.stderr


def test_without_root_a_script_looks_beside_itself(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tn3k.py", "--check"])
    monkeypatch.setattr(layouts, "__file__", "/nowhere/data/layouts.py")
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(DATA / "tn3k.py"), run_name="__main__")
    assert re.match(r"error: /nowhere/data/tn3k does not exist; --root wants TN3K", capsys.readouterr().err)
