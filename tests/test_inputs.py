"""Files, folders, globs and lists on a command line, and the class each image is taken for."""

import os
from pathlib import Path

import pytest
from PIL import Image

from filo.errors import InputError
from filo.image_list import to_line
from filo.inputs import find_images, listed_images
from filo.worklist import Worklist

PICTURES = ["bracket/a.png", "bracket/b.JPG", "nut/good/c.png", "nut/bent/c.png", "[1].png", "loose.tif"]
OTHERS = ["notes.txt", ".hidden.png", "bracket/._a.png", ".cache/d.png", "nut/readme.md"]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    for name in (*PICTURES, *OTHERS):
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path, "PNG")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "parts"


def names(arguments, class_name="thing"):
    return [
        (str(each.path), each.class_name) for each in find_images(arguments, class_name) if not each.error
    ]


def paths(*arguments):
    return [path for path, _ in names(arguments)]


def test_a_folder_gives_its_images_and_those_below(parts):
    assert sorted(paths("parts")) == sorted(f"parts/{name}" for name in PICTURES)
    assert paths("parts") == paths(str(parts) + "/../parts/") or paths("parts") == paths("parts/")


def test_a_file_is_taken_whatever_it_is_called(parts):
    assert paths("parts/notes.txt", "parts/[1].png") == ["parts/notes.txt", "parts/[1].png"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("parts/*.tif", ["parts/loose.tif"]),
        ("parts/b*/*", ["parts/bracket/a.png", "parts/bracket/b.JPG"]),
        ("parts/br*", ["parts/bracket/a.png", "parts/bracket/b.JPG"]),
        ("parts/nut/**/*.png", ["parts/nut/bent/c.png", "parts/nut/good/c.png"]),
        ("parts/nut/**", ["parts/nut/bent/c.png", "parts/nut/good/c.png"]),
        ("parts/bracket/[ab].*", ["parts/bracket/a.png", "parts/bracket/b.JPG"]),
    ],
)
def test_a_quoted_glob_gives_images_alone(parts, pattern, wanted):
    assert paths(pattern) == wanted


def test_an_image_named_twice_is_done_once(parts):
    named = [
        "parts/bracket",
        "parts/bracket/a.png",
        "./parts/bracket/../bracket/*.png",
        str(parts / "bracket"),
    ]
    work = Worklist()
    work.add(find_images(named, "thing"))
    work.settle({})
    assert [str(item.path) for item in work.items()] == ["parts/bracket/a.png", "parts/bracket/b.JPG"]
    assert work.repeated == 4


def test_links_are_followed_and_rings_end(parts):
    os.symlink(parts / "bracket", parts / "nut" / "more")
    os.symlink(parts, parts / "nut" / "ring")
    os.symlink(parts / "loose.tif", parts / "nut" / "link.tif")
    os.symlink(parts / "gone.png", parts / "nut" / "broken.png")
    found = paths("parts/nut")
    assert found[:2] == [
        "parts/nut/broken.png",
        "parts/nut/link.tif",
    ]  # that the first is broken is seen later
    assert {"parts/nut/more/a.png", "parts/nut/ring/loose.tif"} <= set(found)
    assert len(found) == 2 + len(PICTURES) + 0


def test_what_names_nothing_is_an_input_with_an_error(parts):
    (parts / "empty").mkdir()
    found = list(find_images(["parts/none.png", "parts/*.bmp", "parts/empty", "parts/loose.tif"], "x"))
    assert [str(each.path) for each in found if each.error] == [
        "parts/none.png",
        "parts/*.bmp",
        "parts/empty",
    ]
    assert [each.error.split(",")[0] for each in found] == [
        "no such file or folder",
        "no image there",
        "no image there",
        "",
    ]


def test_what_a_run_drew_is_passed_over_and_nothing_else(parts):
    run = parts / "run"
    (run / "heatmaps").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(run / "heatmaps" / "a.jpg")
    assert "parts/run/heatmaps/a.jpg" in paths("parts")
    (run / "predictions.jsonl").touch()
    assert sorted(paths("parts")) == sorted(f"parts/{name}" for name in PICTURES)
    Image.new("RGB", (2, 2)).save(run / "own.png")
    assert "parts/run/own.png" in paths("parts") and paths("parts/run") == ["parts/run/own.png"]
    assert paths("parts/run/**/*.*") == ["parts/run/own.png"]
    assert paths("parts/run/heatmaps") == ["parts/run/heatmaps/a.jpg"]  # named, so it is meant


def test_the_class_is_the_first_folder_below_the_one_that_was_named(parts, monkeypatch):
    assert dict(names(["parts"], None)) == {
        "parts/bracket/a.png": "bracket",
        "parts/bracket/b.JPG": "bracket",
        "parts/nut/good/c.png": "nut",
        "parts/nut/bent/c.png": "nut",
        "parts/[1].png": "parts",
        "parts/loose.tif": "parts",
    }
    assert names(["parts/bracket"], None)[0] == ("parts/bracket/a.png", "bracket")
    assert names(["parts/bracket/*.png", "parts/nut/good/c.png"], None) == [
        ("parts/bracket/a.png", "bracket"),
        ("parts/nut/good/c.png", "good"),
    ]
    monkeypatch.chdir(parts / "bracket")
    assert names(["."], None)[0] == ("a.png", "bracket") and names(["a.png"], None) == [("a.png", "bracket")]


def test_a_folder_s_name_that_is_no_text_becomes_one(tmp_path):
    (tmp_path / "a\udcff").mkdir()
    Image.new("RGB", (2, 2)).save(str(tmp_path / "a\udcff" / "b.png"))
    assert [each.class_name for each in find_images([str(tmp_path)], None)] == ["a\ufffd"]


# lists


def listed(text, class_name="thing", from_folder=False, folder=None):
    path = folder / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(str(each.path), each.class_name) for each in listed_images(str(path), class_name, from_folder)]


def test_a_list_names_one_image_a_line_and_if_wanted_its_class(tmp_path):
    text = "a/1.png\r\n\n  b c/2.png\tmetal nut\nd\te.png\t\nlast.png"
    wanted = [
        ("a/1.png", "thing"),
        ("  b c/2.png", "metal nut"),
        ("d\te.png", "thing"),
        ("last.png", "thing"),
    ]
    assert listed(text, folder=tmp_path) == wanted
    assert listed(b"\xef\xbb\xbf" + text.encode(), folder=tmp_path) == wanted
    assert listed("a/1.png\n/x/b.png\tnut\n", None, True, tmp_path) == [("a/1.png", "a"), ("/x/b.png", "nut")]


@pytest.mark.parametrize("name", ["a.png", "b\tc.png", " d.png ", "e\udcff.png", "f\r.png", "-", "#.png"])
def test_what_a_run_lists_names_the_same_image_again(name, tmp_path):
    assert listed(to_line(Path(name), "metal nut"), folder=tmp_path) == [(name, "metal nut")]
    assert listed(to_line(Path(name), ""), folder=tmp_path) == [(name, "thing")]
    assert to_line(Path("a\nb.png"), "nut") is None


BAD = {
    "empty": (b"", "names no image"),
    "blank": (b"\n\r\n", "names no image"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0", "line 3 holds a zero byte"),
    "utf-16": ("a.png\n".encode("utf-16"), "line 1 holds a zero byte; wanted text in UTF-8"),
    "endless": (b"x" * 10_000, "line 1 is longer than 8192 bytes"),
    "classless": (b"a.png\tnut\n\nb.png\n", r"line 3: nothing says what the image shows: .*--class"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_list_is_one_line(case, tmp_path):
    text, said = BAD[case]
    with pytest.raises(InputError, match=said) as caught:
        listed(text, None if case == "classless" else "thing", folder=tmp_path)
    assert "list.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_that_cannot_be_read_is_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(InputError, match=r"cannot be read: .*wanted a text file"):
            list(listed_images(str(path), "x", False))
