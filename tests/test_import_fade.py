"""prompts/import_fade.py, run as a command on a small checkout with invented prompts."""

import hashlib
import json
from pathlib import Path

import pytest

from filo.ensembles import read_texts
from tests import commands

WINCLIP = {
    "abnormal": {"instruction": "", "prompts": ["bent {classname}", "bent {classname}"]},
    "normal": {"instruction": "", "prompts": ["straight {classname}"]},
}
CHAT = {
    "abnormal": {"instruction": "Give 2.", "prompts": ["Scrap. ", "{0.__class__}"]},
    "normal": {"instruction": "Give 1.", "prompts": ["Naïve clean part."]},
}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "FADE"
    (folder / "prompts").mkdir(parents=True)
    for name, content in (("winclip_prompt", WINCLIP), ("chatgpt3.5_prompt1", CHAT)):
        (folder / "prompts" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "prompts" / "prompts.py").write_text("raise SystemExit('run')")
    return folder


@pytest.fixture
def run(monkeypatch, capfd):
    return lambda *arguments: commands.run(monkeypatch, capfd, "prompts/import_fade.py", *arguments)


@pytest.fixture
def fail(run):
    def fail(*arguments) -> str:
        status, _, err = run(*arguments)
        message = err.splitlines()[-1]
        assert status == 2 and message.startswith("error: ")
        return message

    return fail


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_checkout_becomes_ensembles_with_strings_and_order_unchanged(run, checkout, tmp_path):
    out = tmp_path / "new" / "folder"
    status, stdout, err = run(checkout, "--out", out)
    assert (status, err) == (0, "") and "1 normal, 2 abnormal prompts" in stdout
    paths = sorted(out.iterdir())
    assert [path.name for path in paths] == [
        "official_chatgpt3.5_prompt1.json",
        "official_winclip_prompt.json",
    ]
    assert read_texts(reversed(paths), "toothed wheel") == (
        ("straight toothed wheel", "Naïve clean part."),
        ("bent toothed wheel", "bent toothed wheel", "Scrap. ", "{0.__class__}"),
    )


def test_the_source_names_file_and_hash_but_not_where_the_checkout_lies(run, checkout, tmp_path):
    run(checkout, "--out", tmp_path / "out")
    content = load(tmp_path / "out" / "official_winclip_prompt.json")
    (source,) = content["sources"].values()
    assert (
        content["ensemble"] == "official_winclip_prompt" and "winclip_prompt.json of the published" in source
    )
    digest = hashlib.sha256((checkout / "prompts" / "winclip_prompt.json").read_bytes()).hexdigest()
    assert digest in source and str(tmp_path) not in source


def test_a_checkout_elsewhere_and_a_second_run_give_the_same_bytes(run, checkout, tmp_path):
    def written(folder):
        assert run(folder, "--out", tmp_path / "out")[0] == 0
        return [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]

    first = written(checkout)
    assert (
        len(first) == 2 and written(checkout) == first and written(checkout.rename(tmp_path / "b")) == first
    )


def test_a_single_file_may_be_given(run, checkout, tmp_path):
    assert run(checkout / "prompts" / "winclip_prompt.json", "--out", tmp_path / "out")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["official_winclip_prompt.json"]


def test_files_of_another_form_are_named_and_left_out(run, checkout, tmp_path):
    (checkout / "prompts" / "notes.json").write_text('{"normal": {"prompts": []}}')
    status, stdout, err = run(checkout, "--out", tmp_path / "out")
    assert status == 0 and "left out: " in err and "notes.json is no ensemble" in err
    assert "notes" not in stdout and len(list((tmp_path / "out").iterdir())) == 2


def test_rejects_what_holds_no_prompts(run, fail, checkout, tmp_path):
    out = tmp_path / "out"
    assert "nowhere has no folder prompts/" in fail(tmp_path / "nowhere", "--out", out)
    assert "prompts.py is not readable JSON" in fail(checkout / "prompts" / "prompts.py", "--out", out)
    for path in (checkout / "prompts").glob("*.json"):
        path.write_text("[]")
    assert "is it a checkout of FADE?" in fail(checkout, "--out", out)
    assert not out.exists()


def test_rejects_a_target_that_cannot_be_written(fail, checkout, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot write" in fail(checkout, "--out", tmp_path / "file")
