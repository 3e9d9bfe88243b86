"""Writing a file so that nothing half-written ever stands under its name."""

import hashlib
import json
import os
import shutil
import stat

import pytest
import torch

from filo import files
from filo.errors import InputError
from filo.files import append_line, link_or_copy, sha256_of, write_atomically, write_json, write_text
from filo.weights import write_tensors
from tests.trees import complaint


def full_disk(temporary):
    temporary.write_text("half")
    raise OSError(28, "No space left on device")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_text_comes_back_and_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "Größe 12 µm\n")
    assert path.read_text(encoding="utf-8") == "Größe 12 µm\n" and names(path.parent) == ["note.txt"]


def test_json_comes_back_readable(tmp_path):
    content = {"b": [1, 2.5, None], "a": {"ä": True}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "ä" in text and text.endswith("}\n") and text.index('"b"') < text.index('"a"')


def test_a_second_writing_replaces_the_first(tmp_path):
    write_text(tmp_path / "x", "one")
    write_text(tmp_path / "x", "two")
    assert (tmp_path / "x").read_text() == "two" and names(tmp_path) == ["x"]


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    message = complaint(lambda: write_atomically(path, full_disk))
    assert str(path) in message and "No space left" in message and "MiB free" in message
    assert path.read_text() == "old" and names(tmp_path) == ["x"]


def test_a_fault_of_ours_keeps_its_kind_and_leaves_no_rubbish(tmp_path):
    def stumble(temporary):
        temporary.write_text("half")
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        write_atomically(tmp_path / "x", stumble)
    assert names(tmp_path) == []


def test_nothing_stands_under_the_name_before_all_is_written(tmp_path):
    path, seen = tmp_path / "x", []

    def write(temporary):
        temporary.write_text("all")
        seen.append((path.exists(), temporary.parent == path.parent))

    write_atomically(path, write)
    assert seen == [(False, True)] and path.read_text() == "all"


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    message = complaint(lambda: write_text(tmp_path / "taken" / "x", "text"))
    assert str(tmp_path / "taken" / "x") in message
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_in_place_of_the_file_is_one_line(tmp_path):
    (tmp_path / "x").mkdir()
    assert str(tmp_path / "x") in complaint(lambda: write_text(tmp_path / "x", "text"))
    assert names(tmp_path) == ["x"]


def test_a_name_too_long_is_one_line(tmp_path):
    assert "cannot write" in complaint(lambda: write_text(tmp_path / ("n" * 250), "text"))


def test_a_link_stands_for_its_source_without_a_copy(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("weights")
    target.write_text("older weights")
    link_or_copy(source, target)
    assert target.samefile(source) and names(tmp_path) == ["source", "target"]
    link_or_copy(source, target)
    assert target.samefile(source) and names(tmp_path) == ["source", "target"]


def test_where_there_are_no_links_it_is_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("weights")
    link_or_copy(source, target)
    assert target.read_text() == "weights" and not target.samefile(source)
    assert names(tmp_path) == ["source", "target"]


def test_a_copy_that_fails_leaves_the_old_target(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    monkeypatch.setattr(shutil, "copyfile", lambda _, temporary: full_disk(temporary))
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("weights")
    target.write_text("older weights")
    assert "No space left" in complaint(lambda: link_or_copy(source, target))
    assert target.read_text() == "older weights" and names(tmp_path) == ["source", "target"]


def test_linking_a_file_to_itself_does_not_lose_it(tmp_path):
    write_text(tmp_path / "x", "weights")
    link_or_copy(tmp_path / "x", tmp_path / "x")
    assert (tmp_path / "x").read_text() == "weights" and names(tmp_path) == ["x"]


def test_a_fingerprint_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c149afb")


def test_the_free_space_is_asked_of_a_folder_that_exists(tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: asked.append(folder) or usage(folder))
    monkeypatch.setattr(files.Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(13, "denied")))
    assert "denied" in complaint(lambda: write_text(tmp_path / "no" / "such" / "x", "text"))
    assert asked == [tmp_path]


def test_a_written_file_has_the_rights_that_new_files_get(tmp_path):
    (tmp_path / "plain").touch()

    def write(path):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)

    write_atomically(tmp_path / "written", write)
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("is_lasting", [False, True])
def test_the_content_is_on_the_disk_before_the_name_is_and_a_lasting_name_before_anything_goes(
    is_lasting, tmp_path, monkeypatch
):
    done, fsync, replace = [], os.fsync, os.replace

    def note_fsync(number):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "content")
        fsync(number)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("name") or replace(*paths))
    write_atomically(tmp_path / "x", lambda path: path.write_text("x"), is_lasting)
    assert done == ["content", "name", "folder"][: 3 if is_lasting else 2]
    done.clear()
    link_or_copy(tmp_path / "x", tmp_path / "y")
    write_tensors(tmp_path / "z", {"a": torch.zeros(1)}, is_lasting=is_lasting)
    assert done == ["content", "name", "folder", "content", "name", "folder"][: 6 if is_lasting else 5]


def test_lines_are_appended(tmp_path):
    append_line(tmp_path / "log.jsonl", {"a": 1})
    append_line(tmp_path / "log.jsonl", {"a": 2})
    assert (tmp_path / "log.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'
    with pytest.raises(InputError, match="cannot write"):
        append_line(tmp_path / "none" / "log.jsonl", {})
