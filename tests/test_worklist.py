"""What is to be looked at: each path once, in order, in the same batches wherever work goes on, on disk."""

import sys
import tracemalloc
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from filo import on_disk
from filo.errors import InputError
from filo.inputs import Input, find_images
from filo.on_disk import Numbers
from filo.pictures import count_pixels
from filo.shards import Shard
from filo.worklist import BLOCK, Heatmaps, Worklist, batches


def made(*inputs, shard=None, found=None, **how):
    work = Worklist(shard)
    work.add(Input(Path(path), Path("."), *more) for path, *more in inputs)
    work.settle(found or {}, **how)
    return work


def test_images_come_by_class_as_it_was_understood_and_otherwise_as_they_were_named():
    work = made(
        ("z.png", "nut"),
        ("b.png", "bolts"),
        ("none.png", "", "no such file"),
        ("./z.png", "nut"),
        ("a.png", "nut"),
        ("c.png", "_"),
        ("d.png", "_", "gone"),
        found={"bolts": ("metal bolt", ""), "_": ("_", "the class has no name")},
    )
    assert [(str(i.path), i.class_name, i.error) for i in work.items()] == [
        ("none.png", "", "no such file"),
        ("c.png", "_", "the class has no name"),
        ("d.png", "_", "gone"),
        ("b.png", "metal bolt", ""),
        ("z.png", "nut", ""),
        ("a.png", "nut", ""),
    ]
    assert [i.number for i in work.items()] == [*range(6)] and [i.number for i in work.items(4)] == [4, 5]
    assert (len(work), work.repeated, list(work.classes)) == (6, 1, ["nut", "bolts", "_"])


def test_a_path_that_is_no_text_comes_back_as_it_was():
    assert [i.path for i in made(("a\udcff\u2028.png", "nut")).items()] == [Path("a\udcff\u2028.png")]


def test_if_nothing_can_be_done_the_first_is_named():
    with pytest.raises(InputError, match=r"b\.png: gone \(and 1 more cannot be done\)"):
        made(("b.png", "nut", "gone"), ("a.png", "nut", "gone")).require_any()
    with pytest.raises(InputError, match=r"b\.png: no class$"):
        made(("b.png", "nut"), found={"nut": ("nut", "no class")}).require_any()
    made(("b.png", "nut", "gone"), ("a.png", "nut")).require_any()
    made(("b.png", "nut", "gone"), shard=Shard(1, 1)).require_any()  # other shards may have some


def test_heatmaps_have_names_of_their_own():
    names = Heatmaps()
    stems = ["a", "A", "a", "b_2", "b", "b", "a_2", "b"]
    assert [names.name(stem) for stem in stems] == [
        *("a.jpg", "A_2.jpg", "a_3.jpg", "b_2.jpg", "b.jpg", "b_3.jpg", "a_2_2.jpg", "b_4.jpg")
    ]
    assert [i.heatmap for i in made(("x/ä;b.png", "nut"), with_heatmaps=False).items()] == [""]


def test_a_batch_has_so_many_images_pixels_and_one_class(tmp_path):
    sides = [2, 2, 4, 10, 2, 2, 2]  # 100 pixels are one image's, which is more than may be
    for i, side in enumerate(sides):
        Image.new("RGB", (side, side)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"")  # counts for nothing
    work = Worklist()
    work.add(find_images([str(tmp_path)], "x"))
    work.settle({})

    def numbers(size, **how):
        return [[i.number for i in batch] for batch in batches(work.items(), size, count_pixels, **how)]

    assert numbers(3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert numbers(3, most_pixels=20) == [[0, 1], [2], [3], [4, 5, 6]]
    assert numbers(3, most_pixels=24) == [[0, 1, 2], [3], [4, 5, 6]]
    assert numbers(1, most_pixels=20) == [[i] for i in range(7)]
    mixed = made(*((f"{i}.png", "ab"[i > 1]) for i in range(4)))
    assert [[i.number for i in batch] for batch in batches(mixed.items(), 3, lambda _: 1)] == [[0, 1], [2, 3]]


def test_batches_are_the_same_wherever_work_goes_on_and_few_images_are_opened_for_that():
    size, opened = 3, []
    work = made(*((f"{i:04d}.png", "nut" if i < 301 else "screw") for i in range(500)))

    def count(path):
        opened.append(path)
        return 60_000_000 if int(path.stem) % 7 == 0 else 1

    whole = list(work.batches(size, count))
    assert list(chain(*whole)) == list(work.items()) and {1, 2, 3} == set(map(len, whole))
    for start in range(0, 500, 13):
        opened.clear()
        first = next(i for i, batch in enumerate(whole) if batch[-1].number >= start)
        left = work.batches(size, count, start)
        assert next(left) == whole[first]
        assert len(opened) <= size * BLOCK + size + 1
        assert list(left) == whole[first + 1 :]


def test_a_full_temporary_folder_is_one_line(monkeypatch):
    work, numbers = Worklist(), Numbers()
    for tables in (work._tables, numbers._tables):
        tables.execute("PRAGMA max_page_count = 4")
    with pytest.raises(InputError, match=r"names of images in the temporary folder .*full.*TMPDIR"):
        work.add(Input(Path(f"{i}.png"), Path("."), "nut") for i in range(9999))
    with pytest.raises(InputError, match="full"):
        for i in range(9999):
            numbers.put(str(i), i)
    assert on_disk.open_tables().execute("PRAGMA database_list").fetchone()[2] == ""  # a file without a name


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_memory_does_not_grow_with_the_number_of_images(shard):
    names = [sys.intern(f"{i}.png") for i in range(3000)]  # as pathlib does, in a table that grows by leaps

    def peak(count):
        tracemalloc.start()
        work = Worklist(shard)
        work.add(Input(Path("some/folder") / name, Path("some"), "nut") for name in names[:count])
        work.settle({})
        assert sum(1 for _ in work.items()) == len(work) and work.describe()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    assert peak(3000) < peak(300) + 20_000
