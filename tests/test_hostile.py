"""Files that want to do harm do none: nothing runs, nothing is read or written elsewhere, nothing swells."""

import ast
import csv
import os
import pickle
import re
import struct
import time
import zipfile
import zlib

import magnetic_tile
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import checks
import layouts
from filo import transforms
from filo.datasets import AnomalyDataset, _Guarded, iterate
from filo.errors import exit_clearly
from filo.files import write_json
from filo.meta import read_meta
from filo.output import write_table
from filo.predictor import FiLo
from filo.records import Record, read_small, write_small
from filo.run_folder import TABLE
from filo.transforms import image_size, open_image, open_mask
from filo.weights import read_weights
from tests.commands import ROOT, flags
from tests.hostile import Probe, call, make_flags, the_line
from tests.test_weights import openai_weights, save_archive
from tests.trees import complaint, make_root

# which flags of which commands lead to a weights file
LOADING = [
    ("train.py", "clip_pretrained"),
    ("test.py", "ckpt_path"),
    ("test.py", "clip_pretrained"),
    ("test.py", "grounded_checkpoint"),
    ("filo/predict.py", "ckpt_path"),
    ("filo/predict.py", "clip_pretrained"),
    ("filo/predict.py", "grounded_checkpoint"),
    ("filo/checkpoint.py", "inspect"),
    ("filo/checkpoint.py", "convert"),
    ("filo/checkpoint.py", "clip_pretrained"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("made")
    return folder, make_flags(folder, tiny_config)


def load_by(made, monkeypatch, capfd, tmp_path, script, flag, path):
    """Run a command that loads `path` and give its one line; it must leave nothing behind."""
    folder, values = made
    given = [flag, path] if flag == "inspect" else [flag, path, tmp_path / "out.safetensors"]
    if script != "filo/checkpoint.py":
        run = {"out" if "predict" in script else "save_path": tmp_path / f"run_{path.name}"}
        given = flags(**values[script] | run | {flag: path})
        given += [folder / "data" / "nut" / "0.png"] if "predict" in script else []
    elif flag == "clip_pretrained":
        given = ["convert", folder / "filo.safetensors", tmp_path / "out.pth", "--clip_pretrained", path]
    line = the_line(call(monkeypatch, capfd, tmp_path, script, *given))
    left = {each.name for each in tmp_path.rglob("*") if each.is_file()} - {"args.json", path.name}
    left -= {
        "unfinished.json",
        "predictions.csv",
        "predictions.jsonl",
    }  # the detector is opened when the first image needs it
    assert str(path) in line and not left, (line, left)
    return line


@pytest.mark.parametrize(("script", "flag"), LOADING)
def test_no_command_runs_what_a_weights_file_holds(made, script, flag, tmp_path, monkeypatch, capfd):
    for name in ("evil.pt", "evil.safetensors"):
        torch.save({"state_dict": {"a": torch.ones(2), "b": Probe(tmp_path / "ran")}}, tmp_path / name)
        load_by(made, monkeypatch, capfd, tmp_path, script, flag, tmp_path / name)
        (tmp_path / name).unlink()
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_is_refused_without_a_warning(tmp_path, recwarn):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Probe(tmp_path / "ran")}, protocol=4))
    assert "evil.pt is no weights file" in complaint(lambda: read_weights(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists() and not recwarn.list


def test_python_refuses_it_too(tmp_path):
    torch.save(Probe(tmp_path / "ran"), tmp_path / "evil.pt")
    assert "evil.pt" in complaint(lambda: FiLo.load(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


DANGEROUS = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "torch.jit.load", "os.system"}
SOURCES = [path for name in ("filo", "data", "prompts") for path in (ROOT / name).rglob("*.py")]


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "train.py", ROOT / "test.py"], ids=lambda p: p.name)
def test_no_source_has_a_way_to_run_data(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {each.arg: each.value for each in node.keywords}
        assert name not in DANGEROUS, f"{path}:{node.lineno}"
        if name == "torch.load":
            assert ast.unparse(given["weights_only"]) == "True"
        if name == "np.load":
            assert ast.unparse(given["allow_pickle"]) == "False"
        if name.endswith(".format"):  # a field of a text from elsewhere reaches into objects
            assert isinstance(node.func.value, ast.Constant), f"{path}:{node.lineno}"
        assert "shell" not in given, f"{path}:{node.lineno}"


# ---- what swells


def gigapixels(path, side=40_000):
    """Write a PNG of a few bytes that says it is huge."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(100_000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.fixture
def limit(monkeypatch):
    """Let a test change the limit; afterwards it is as it was."""
    monkeypatch.setattr(transforms, "LARGEST", transforms.LARGEST)


@pytest.mark.parametrize("side", [16_385, 40_000])
def test_gigapixels_are_refused_at_once(tmp_path, side):
    path, started = gigapixels(tmp_path / "bomb.png", side), time.perf_counter()
    for use in (open_image, image_size, lambda path: open_mask(path, (8, 8))):
        message = complaint(lambda use=use: use(path))
        assert str(path) in message and "268,435,456 pixels" in message and "--largest_image" in message
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("script", ["train.py", "test.py", "filo/predict.py"])
def test_the_limit_can_be_lowered_and_raised(made, script, tmp_path, monkeypatch, capfd, limit):
    folder, values = made
    name = "out" if "predict" in script else "save_path"
    more = [folder / "data" / "nut" / "0.png"] if "predict" in script else []
    given = values[script] | {name: tmp_path / "run"}
    outcome = call(monkeypatch, capfd, tmp_path, script, *more, *flags(**given, largest_image=47))
    assert outcome[0] == 2 and "wanted at most 47 pixels" in outcome[2]
    given[name] = tmp_path / "again"
    assert call(monkeypatch, capfd, tmp_path, script, *more, *flags(**given, largest_image=48))[0] == 0


def test_processes_that_read_images_know_the_limit(tmp_path, limit):
    meta = read_meta(make_root(tmp_path / "data"), "test")
    dataset = AnomalyDataset(meta, 8, (0, 0, 0), (1, 1, 1))
    transforms.allow_pixels(47)
    assert "at most 47" in complaint(lambda: list(iterate(dataset, 2, workers=1)))
    guarded = _Guarded(dataset, 47)
    transforms.allow_pixels(48)  # as in a process that was started anew
    assert "at most 47" in str(guarded[0])


def test_scripts_of_datasets_have_the_same_limit_and_formats(tmp_path, capsys):
    assert (checks.LARGEST, checks.FORMATS) == (transforms.LARGEST, transforms.FORMATS)
    for number, kind in enumerate(("good", "bad")):
        (tmp_path / "nut" / kind).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "nut" / kind / f"{number}.png")
    gigapixels(tmp_path / "nut" / "good" / "bomb.png")
    arguments = layouts.arguments("").parse_args(["--root", str(tmp_path)])
    find = __import__("folder").find
    layout = layouts.Layout("folder", "yours", "good", "here", lambda walk: find(walk, None, "good"))
    layouts.run(layout, arguments)
    assert "bomb.png (too large: raise the limit by --largest_image" in capsys.readouterr().err
    assert len(read_meta(tmp_path, "test").entries) == 2
    arguments.largest_image = 47
    with pytest.raises(SystemExit):
        layouts.run(layout, arguments)
    assert "none of 3 images" in capsys.readouterr().err


def test_a_small_picture_that_is_huge_is_no_picture(tmp_path):
    write_small(tmp_path, 0, Image.new("RGB", (8, 8)), torch.zeros(8, 8).numpy())
    gigapixels(tmp_path / "small" / "000000_map.png")
    assert read_small(tmp_path, Record(0, "a.png", "nut")) is None


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    for dtype in (torch.float32, torch.float16):
        wide = torch.zeros(1, dtype=dtype).expand(10**13)
        torch.save({"a": torch.ones(2), "wide": wide}, tmp_path / "bomb.pt")
        message = complaint(lambda: read_weights(tmp_path / "bomb.pt"))
        assert "bomb.pt: its tensor wide claims the shape (10000000000000,)" in message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(3, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(3, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.quint8),
    ],
    ids=["without values", "sparse", "complex", "quantised"],
)
def test_a_tensor_of_another_kind_is_refused(make, tmp_path):
    torch.save({"a": make()}, tmp_path / "odd.pt")
    assert "its tensor a holds no plain numbers" in complaint(lambda: read_weights(tmp_path / "odd.pt"))


def test_an_archive_that_would_swell_is_refused(tmp_path):
    save_archive(openai_weights(), tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as old,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(10**7) if name.endswith("/data/0") else old.read(name))
    assert "bomb.pt" in complaint(lambda: read_weights(tmp_path / "bomb.pt"))


def test_a_word_without_end_is_refused_before_it_is_taken_apart(tiny_clip):
    started = time.perf_counter()
    message = complaint(lambda: tiny_clip.text.tokenize(["rust", "ab" * 100_000]))
    assert "'abab" in message and len(message) < 1000 and time.perf_counter() - started < 2


# ---- what is no image


def test_no_other_program_is_called_for_an_image(tmp_path, monkeypatch):
    tool, path = tmp_path / "gs", tmp_path / "page.png"
    tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for once
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert str(path) in complaint(lambda: open_image(path))
    with pytest.raises(OSError, match="cannot identify"):
        checks.read_image(path)
    assert not (tmp_path / "ran").exists()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "it is no file" in complaint(lambda: open_image(tmp_path / "pipe.png"))
    with pytest.raises(OSError, match="it is no file"):
        checks.read_image(tmp_path / "pipe.png")


# ---- links and names


def test_masks_are_not_drawn_through_a_link_that_leaves_the_dataset(tmp_path, capsys):
    root, elsewhere = tmp_path / "tiles", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for kind in ("Free", *magnetic_tile.DEFECTS):
        (root / f"MT_{kind}" / "Imgs").mkdir(parents=True)
        Image.new("L", (8, 6)).save(root / f"MT_{kind}" / "Imgs" / "a.jpg")
        Image.new("L", (8, 6), 255).save(root / f"MT_{kind}" / "Imgs" / "a.png")
    (root / layouts.DRAWN_MASKS).symlink_to(elsewhere)
    with pytest.raises(SystemExit) as caught:
        layouts.run(magnetic_tile.LAYOUT, layouts.arguments("").parse_args(["--root", str(root)]))
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1 and "by a link: remove it" in err
    assert not [path for path in elsewhere.rglob("*") if path.is_file()]
    assert not (root / "meta.json").exists()


NAMES = [
    "=1+1",
    "+1",
    "-1",
    "@a",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1+1",
    "a\r=1+1",
    "a\n=1",
    'a"\r\n=1,=2',
    "a,=1",
]


def test_no_name_is_a_formula_or_ends_a_row(tmp_path):
    records = [Record(i, name, name, (1, 1), 0.5, name, kinds=((name, 0.1),)) for i, name in enumerate(NAMES)]
    records += [Record(99, "a.png", "nut", error="=1")]
    write_table(tmp_path, records)
    with (tmp_path / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(records) and {len(row) for row in rows} == {11}
    texts = [cell for row in rows[1:] for cell in row]
    assert not [cell for cell in texts if re.match(r"\s*[=+@\uff1d]|\s*-\D|[\t\r\n]", cell)]


def test_a_line_gives_the_terminal_no_orders(capsys):
    def fail():
        raise FileNotFoundError(2, "No such file", "a\x1b]0;owned\x07\udcff\n.png")

    with pytest.raises(SystemExit):
        exit_clearly(fail)
    err = capsys.readouterr().err
    assert err.startswith("error: a?]0;owned?? .png: No such file") and err.count("\n") == 1


def test_a_name_that_is_no_text_is_written_and_printed(made, tmp_path, monkeypatch, capfd):
    _, values = made
    run = tmp_path / "r\udcff"
    status, out, err = call(
        monkeypatch, capfd, tmp_path, "test.py", *flags(**values["test.py"] | {"save_path": run})
    )
    assert (status, err) == (0, "") and "r\\udcff" in out and (run / "results.json").is_file()
    write_json(tmp_path / "x.json", {"a": "\udcff\ud800"})
    assert b'"a": "\\udcff\\ud800"' in (tmp_path / "x.json").read_bytes()


def test_a_header_cannot_ask_for_the_memory_of_a_machine(made, tmp_path, tiny_config):
    from safetensors import safe_open
    from safetensors.torch import load_file

    from filo.checkpoint import load_checkpoint

    source = made[0] / "filo.safetensors"
    with safe_open(source, "pt") as file:
        header = file.metadata()
    for old, new in (
        ('"n_ctx": 2', '"n_ctx": 2000000000'),
        ('"blur_kernel": 3', '"blur_kernel": 2000000001'),
        ("[[1, 1]", "[[99999, 99999]"),
        ("[[1, 1]", "[" + "[1, 1], " * 1000 + "[1, 1]"),
    ):
        assert old in header["config"]
        save_file(
            load_file(source),
            tmp_path / "x.safetensors",
            header | {"config": header["config"].replace(old, new)},
        )
        assert "no more than" in complaint(lambda: load_checkpoint(tmp_path / "x.safetensors"))
