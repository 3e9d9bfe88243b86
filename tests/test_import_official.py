"""prompts/import_official.py, run as a command on a small checkout with invented phrases."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import import_official

PROMPTS = Path(import_official.__file__).parent
MVTEC_KEYS = list(json.loads((PROMPTS / "mvtec.json").read_text(encoding="utf-8"))["classes"])
VISA_KEYS = list(json.loads((PROMPTS / "visa.json").read_text(encoding="utf-8"))["classes"])

# Decoys: what an importer that runs the file would do or be confused by.
MODULE = """# -*- coding: utf-8 -*-
import no_such_package
open({trap!r}, "w").write("executed")
mvtec_obj_list = ["bottle"]
pattern = "\\d"  # an invalid escape warns when it is compiled
def build():
    mvtec_anomaly_detail_gpt = {{"bottle": "a local table"}}
mvtec_anomaly_detail_gpt = {mvtec!r}
visa_anomaly_detail_gpt: dict = {visa!r}
for name in mvtec_anomaly_detail_gpt.keys():
    mvtec_anomaly_detail_gpt[name] = mvtec_anomaly_detail_gpt[name].split(",")
status = {{name: open({trap!r}, "w") for name in mvtec_anomaly_detail_gpt}}
"""


def make_tables(mark: str) -> tuple[dict, dict]:
    """Invent one table per dataset, with the keys spelled as the published program spells them."""
    mvtec = {key.replace("_", " "): f"{mark} green {key},Blue moss ,sand" for key in reversed(MVTEC_KEYS)}
    visa = {key.replace("_", " "): f"{mark} {key} confetti" for key in VISA_KEYS}
    return mvtec, visa


@pytest.fixture
def trap(tmp_path):
    return tmp_path / "executed.txt"


@pytest.fixture
def checkout(tmp_path, trap):
    folder = tmp_path / "FiLo"
    (folder / "models").mkdir(parents=True)
    for file, mark in (("test.py", "tested"), ("models/FiLo.py", "Trained")):
        mvtec, visa = make_tables(mark)
        text = MODULE.format(trap=str(trap), mvtec=mvtec, visa=visa)
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "train.py").write_text("import torch\n", encoding="utf-8")
    return folder


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROMPTS / "import_official.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def failure(*arguments) -> str:
    """Run a command that must fail with status 2 and one line; return what the line says after `error: `."""
    done = run(*arguments)
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("error: ").rstrip("\n")


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_checkout_becomes_two_prompt_files_and_nothing_is_executed(checkout, tmp_path, trap):
    out = tmp_path / "new" / "folder"
    done = run(checkout, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in out.iterdir()) == ["official_mvtec.json", "official_visa.json"]
    assert not trap.exists()
    mvtec, visa = load(out / "official_mvtec.json"), load(out / "official_visa.json")
    assert (mvtec["dataset"], visa["dataset"]) == ("mvtec", "visa")
    assert list(mvtec["classes"]) == MVTEC_KEYS and list(visa["classes"]) == VISA_KEYS
    assert mvtec["classes"]["metal_nut"] == {
        "name": "metal nut",
        "descriptions": [
            {"text": "tested green metal_nut", "source": "official"},
            {"text": "Blue moss ", "source": "official"},
            {"text": "sand", "source": "official"},
        ],
    }
    assert visa["classes"]["pcb3"] == {
        "name": "pcb",
        "descriptions": [{"text": "tested pcb3 confetti", "source": "official"}],
    }
    assert visa["classes"]["macaroni1"] == {
        "name": "macaroni",
        "official_descriptions_of": "macaroni2",
        "descriptions": [{"text": "tested macaroni1 confetti", "source": "official"}],
    }


def test_the_source_names_file_and_hash_but_not_where_the_checkout_lies(checkout, tmp_path):
    run(checkout, "--out", tmp_path, "--table", "train")
    source = load(tmp_path / "official_mvtec.json")["sources"]["official"]
    assert "mvtec_anomaly_detail_gpt in models/FiLo.py " in source
    assert hashlib.sha256((checkout / "models/FiLo.py").read_bytes()).hexdigest() in source
    assert str(tmp_path) not in source


def test_every_byte_of_a_small_file_is_as_expected():
    entry = {"name": "é", "descriptions": [{"text": "a", "source": "s"}, {"text": "b ", "source": "s"}]}
    prompts = {"dataset": "d", "sources": {"s": "who"}, "classes": {"x": entry}}
    assert import_official.to_text(prompts).splitlines(keepends=True) == [
        "{\n",
        '  "dataset": "d",\n',
        '  "sources": {\n',
        '    "s": "who"\n',
        "  },\n",
        '  "classes": {\n',
        '    "x": {\n',
        '      "name": "é",\n',
        '      "descriptions": [\n',
        '        {"text": "a", "source": "s"},\n',
        '        {"text": "b ", "source": "s"}\n',
        "      ]\n",
        "    }\n",
        "  }\n",
        "}\n",
    ]


def test_a_second_run_and_a_checkout_elsewhere_give_the_same_bytes(checkout, tmp_path):
    def written(folder: Path) -> list[bytes]:
        assert run(folder, "--out", tmp_path / "out").returncode == 0
        return [p.read_bytes() for p in sorted((tmp_path / "out").iterdir())]

    first = written(checkout)
    assert len(first) == 2 and written(checkout) == first
    assert written(checkout.rename(tmp_path / "moved")) == first


def test_table_train_takes_the_other_copy(checkout, tmp_path):
    run(checkout, "--out", tmp_path, "--table", "train")
    assert load(tmp_path / "official_visa.json")["classes"]["candle"]["descriptions"] == [
        {"text": "Trained candle confetti", "source": "official"}
    ]


def test_a_single_file_may_be_given_and_one_dataset_chosen(checkout, tmp_path):
    out = tmp_path / "out"
    assert run(checkout / "test.py", "--out", out, "--dataset", "visa").returncode == 0
    assert [p.name for p in out.iterdir()] == ["official_visa.json"]


def test_lists_of_phrases_and_shared_names_are_taken_too(tmp_path):
    _, visa = make_tables("x")
    table = {k: [v, "with, comma"] for k, v in visa.items() if not k.startswith("pcb")} | {"pcb": "rust"}
    (tmp_path / "fork.py").write_text(f"visa_anomaly_detail_gpt = {table!r}\n", encoding="utf-8")
    assert run(tmp_path / "fork.py", "--out", tmp_path, "--dataset", "visa").returncode == 0
    classes = load(tmp_path / "official_visa.json")["classes"]
    assert [d["text"] for d in classes["candle"]["descriptions"]] == ["x candle confetti", "with, comma"]
    assert all([d["text"] for d in classes[f"pcb{i}"]["descriptions"]] == ["rust"] for i in (1, 2, 3, 4))


def test_a_class_of_the_table_that_is_not_ours_is_named(tmp_path):
    _, visa = make_tables("x")
    (tmp_path / "fork.py").write_text(f"visa_anomaly_detail_gpt = {visa | {'teapot': 'a'}!r}\n")
    done = run(tmp_path / "fork.py", "--out", tmp_path, "--dataset", "visa")
    assert done.returncode == 0 and "left out: teapot" in done.stdout


def test_rejects_a_path_that_is_missing(tmp_path):
    assert "nowhere does not exist" in failure(tmp_path / "nowhere")


def test_rejects_a_file_that_is_not_python(tmp_path):
    (tmp_path / "table.txt").write_text("x")
    assert "neither a folder nor a .py file" in failure(tmp_path / "table.txt")


def test_rejects_a_folder_that_is_no_checkout(tmp_path):
    assert "has no test.py" in failure(tmp_path)
    assert "has no models/FiLo.py" in failure(tmp_path, "--table", "train")


def test_rejects_table_together_with_a_file(checkout):
    assert "--table" in failure(checkout / "test.py", "--table", "train")


def test_says_what_it_looked_for_when_there_is_no_table(checkout, tmp_path):
    message = failure(checkout / "train.py", "--out", tmp_path)
    assert "mvtec_anomaly_detail_gpt = {...}" in message and "test.py and models/FiLo.py" in message


def test_names_the_classes_that_the_table_lacks_and_writes_neither_file(checkout, tmp_path):
    mvtec, visa = make_tables("x")
    del visa["candle"], visa["pipe fryum"]
    text = f"mvtec_anomaly_detail_gpt = {mvtec!r}\nvisa_anomaly_detail_gpt = {visa!r}\n"
    (checkout / "test.py").write_text(text)
    assert "lacks 2 of 12 classes: candle, pipe_fryum" in failure(checkout, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x = (\n", "line 1: not valid Python"),
        ("print 'python 2'\n", "line 1: not valid Python"),
        ("x = 1\0\n", "not"),
        ("mvtec_anomaly_detail_gpt = open('TRAP', 'w')\n", "line 1: mvtec_anomaly_detail_gpt is not"),
        ("mvtec_anomaly_detail_gpt = {'bottle': f'{1 + 1}'}\n", "not a literal"),
        ("mvtec_anomaly_detail_gpt = {}\nmvtec_anomaly_detail_gpt = dict()\n", "line 2"),
        ("mvtec_anomaly_detail_gpt = ['bottle']\n", "is a list, wanted a dict"),
        ("mvtec_anomaly_detail_gpt = {[]: 1}\n", "not a literal"),
        ("mvtec_anomaly_detail_gpt = " + "-" * 100_000 + "1\n", "not"),
    ],
)
def test_rejects_a_file_whose_table_cannot_be_read(tmp_path, trap, text, wanted):
    (tmp_path / "table.py").write_text(text.replace("TRAP", str(trap)))
    assert wanted in failure(tmp_path / "table.py", "--out", tmp_path)
    assert not trap.exists()


def test_rejects_bytes_that_are_not_text(tmp_path):
    (tmp_path / "table.py").write_bytes(b"x = '\xff'\n")
    failure(tmp_path / "table.py", "--out", tmp_path)


@pytest.mark.parametrize("phrases", ["", "a,,b", "a, ", [], [1], None, ("a", "b")])
def test_rejects_phrases_that_are_empty_or_no_text(tmp_path, phrases):
    mvtec, _ = make_tables("x")
    (tmp_path / "table.py").write_text(f"mvtec_anomaly_detail_gpt = {mvtec | {'metal nut': phrases}!r}\n")
    message = failure(tmp_path / "table.py", "--out", tmp_path, "--dataset", "mvtec")
    assert "mvtec_anomaly_detail_gpt['metal nut']" in message


def test_rejects_a_phrase_that_is_not_unicode(tmp_path):
    mvtec, _ = make_tables("x")
    mvtec["pill"] = "\ud800"
    (tmp_path / "table.py").write_text(f"mvtec_anomaly_detail_gpt = {mvtec!r}\n")
    message = failure(tmp_path / "table.py", "--out", tmp_path, "--dataset", "mvtec")
    assert "not valid Unicode" in message
    assert [p.name for p in tmp_path.iterdir()] == ["table.py"]


def test_rejects_a_target_that_cannot_be_written_and_leaves_nothing_behind(checkout, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot write" in failure(checkout, "--out", tmp_path / "file")
    out = tmp_path / "out"
    (out / "official_mvtec.json").mkdir(parents=True)
    assert "cannot write" in failure(checkout, "--out", out)
    assert [p.name for p in out.iterdir()] == ["official_mvtec.json"]


def test_rejects_an_unknown_dataset(checkout):
    done = run(checkout, "--dataset", "btad")
    assert done.returncode == 2 and "invalid choice: 'btad'" in done.stderr
