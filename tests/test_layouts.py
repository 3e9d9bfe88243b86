"""Do the dataset scripts write the meta.json that their folders mean, and name everything that is wrong?"""

import errno
import os
import shutil
from pathlib import Path

import deep_pcb
import magnetic_tile
import mvtec
import pytest
import visa
from PIL import Image

import forms
import layouts
from tests.folders import command, entry, paths, picture, run, run_folder, text, tree

REAL = Path(__file__).parents[2] / "shared/datasets"


@pytest.fixture
def bottle(tmp_path: Path) -> Path:
    """MVTec AD in small: one class, one image of each sort."""
    root = tmp_path / "mvtec"
    picture(root / "bottle/train/good/000.png")
    picture(root / "bottle/test/good/000.png")
    picture(root / "bottle/test/broken/000.png")
    picture(root / "bottle/ground_truth/broken/000_mask.png")
    text(root / "bottle/readme.txt", "passed over")
    return root


def tile_set(root: Path) -> Path:
    for name in ("a", "b", "c"):
        picture(root / f"MT_Free/Imgs/{name}.jpg")
        picture(root / f"MT_Free/Imgs/{name}.png", 0)
    for kind in magnetic_tile.DEFECTS:
        picture(root / f"MT_{kind}/Imgs/x.jpg")
        picture(root / f"MT_{kind}/Imgs/x.png", 255)
    grey = Image.new("L", (6, 4))
    grey.putdata([0, 3, 127, 128, 250, 255] + [0] * 18)
    grey.save(root / "MT_Crack/Imgs/x.png")
    return root


def board_set(root: Path, trainval: str = "abc", test: str = "d") -> Path:
    for value, name in enumerate(trainval + test):
        picture(root / f"PCBData/g/1/{name}_test.jpg")
        picture(root / f"PCBData/g/1/{name}_temp.jpg", 20 * value)
        text(root / f"PCBData/g/1_not/{name}.txt", "1 1 3 2 4\n")
    for split, names in (("trainval", trainval), ("test", test)):
        text(root / f"PCBData/{split}.txt", "".join(f"g/1/{n}.jpg g/1_not/{n}.txt\n" for n in names))
    return root


def visa_set(root: Path, *rows: str, head: str = "object,split,label,image,mask") -> Path:
    text(root / visa.TABLE, "\n".join([head, *rows]) + "\n")
    return root


# --- each layout -------------------------------------------------------------------------------------------


def test_mvtec_gives_exactly_these_entries(bottle: Path):
    broken = ("bottle/test/broken/000.png", "bottle/ground_truth/broken/000_mask.png")
    assert run(mvtec.LAYOUT, bottle) == {
        "train": {"bottle": [entry("bottle/train/good/000.png", "", "bottle", "good", 0)]},
        "test": {
            "bottle": [
                entry(*broken, "bottle", "broken", 1),
                entry("bottle/test/good/000.png", "", "bottle", "good", 0),
            ]
        },
    }


def test_the_form_of_mvtec_accepts_another_normal_folder(bottle: Path):
    (bottle / "bottle/test/good").rename(bottle / "bottle/test/ok")
    items = forms.class_folders(layouts.Walk(bottle), normal="ok")
    assert [(i.specie_name, i.anomaly) for i in items if i.split == "test"] == [("broken", 1), ("good", 0)]


def test_visa_follows_its_table(tmp_path: Path):
    picture(tmp_path / "pcb1/Data/Images/Normal/0.JPG")
    picture(tmp_path / "pcb1/Data/Images/Normal/1.JPG")
    picture(tmp_path / "pcb1/Data/Images/Anomaly/0.JPG")
    picture(tmp_path / "pcb1/Data/Masks/Anomaly/0.png", 1)
    visa_set(
        tmp_path,
        "pcb1,test,normal,pcb1/Data/Images/Normal/1.JPG,",
        "pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,",
        "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/0.JPG,pcb1/Data/Masks/Anomaly/0.png",
    )
    images, masks = "pcb1/Data/Images", "pcb1/Data/Masks"
    assert run(visa.LAYOUT, tmp_path) == {
        "train": {"pcb1": [entry(f"{images}/Normal/0.JPG", "", "pcb1", "good", 0)]},
        "test": {
            "pcb1": [
                entry(f"{images}/Anomaly/0.JPG", f"{masks}/Anomaly/0.png", "pcb1", "anomaly", 1),
                entry(f"{images}/Normal/1.JPG", "", "pcb1", "good", 0),
            ]
        },
    }


def test_magnetic_tile_splits_the_normal_images_and_names_the_kinds(tmp_path: Path):
    meta = run(magnetic_tile.LAYOUT, tile_set(tmp_path))
    tile = "magnetic_tile"
    defects = [
        entry(f"MT_{kind}/Imgs/x.jpg", f"filo_masks/MT_{kind}/x.png", tile, kind, 1)
        for kind in ("Blowhole", "Break", "Crack", "Fray")
    ]
    last = entry("MT_Uneven/Imgs/x.jpg", "filo_masks/MT_Uneven/x.png", tile, "Uneven", 1)
    free = {name: entry(f"MT_Free/Imgs/{name}.jpg", "", tile, "good", 0) for name in "abc"}
    assert meta["train"] == {tile: [free["a"], free["c"]]}
    assert meta["test"] == {tile: [*defects, free["b"], last]}


def test_magnetic_tile_masks_lose_their_grey_borders(tmp_path: Path):
    run(magnetic_tile.LAYOUT, tile_set(tmp_path))
    with Image.open(tmp_path / "filo_masks/MT_Crack/x.png") as mask:
        assert list(mask.tobytes()) == [0, 0, 0, 255, 255, 255] + [0] * 18


def test_deep_pcb_splits_templates_and_tests_every_board(tmp_path: Path):
    text(board_set(tmp_path) / "PCBData/g/1_not/b.txt", "0 0 2 2 1\n3,1,5,4,6\n")
    meta = run(deep_pcb.LAYOUT, tmp_path)
    folder, masks = "PCBData/g/1", "filo_masks/g/1"
    normal = {n: entry(f"{folder}/{n}_temp.jpg", "", "deep_pcb", "good", 0) for n in "abcd"}
    tested = {
        n: entry(f"{folder}/{n}_test.jpg", f"{masks}/{n}_test.png", "deep_pcb", kind, 1)
        for n, kind in zip("abcd", ("spur", "mixed", "spur", "spur"), strict=True)
    }
    assert meta["train"] == {"deep_pcb": [normal["a"], normal["c"]]}
    assert meta["test"] == {
        "deep_pcb": [tested["a"], normal["b"], tested["b"], tested["c"], normal["d"], tested["d"]]
    }
    with Image.open(tmp_path / masks / "b_test.png") as mask:
        rows = [list(mask.tobytes())[6 * y : 6 * y + 6] for y in range(4)]
    assert [[value // 255 for value in row] for row in rows] == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
    ]


def test_deep_pcb_keeps_templates_of_equal_content_in_one_split(tmp_path: Path):
    folder = board_set(tmp_path, trainval="abcef") / "PCBData/g/1"
    shutil.copy(folder / "a_temp.jpg", folder / "e_temp.jpg")  # by position a is train and e is test
    shutil.copy(folder / "d_temp.jpg", folder / "c_temp.jpg")  # d is in the test list, so c joins it
    meta = run(deep_pcb.LAYOUT, tmp_path)
    assert [e["img_path"][-10:-9] for e in meta["train"]["deep_pcb"]] == ["a", "e", "f"]
    assert [e["img_path"][-10:-9] for e in meta["test"]["deep_pcb"] if not e["anomaly"]] == ["b", "c", "d"]


def test_folder_without_levels_puts_everything_into_test(tmp_path: Path):
    picture(tmp_path / "screw/good/1.JPG")
    picture(tmp_path / "screw/scratch/1.bmp")
    picture(tmp_path / "screw/masks/scratch/1.png")
    picture(tmp_path / "nut/good/1.png")
    picture(tmp_path / "nut/bent/1.png")  # nut has no masks at all: no warning
    assert run_folder(tmp_path) == {
        "train": {},
        "test": {
            "nut": [
                entry("nut/bent/1.png", "", "nut", "bent", 1),
                entry("nut/good/1.png", "", "nut", "good", 0),
            ],
            "screw": [
                entry("screw/good/1.JPG", "", "screw", "good", 0),
                entry("screw/scratch/1.bmp", "screw/masks/scratch/1.png", "screw", "scratch", 1),
            ],
        },
    }


@pytest.mark.parametrize(
    ("level", "flags", "cls"),
    [("", [], "nuts"), ("test/", [], "nuts"), ("", ["--class_name", "hex nut"], "hex nut")],
)
def test_a_root_that_is_one_class_is_understood(tmp_path: Path, level: str, flags: list[str], cls: str):
    root = tmp_path / "nuts"
    picture(root / f"{level}good/1.png")
    picture(root / f"{level}bent/1.png")
    picture(root / "ground_truth/bent/1_mask.png")
    assert run_folder(root, *flags)["test"] == {
        cls: [
            entry(f"{level}bent/1.png", "ground_truth/bent/1_mask.png", cls, "bent", 1),
            entry(f"{level}good/1.png", "", cls, "good", 0),
        ]
    }


# --- pairing and problems ----------------------------------------------------------------------------------


def test_masks_are_paired_by_name_where_the_sorted_order_misleads(bottle: Path, capsys):
    for name in ("001", "002"):
        picture(bottle / f"bottle/test/broken/{name}.png")
    picture(bottle / "bottle/ground_truth/broken/002.png")
    picture(bottle / "bottle/ground_truth/broken/010_mask.png")  # as many masks as images
    meta = run(mvtec.LAYOUT, bottle)
    assert [mask for image, mask in paths(meta, "test", "bottle") if "broken" in image] == [
        "bottle/ground_truth/broken/000_mask.png",
        "",
        "bottle/ground_truth/broken/002.png",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "anomalous image without mask: bottle/test/broken/001.png - kept, for image-level evaluation only",
        "mask without image: bottle/ground_truth/broken/010_mask.png - not used",
    ]


BROKEN = "bottle/test/broken/000.png"
MASK = "bottle/ground_truth/broken/000_mask.png"
PLAIN = "bottle/ground_truth/broken/000.png"
KEPT, NO_MASK, GONE = [(BROKEN, MASK)], [(BROKEN, "")], []


def put(name: str, **how):
    return lambda root: picture(root / name, **how)


def put_text(name: str, content: str = ""):
    return lambda root: text(root / name, content)


def truncate(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])


PROBLEMS = [
    (lambda root: (root / MASK).unlink(), f"anomalous image without mask: {BROKEN}", NO_MASK),
    (put("bottle/ground_truth/h/1.png"), "mask without image: bottle/ground_truth/h/1.png", KEPT),
    (put_text(BROKEN, "no picture"), f"unreadable image: {BROKEN} (not an image)", GONE),
    (lambda root: truncate(root / BROKEN), f"unreadable image: {BROKEN} (image file is truncated", GONE),
    (put_text(MASK), f"unreadable mask: {BROKEN} (000_mask.png: not an image)", GONE),
    (put(MASK, size=(4, 6)), f"mask of another size: {BROKEN} (mask 4x6, image 6x4)", GONE),
    (put(MASK, value=0), f"blank mask of an anomalous image: {BROKEN}", KEPT),
    (lambda root: (root / "cable/train/good").mkdir(parents=True), "empty class: cable (no test im", KEPT),
    (lambda root: (root / "cable").mkdir(), "empty class: cable (no test image)", KEPT),
    (put_text("bottle/test/good/1.GIF"), "unknown image suffix: bottle/test/good/1.GIF", KEPT),
    (put("bottle/test/1.png"), "image outside a kind folder: bottle/test/1.png", KEPT),
    (put("bottle/ground_truth/1.png"), "image outside a kind folder: bottle/ground_truth/1.png", KEPT),
    (put("bottle/train/hole/1.png"), "anomalous image in train: bottle/train/hole/1.png", KEPT),
    (put("bottle/spare/1.png"), "folder not used: bottle/spare", KEPT),
    (put(PLAIN), f"two masks for one image: {BROKEN} (000.png, 000_mask.png)", [(BROKEN, PLAIN)]),
]


@pytest.mark.parametrize(("spoil", "line", "left"), PROBLEMS)
def test_each_problem_is_named_and_counted(bottle: Path, capsys, spoil, line: str, left):
    picture(bottle / "bottle/test/bent/1.png")  # keeps the class alive whatever happens to `broken`
    picture(bottle / "bottle/ground_truth/bent/1.png")
    spoil(bottle)
    meta = run(mvtec.LAYOUT, bottle)
    out, err = capsys.readouterr()
    assert err.startswith(line) and err.count("\n") == 1
    last_row = [row for row in out.splitlines() if row.startswith(("all", "bottle"))][-1]
    assert last_row.split()[-1] == "1"
    broken = [pair for pair in paths(meta, "test", "bottle") if "broken" in pair[0]]
    assert broken == left


def test_a_mask_that_two_images_claim_goes_to_neither(bottle: Path, capsys):
    picture(bottle / "bottle/test/broken/000.jpg")
    meta = run(mvtec.LAYOUT, bottle)
    assert capsys.readouterr().err.splitlines() == [
        "mask claimed by two images: bottle/test/broken/000.jpg (000_mask.png) - images kept without it",
        "mask claimed by two images: bottle/test/broken/000.png (000_mask.png) - images kept without it",
    ]
    assert [mask for _, mask in paths(meta, "test", "bottle")] == ["", "", ""]


def test_hidden_files_and_texts_are_passed_over(bottle: Path, capsys):
    for name in (".000.png", "._000.png", "Thumbs.db", "notes.txt"):
        text(bottle / "bottle/test/good" / name, "")
    text(bottle / "__MACOSX/x/._000.png", "")
    assert len(run(mvtec.LAYOUT, bottle)["test"]["bottle"]) == 2
    assert capsys.readouterr().err == ""


def test_lists_name_files_that_are_missing_or_listed_twice(tmp_path: Path, capsys):
    picture(tmp_path / "a.png")
    visa_set(
        tmp_path,
        "x,test,normal,a.png,",
        "x,test,normal,a.png,",
        "x,test,normal,b.png,",
        "x,test,anomaly,c.png,d.png",
    )
    picture(tmp_path / "c.png")
    meta = run(visa.LAYOUT, tmp_path)
    assert paths(meta, "test", "x") == [("a.png", ""), ("c.png", "")]
    assert capsys.readouterr().err.splitlines() == [
        "missing file: b.png - left out",
        "image listed twice: a.png - the second left out",
        "anomalous image without mask: c.png (no d.png) - kept, for image-level evaluation only",
    ]


def test_boards_in_no_list_are_named(tmp_path: Path, capsys):
    picture(board_set(tmp_path) / "PCBData/g/1/z_test.jpg")
    run(deep_pcb.LAYOUT, tmp_path)
    assert capsys.readouterr().err == "image in no list: PCBData/g/1/z_test.jpg - left out\n"


def test_only_twenty_of_a_kind_are_printed_and_all_are_counted(bottle: Path, capsys):
    for i in range(23):
        text(bottle / f"bottle/test/good/{i:02}.png" if i else bottle / "bottle/test/good/zz.png", "")
    run(mvtec.LAYOUT, bottle)
    out, err = capsys.readouterr()
    assert err.count("unreadable image: bottle/test/good/") == 20
    assert err.splitlines()[20:] == ["unreadable image: ... and 3 more, 23 in all"]
    assert out.splitlines()[2].split() == ["bottle", "1", "1", "1", "1", "23"]


def test_quick_reads_headers_only(bottle: Path, capsys):
    truncate(bottle / "bottle/test/good/000.png")
    assert len(run(mvtec.LAYOUT, bottle, "--quick")["test"]["bottle"]) == 2
    assert len(run(mvtec.LAYOUT, bottle)["test"]["bottle"]) == 1


# --- writing -----------------------------------------------------------------------------------------------


def test_the_summary_ends_with_the_next_command(bottle: Path, capsys):
    picture(bottle / "cable/test/good/1.png")
    run(mvtec.LAYOUT, bottle)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["bottle", "1", "1", "1", "1", "0"],
        ["cable", "0", "1", "0", "0", "0"],
        ["all", "1", "2", "1", "1", "0"],
    ]
    assert lines[-1] == f"python test.py --dataset mvtec --data_path {bottle} --ckpt_path CKPT"


@pytest.mark.parametrize(("layout", "make"), [(magnetic_tile.LAYOUT, tile_set), (deep_pcb.LAYOUT, board_set)])
def test_a_second_run_gives_the_same_bytes(tmp_path: Path, layout, make):
    root = make(tmp_path)
    run(layout, root)
    first = tree(root)
    run(layout, root)
    assert tree(root) == first


def test_out_copies_what_meta_names_and_leaves_the_root_alone(tmp_path: Path):
    root = tile_set(tmp_path / "root")
    text(root / "MT_Fray/Imgs/x.jpg", "damaged")
    before = tree(root)
    meta = run(magnetic_tile.LAYOUT, root, "--out", str(tmp_path / "view"))
    assert tree(root) == before
    named = {path for split in meta.values() for path in sum(paths({"s": split}, "s", "magnetic_tile"), ())}
    assert set(tree(tmp_path / "view")) == named - {""} | {"meta.json"}
    assert (tmp_path / "view/MT_Free/Imgs/a.jpg").read_bytes() == before["MT_Free/Imgs/a.jpg"]
    again = tree(tmp_path / "view")
    run(magnetic_tile.LAYOUT, root, "--out", str(tmp_path / "view"))
    assert tree(tmp_path / "view") == again


def test_out_copies_published_masks_too(bottle: Path, tmp_path: Path):
    run(mvtec.LAYOUT, bottle, "--out", str(tmp_path / "view"))
    assert (tmp_path / "view" / MASK).read_bytes() == (bottle / MASK).read_bytes()


def test_a_full_disk_leaves_the_old_meta_and_no_rubbish(bottle: Path, monkeypatch, capsys):
    old = text(bottle / "meta.json", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    before = tree(bottle)
    with pytest.raises(SystemExit, match="2"):
        run(mvtec.LAYOUT, bottle)
    assert capsys.readouterr().err == f"error: cannot write under {bottle}: No space left on device\n"
    assert tree(bottle) == before and old.read_text() == "old"


def test_a_root_that_may_not_be_written_advises_out(bottle: Path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, whom no permission stops
    with pytest.raises(SystemExit, match="2"):
        run(mvtec.LAYOUT, bottle)
    assert "give --out DIR" in capsys.readouterr().err


# --- errors, as commands -----------------------------------------------------------------------------------


def link_out(root: Path) -> None:
    picture(root / "c/test/good/1.png")
    (root / "c/test/good/2.png").symlink_to(picture(root.parent / "outside.png"))


def spoiled_boxes(root: Path) -> None:
    text(board_set(root) / "PCBData/g/1_not/b.txt", "1 1 3 2 4\n5 1 3 2 4\n")


def spoiled_list(root: Path) -> None:
    text(board_set(root) / "PCBData/test.txt", "g/1/d.jpg\n")


def nothing(root: Path) -> None:
    pass


def one_image(root: Path) -> None:
    picture(root / "c/test/good/1.png")


def blank_file(root: Path) -> None:
    text(root / "c/test/good/1.png", "")


def other_head(root: Path) -> None:
    visa_set(root, head="a,b")


def no_good_folder(root: Path) -> None:
    picture(root / "a/1.png")


def table_of(*rows: str):
    return lambda root: visa_set(root, *rows)


ERRORS = [
    (
        "mvtec.py",
        Path.rmdir,
        "",
        "{root} does not exist; --root wants MVTec AD (CLASS/test/KIND/IMAGE): http",
    ),
    ("mvtec.py", nothing, "", "no CLASS/test/KIND/IMAGE under {root}: is this the root of MVTec AD?"),
    ("mvtec.py", link_out, "", "{root}/c/test/good/2.png is a link that leaves the root"),
    ("mvtec.py", one_image, "--out {root}/view", "--out {root}/view lies within --root"),
    ("mvtec.py", one_image, "--out /dev/null/view", "cannot create the folder /dev/null/view: Not a direc"),
    ("mvtec.py", blank_file, "", "none of 1 images under {root} can be a test image; the first: unreadable"),
    ("visa.py", nothing, "", "no split_csv/1cls.csv under {root}: is this the root of VisA?"),
    (
        "visa.py",
        other_head,
        "",
        "{table}: wants the columns object, split, label, image, mask; its head has a, b",
    ),
    ("visa.py", table_of("x,test,normal,no.png,"), "", "none of 1 images under {root} can be a test image"),
    ("visa.py", table_of("x,test,normal,../a.png,"), "", "{table}:2: the path '../a.png' leaves the root"),
    ("visa.py", table_of("x,test,normal,/etc/a.png,"), "", "{table}:2: the path '/etc/a.png' leaves the"),
    ("visa.py", table_of("x,val,normal,a.png,"), "", "{table}:2: wants split train or test"),
    ("magnetic_tile.py", nothing, "", "no MT_KIND/Imgs/IMAGE.jpg under {root}: is this the root of the"),
    ("deep_pcb.py", nothing, "", "no PCBData/trainval.txt under {root}: is this the root of DeepPCB?"),
    ("deep_pcb.py", spoiled_boxes, "", '{root}/PCBData/g/1_not/b.txt:2: wants "x1 y1 x2 y2 type"'),
    ("deep_pcb.py", spoiled_list, "", '{root}/PCBData/test.txt:1: wants "IMAGE.jpg BOXES.txt", has \'g/1/d.'),
    ("folder.py", no_good_folder, "", "no good/, CLASS/good/ or CLASS/test/ under {root}"),
    ("folder.py", one_image, "--class_name b", "--class_name is for a root of one class"),
]


@pytest.mark.parametrize(("script", "make", "flags", "error"), ERRORS)
def test_an_error_is_one_line_and_status_2(tmp_path: Path, script: str, make, flags: str, error: str):
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    done = command(script, "--root", root, *flags.format(root=root).split())
    assert done.stderr.startswith("error: " + error.format(root=root, table=root / visa.TABLE))
    assert (done.stderr.count("\n"), done.returncode, done.stdout) == (1, 2, "")
    assert not list(tmp_path.rglob("meta.json"))


def test_the_command_works_from_any_folder(bottle: Path):
    done = command("mvtec.py", "--root", bottle.name, cwd=bottle.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2].startswith("wrote mvtec/meta.json")


# --- the real sets, where they are at hand -----------------------------------------------------------------


def real(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"the real images are not here: {name}")
    return REAL / name


def sizes(meta: dict, cls: str) -> tuple[int, int, int, int]:
    """(train normal, test normal, test anomalous, masks)"""
    test = meta["test"][cls]
    anomalous = sum(entry["anomaly"] for entry in test)
    return len(meta["train"][cls]), len(test) - anomalous, anomalous, sum(e["mask_path"] != "" for e in test)


def test_the_real_magnetic_tiles_come_out_whole(tmp_path: Path, capsys):
    meta = run(magnetic_tile.LAYOUT, real("magnetic-tile"), "--quick", "--out", str(tmp_path))
    assert sizes(meta, "magnetic_tile") == (119, 119, 392, 392)
    assert capsys.readouterr().err.count("blank mask of an anomalous image: MT_Uneven/") == 4
    with Image.open(tmp_path / "filo_masks/MT_Blowhole/exp1_num_108719.png") as mask:
        assert {value for _, value in mask.getcolors()} == {0, 255}


def test_the_real_boards_come_out_whole(tmp_path: Path, capsys):
    meta = run(deep_pcb.LAYOUT, real("deep-pcb"), "--quick", "--out", str(tmp_path))
    assert sizes(meta, "deep_pcb") == (48, 52, 100, 100)
    assert capsys.readouterr().err == ""


def test_an_empty_kind_folder_is_named(tmp_path):
    picture(tmp_path / "bolt/good/0.png")
    (tmp_path / "bolt/scratch").mkdir()
    done = command("folder.py", "--root", tmp_path)
    assert "kind folder without images: bolt/scratch" in done.stderr
