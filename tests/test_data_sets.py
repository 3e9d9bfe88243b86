"""Does each dataset script give the entries that its set means, in every form in which the set comes?"""

import shutil
from pathlib import Path

import dagm
import headct
import mpdd
import pytest
import sdd
from PIL import Image

from filo.meta import read_meta
from tests.folders import command, entry, paths, picture, run, text, tree
from tests.sets import FORMS, MPDD, Form

each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@each_form
def test_a_whole_set_gives_exactly_its_entries_and_no_complaint(tmp_path: Path, capsys, form: Form):
    root = form.make(tmp_path)
    assert run(form.layout, root) == form.meta()
    assert capsys.readouterr().err == ""


@each_form
def test_a_second_run_gives_the_same_bytes(tmp_path: Path, form: Form):
    root = form.make(tmp_path)
    run(form.layout, root)
    first = tree(root)
    run(form.layout, root)
    assert tree(root) == first


@each_form
def test_a_copy_of_a_set_holds_what_meta_names_and_nothing_else(tmp_path: Path, form: Form):
    root = form.make(tmp_path)
    run(form.layout, root, "--out", str(tmp_path / "view"))
    named = {name for row in form.rows if row.split for name in (row.image, row.mask) if name}
    assert set(tree(tmp_path / "view")) == named | {"meta.json"}


WITH_MASKS = {name: form for name, form in FORMS.items() if any(row.split and row.mask for row in form.rows)}


@pytest.mark.parametrize("form", WITH_MASKS.values(), ids=WITH_MASKS)
def test_a_missing_mask_is_named_and_shifts_no_other(tmp_path: Path, capsys, form: Form):
    root = form.make(tmp_path)
    first = next(row for row in form.rows if row.split and row.mask)
    (root / first.mask).unlink()
    if form.script == "dagm":  # where an image without mask and without this list is normal
        text(root / Path(first.mask).parent / "Labels.txt", f"1\n2\t1\t{Path(first.image).name}\t0\tmask\n")
    expected = form.meta()
    for each in expected["test"][first.cls]:
        if each["img_path"] == first.image:
            each["mask_path"] = ""
    assert run(form.layout, root) == expected
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"anomalous image without mask: {first.image}")
    assert lines[0].endswith("- kept, for image-level evaluation only")


def test_classes_that_a_set_lacks_or_has_too_many_of_are_named(tmp_path: Path, capsys):
    root = FORMS["mpdd, the folder itself"].make(tmp_path)
    shutil.rmtree(root / "tubes")
    picture(root / "screw/test/good/1.png")
    assert list(run(mpdd.LAYOUT, root)["test"]) == sorted(set(MPDD) - {"tubes"})
    assert capsys.readouterr().err.splitlines() == [
        "missing folder: tubes - its images are not in meta.json",
        "folder not used: screw - left out",
    ]


@pytest.mark.parametrize("name", ["br35h", "covid19", "brainmri"])
def test_a_folder_that_is_no_kind_of_the_set_is_not_taken_for_anomalous(tmp_path: Path, capsys, name: str):
    form = FORMS[name]
    root = form.make(tmp_path)
    top = (root / next(row.image for row in form.rows if row.split)).parents[1 if name != "covid19" else 2]
    picture(top / "spare/1.png")
    assert run(form.layout, root) == form.meta()
    assert capsys.readouterr().err == f"folder not used: {(top / 'spare').relative_to(root)} - left out\n"


def test_a_set_of_which_one_kind_is_missing_says_so(tmp_path: Path, capsys):
    root = FORMS["br35h"].make(tmp_path)
    shutil.rmtree(root / "no")
    assert {each["anomaly"] for each in run(FORMS["br35h"].layout, root)["test"]["brain"]} == {1}
    assert capsys.readouterr().err == "missing folder: no - its images are not in meta.json\n"


def test_normal_images_beside_anomalous_ones_have_no_mask(tmp_path: Path):
    form = FORMS["isic, sorted"]
    root = form.make(tmp_path)
    picture(root / "skin/test/good/ISIC_9999999.jpg")
    normal = [each for each in run(form.layout, root)["test"]["skin"] if not each["anomaly"]]
    assert normal == [entry("skin/test/good/ISIC_9999999.jpg", "", "skin", "good", 0)]


# --- DAGM: which images are anomalous ----------------------------------------------------------------------


def test_dagm_without_masks_folder_says_so_and_takes_unlisted_images_for_normal(tmp_path: Path, capsys):
    root = FORMS["dagm, a folder in each"].make(tmp_path)
    shutil.rmtree(root / "Class3/Class3/Test")
    meta = run(dagm.LAYOUT, root)
    assert "Class3" not in meta["test"] and "Class3" in meta["train"]
    assert capsys.readouterr().err.splitlines() == [
        "missing folder: Class3/Class3/Test - its images are not in meta.json",
        "empty class: Class3 (no test image) - left out",
    ]


def test_dagm_marks_as_anomalous_what_its_list_says(tmp_path: Path):
    rows = ["1", "1\t0\t0001.PNG\t0\t0", "2\t1\t0002.PNG\t0\t0002_label.PNG", "", "odd"]
    table = text(tmp_path / "Labels.txt", "\n".join(rows))
    assert dagm.listed_defects(table) == {"0002.PNG"}
    assert dagm.listed_defects(tmp_path / "none.txt") == set()


# --- HeadCT: labels in a table -----------------------------------------------------------------------------


def test_headct_names_what_only_its_table_or_only_its_folder_has(tmp_path: Path, capsys):
    root = FORMS["headct"].make(tmp_path)
    picture(root / "head_ct/head_ct/150.png")
    (root / "head_ct/head_ct/001.png").unlink()
    assert len(run(headct.LAYOUT, root)["test"]["brain"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "missing file: head_ct/head_ct/001.png - left out",
        "image in no list: head_ct/head_ct/150.png - left out",
    ]


@pytest.mark.parametrize("place", ["labels.csv", "head_ct/labels.csv", "head_ct/head_ct/labels.csv"])
@pytest.mark.parametrize("folder", ["head_ct/head_ct", "head_ct"])
def test_headct_finds_table_and_images_wherever_the_download_put_them(
    tmp_path: Path, place: str, folder: str
):
    for number in ("000", "100"):
        picture(tmp_path / folder / f"{number}.png")
    text(tmp_path / place, "id, hemorrhage\n0,1\n100,0\n")
    assert run(headct.LAYOUT, tmp_path)["test"]["brain"] == [
        entry(f"{folder}/000.png", "", "brain", "hemorrhage", 1),
        entry(f"{folder}/100.png", "", "brain", "good", 0),
    ]


@pytest.mark.parametrize("line", ["7,2", "seven,1", "7", "1,1,1", "\u00b2,1"])
def test_headct_refuses_a_line_that_is_no_label(tmp_path: Path, line: str):
    root = FORMS["headct"].make(tmp_path)
    text(root / "labels.csv", f"id, hemorrhage\n0,1\n{line}\n")
    done = command("headct.py", "--root", root)
    wanted = f"error: {root}/labels.csv:3: wants a number and 0 or 1, has {line!r}\n"
    assert (done.returncode, done.stderr) == (2, wanted)


def test_headct_without_table_says_what_it_is_for(tmp_path: Path):
    root = FORMS["headct"].make(tmp_path)
    (root / "labels.csv").unlink()
    done = command("headct.py", "--root", root)
    wanted = f"error: no labels.csv under {root}: it says which image shows a bleeding\n"
    assert (done.returncode, done.stderr) == (2, wanted)


# --- KolektorSDD: images cut in two ------------------------------------------------------------------------


def part(root: Path, name: str, defect: tuple[int, int] = (0, 0), height: int = 9) -> None:
    """A part of KolektorSDD: grey is 20 times the row, the defect in rows `defect[0]` up to `defect[1]`."""
    image, mask = Image.new("L", (4, height)), Image.new("L", (4, height))
    for y in range(height):
        image.paste(20 * y, (0, y, 4, y + 1))
    mask.paste(255, (1, defect[0], 3, defect[1]))
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / f"{name}.jpg", quality=100)
    mask.save(root / f"{name}_label.bmp")


@pytest.fixture
def kolektor(tmp_path: Path) -> Path:
    """Seven parts: one with a defect above, one below, one across the middle; four sound ones."""
    part(tmp_path, "KolektorSDD/kos01/Part0", (1, 3))
    part(tmp_path, "KolektorSDD/kos01/Part1", (6, 8))
    part(tmp_path, "KolektorSDD/kos02/Part0", (3, 5))
    for name in ("kos02/Part5", "kos10/Part0", "kos10/Part1", "kos50/Part7"):
        part(tmp_path, f"KolektorSDD/{name}")
    return tmp_path


def test_sdd_gives_two_halves_of_each_part_with_their_masks(kolektor: Path, capsys):
    meta = run(sdd.LAYOUT, kolektor)
    anomalous = [each for each in meta["test"]["electrical_commutators"] if each["anomaly"]]
    assert anomalous == [
        entry(f"filo_images/{name}.png", f"filo_masks/{name}.png", "electrical_commutators", "defect", 1)
        for name in ("kos01/Part0_1", "kos01/Part1_2", "kos02/Part0_1", "kos02/Part0_2")
    ]
    # 14 halves less 4: ten normal ones, of which the first, fifth and ninth are tested
    normal = [image for image, mask in paths(meta, "test", "electrical_commutators") if not mask]
    assert [name.removeprefix("filo_images/") for name in normal] == [
        "kos01/Part0_2.png",
        "kos10/Part0_1.png",
        "kos50/Part7_1.png",
    ]
    train = paths(meta, "train", "electrical_commutators")
    assert len(train) == 7 and not {mask for _, mask in train} - {""}
    assert capsys.readouterr().err == ""


def rows_of(path: Path) -> list[int]:
    """The grey value of each row, which must be the same over its second and third pixel."""
    with Image.open(path) as image:
        values = [[image.getpixel((x, y)) for x in (1, 2)] for y in range(image.height)]
    assert all(left == right for left, right in values)
    return [left for left, _ in values]


def test_sdd_halves_are_the_rows_of_the_published_files(kolektor: Path):
    run(sdd.LAYOUT, kolektor)
    source = rows_of(kolektor / "KolektorSDD/kos02/Part0.jpg")
    upper, lower = (rows_of(kolektor / f"filo_images/kos02/Part0_{half}.png") for half in (1, 2))
    assert (upper, lower) == (source[:4], source[4:])  # of an odd height the lower half has one row more
    masks = [rows_of(kolektor / f"filo_masks/kos02/Part0_{half}.png") for half in (1, 2)]
    assert masks == [[0, 0, 0, 255], [255, 0, 0, 0, 0]]


def test_sdd_gives_the_same_bytes_again_and_leaves_the_root_alone_where_it_makes_a_copy(kolektor: Path):
    before, view = tree(kolektor), kolektor.parent / "view"
    run(sdd.LAYOUT, kolektor, "--out", str(view))
    assert tree(kolektor) == before
    assert len(tree(view)) == 14 + 4 + 1  # halves, masks, meta.json
    run(sdd.LAYOUT, kolektor)
    assert {name: tree(kolektor)[name] for name in tree(view)} == tree(view)
    again = tree(kolektor)
    run(sdd.LAYOUT, kolektor)
    assert tree(kolektor) == again


def test_sdd_leaves_out_parts_of_which_nobody_knows_whether_they_are_sound(kolektor: Path, capsys):
    folder = kolektor / "KolektorSDD"
    (folder / "kos01/Part0_label.bmp").unlink()
    text(folder / "kos01/Part1_label.bmp", "no picture")
    meta = run(sdd.LAYOUT, kolektor)
    assert sum(len(split["electrical_commutators"]) for split in meta.values()) == 10
    assert capsys.readouterr().err.splitlines() == [
        "unreadable mask: KolektorSDD/kos01/Part1.jpg (Part1_label.bmp: not an image) - image left out",
        "image without label: KolektorSDD/kos01/Part0.jpg - left out, being neither normal nor anomalous "
        "for certain",
    ]


def test_sdd_names_the_published_file_of_a_half_that_is_damaged(kolektor: Path, capsys):
    text(kolektor / "KolektorSDD/kos10/Part0.jpg", "no picture")
    part(kolektor, "other", (0, 9), height=5)
    shutil.move(kolektor / "other_label.bmp", kolektor / "KolektorSDD/kos02/Part0_label.bmp")
    run(sdd.LAYOUT, kolektor)
    assert capsys.readouterr().err.splitlines() == [
        *["unreadable image: KolektorSDD/kos10/Part0.jpg (not an image) - left out"] * 2,
        "mask of another size: KolektorSDD/kos02/Part0.jpg (mask 4x2, image 4x4) - image left out",
        "mask of another size: KolektorSDD/kos02/Part0.jpg (mask 4x3, image 4x5) - image left out",
    ]
    assert not (kolektor / "filo_images/kos10/Part0_1.png").exists()


def test_sdd_reads_sizes_of_halves_from_headers_alone(kolektor: Path):
    assert run(sdd.LAYOUT, kolektor, "--quick") == run(sdd.LAYOUT, kolektor)


def test_sdd_halves_are_not_written_through_a_link_that_leaves_the_set(kolektor: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (kolektor / "filo_images").symlink_to(elsewhere)
    done = command("sdd.py", "--root", kolektor)
    assert done.returncode == 2 and done.stderr.endswith("by a link: remove it, and run this again\n")
    assert not [path for path in elsewhere.rglob("*") if path.is_file()]
    assert not (kolektor / "meta.json").exists()


def test_the_loader_reads_what_sdd_wrote(kolektor: Path):
    run(sdd.LAYOUT, kolektor)
    entries = read_meta(kolektor, "test").entries
    assert [each.has_mask for each in entries] == [True] * len(entries) and len(entries) == 7
