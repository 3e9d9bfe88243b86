"""Whatever stands in a file or on a command line: an answer or one line, soon, and nothing elsewhere."""

import argparse
import io
import json
import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from filo import transforms
from filo.checkpoint import load_checkpoint
from filo.errors import ImageError, InputError
from filo.files import readable
from filo.meta import read_meta
from filo.methods.filo import FiLoModel
from filo.metrics import COLUMNS
from filo.overview import footnotes, format_lines, read_lines
from filo.prompts import PromptBook
from filo.records import read_records
from filo.resume import say_where
from filo.state import (
    Position,
    State,
    generator_states,
    going_on_from,
    read_state,
    require_reachable,
    write_state,
)
from filo.transforms import image_size, open_image, open_mask
from tests.commands import ROOT, flags
from tests.hostile import call, make_flags
from tests.trees import make_root, put, row

LONGEST = 60  # seconds for one example, and for a hundred: guards against hangs, on a busy machine too


def bounded(examples):
    """Always the same examples, so many of them; none may hang."""
    checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
    kinds = {"derandomize": True, "database": None, "suppress_health_check": checks}
    return settings(max_examples=examples, deadline=timedelta(seconds=LONGEST), **kinds)


@pytest.fixture(autouse=True)
def impatient():
    """End a test that hangs: a deadline alone waits for the end of an example."""

    def give_up(*_):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10 * LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def answer_or_line(call, *seen):
    """Give what a call returns, None for an `InputError`, which must be one line that names what was seen."""
    try:
        return call()
    except InputError as error:
        message = " ".join(str(error).split())
        assert len(message) < 20_000 and all(str(each) in message for each in seen), message[:300]
        return None


HOSTILE = [
    "",
    " ",
    "..",
    "../outside.png",
    "nut/../../outside.png",
    "/etc/passwd",
    "C:\\x.png",
    "\\\\host\\x.png",
    "nut/link.png",
    "nut/ring.png",
    "nut",
    "\0",
    "n" * 5000,
    "\ud800",
    "\udcff",
    "{0.__class__}",
    "{class.__init__.__globals__}",
    "{class}{description}",
    "%s%n",
    "=cmd()",
    "<script>x</script>",
    "\x1b]0;x\x07",
    "'; rm -rf /",
    "a\r\nb",
]
NUMBERS = [0, 1, -1, 2, 3, 10**9, -(10**9), 2**63, 10**400, True, 0.5, 1e308, float("nan"), float("inf")]
texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=()), max_size=20)
atoms = st.none() | texts | st.sampled_from(NUMBERS) | st.integers() | st.floats()
anything = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def places(content, path=()):
    """Give the way to everything within a JSON value."""
    yield path
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield from places(content[key], (*path, key))


@st.composite
def changed(draw, content):
    """A JSON value with one or two places changed to anything."""
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(content))))
        content = put(content, path, draw(anything))
    return content


def fuzzed(content):
    """A JSON file's bytes: that value changed, something else, or the file damaged."""
    whole = json.dumps(content).encode()
    as_text = changed(content).map(lambda value: json.dumps(value).encode())
    return as_text | as_text | anything.map(lambda value: json.dumps(value).encode()) | damaged(whole)


@st.composite
def damaged(draw, whole, within=None):
    """Bytes with a few changed, or cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, min(within or len(whole), len(whole)) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.none() | st.integers(0, len(whole)))])


# ---- meta.json


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("fuzz") / "data", {"nut": ["good", "crack"], "bolt": ["bent"]})
    (root.parent / "outside.png").write_bytes(b"secret")
    (root / "nut" / "link.png").symlink_to(root.parent / "outside.png")
    (root / "nut" / "ring.png").symlink_to("ring.png")
    return root


META = {"test": {"nut": [row("nut", "good", 0), row("nut", "crack", 1)]}}


@bounded(150)
@given(content=fuzzed(META))
def test_meta_json(root, content):
    (root / "meta.json").write_bytes(content)
    meta = answer_or_line(lambda: read_meta(root, "test"), root / "meta.json")
    for entry in meta.entries if meta else ():
        for path in filter(None, (entry.image, entry.mask)):
            assert path.is_file() and path.resolve().is_relative_to(root.resolve())


@bounded(60)
@given(name=texts)
def test_a_path_in_meta_json_stays_within(root, name):
    content = put(META, ("test", "nut", 0, "img_path"), name)
    (root / "meta.json").write_text(json.dumps(content))
    meta = answer_or_line(lambda: read_meta(root, "test"), root / "meta.json")
    assert meta is None or meta.entries[0].image.resolve().is_relative_to(root.resolve())


# ---- prompt files


PROMPTS = {
    "dataset": "parts",
    "sources": {"me": "by hand"},
    "classes": {
        "nut": {"name": "hex nut", "descriptions": [{"text": "rust", "source": "me"}]},
        "bolt": {"name": "bolt", "descriptions": [], "official_descriptions_of": "nut"},
    },
}


@bounded(120)
@given(content=fuzzed(PROMPTS))
def test_prompt_files(tmp_path, tiny_clip, content):
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    book = answer_or_line(lambda: PromptBook([path]), path)
    for name, prompt in book.classes.items() if book else ():
        texts = answer_or_line(lambda name=name: book.texts([name], "official", True))
        if texts is not None:
            assert all(prompt.name in text for text in texts[name].normal)
            answer_or_line(lambda texts=texts, name=name: tiny_clip.text.tokenize(texts[name].abnormal, 2))


@bounded(60)
@given(name=texts, description=texts.filter(str.strip))
def test_what_a_prompt_file_says_is_text_and_nothing_else(tmp_path, tiny_clip, name, description):
    path = tmp_path / "prompts.json"
    classes = {"nut": {"name": name, "descriptions": [{"text": description}]}}
    path.write_text(json.dumps({"classes": classes}))
    texts = PromptBook([path]).texts(["nut"], "official", False)["nut"]
    assert texts.normal[0] == f"{name}." and texts.kinds == (description,)
    assert texts.abnormal[0] == f"abnormal {name} with {description} at top left."
    answer_or_line(lambda: tiny_clip.text.tokenize(texts.abnormal, 2))


# ---- images


def encoded(kind, mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
IMAGES = {
    "png": encoded("PNG", exif=EXIF),
    "palette": encoded("PNG", "P", transparency=3),
    "jpeg": encoded("JPEG", exif=EXIF),
    "progressive": encoded("JPEG", progressive=True),
    "gif": encoded("GIF", "P"),
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "lzw": encoded("TIFF", compression="tiff_lzw"),
    "jpeg in tiff": encoded("TIFF", compression="jpeg"),
    "webp": encoded("WEBP"),
    "jp2": encoded("JPEG2000"),
    "ppm": encoded("PPM"),
    "pgm": b"P2\n# plain\n4 3\n255\n" + b"1 2 3 4\n" * 3,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", IMAGES)
def test_images(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(transforms, "LARGEST", 10**6)
    path = tmp_path / "image.png"

    @bounded(40)
    @given(content=damaged(IMAGES[kind], within=150) | damaged(IMAGES[kind]))
    def check(content):
        path.write_bytes(content)
        started = time.perf_counter()
        for use in (open_image, image_size, lambda path: open_mask(path, (30, 20))):
            with suppress(ImageError):
                seen = use(path)
                size = seen if isinstance(seen, tuple) else seen.size
                assert size[0] * size[1] <= 10**6
        assert time.perf_counter() - started < LONGEST

    check()


# ---- checkpoints


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("made")
    return folder, make_flags(folder, tiny_config)


@pytest.fixture(scope="module")
def parts(made):
    path = made[0] / "filo.safetensors"
    with safe_open(path, "pt") as file:
        header = {
            name: json.loads(text) if text[0] == "{" else text for name, text in file.metadata().items()
        }
    return header, load_file(path)


def test_checkpoint_headers(tmp_path, parts, tiny_clip):
    (header, state), path = parts, tmp_path / "filo.safetensors"

    @bounded(120)
    @given(values=changed(header))
    def check(values):
        texts = values if isinstance(values, dict) else {}
        texts = {readable(Path(name)).replace("\0", ""): json.dumps(value) for name, value in texts.items()}
        save_file(state, path, {"format": "filo-checkpoint-1"} | texts)
        found = answer_or_line(lambda: load_checkpoint(path), path)
        if found is not None:  # then a model of that kind is made, or refused
            assert asdict(found.config)
            answer_or_line(lambda: FiLoModel(tiny_clip, found.config, {}).load_trained_state(found.state))

    check()


@pytest.mark.filterwarnings("ignore")
def test_damaged_checkpoints(tmp_path, parts, made):
    whole = (made[0] / "filo.safetensors").read_bytes()
    torch.save({"filo": {"a": torch.ones(3)}}, tmp_path / "other.pth")
    forms = {"a.safetensors": whole, "a.pth": (tmp_path / "other.pth").read_bytes()}

    @bounded(120)
    @given(data=st.data(), name=st.sampled_from(sorted(forms)))
    def check(data, name):
        (tmp_path / name).write_bytes(data.draw(damaged(forms[name], within=2000)))
        answer_or_line(lambda: load_checkpoint(tmp_path / name), tmp_path / name)

    check()


# ---- states of unfinished trainings


STAGES, COUNT = (2, 1), 6


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    log = [{"stage": 1, "epoch": 1, "loss": 0.5, "seconds": 2.5}]
    parts = {"w": torch.ones(3)}, {0: {"step": torch.ones(())}}, generator_states(torch.device("cpu"))
    write_state(path, State({"--seed": 0}, {"packages": {}}, Position(1, 2, 2, 0.5, 1.5), log, 0, *parts))
    with safe_open(path, "pt") as file:
        return path.read_bytes(), load_file(path), file.metadata()


def find_place(path):
    """Give where a training of `STAGES` over `COUNT` images goes on."""
    found = read_state(path)
    with going_on_from(path):
        require_reachable(found, STAGES, COUNT, 2)
    say_where("it", found.environment, {"packages": {"torch": "1"}})
    return found.position


def test_state_headers(tmp_path, unfinished):
    (_, tensors, header), path = unfinished, tmp_path / "state.safetensors"

    @bounded(100)
    @given(about=changed(json.loads(header["about"])))
    def check(about):
        save_file(tensors, path, header | {"about": json.dumps(about)})
        place = answer_or_line(lambda: find_place(path), path)
        assert place is None or (place.stage, place.epoch, place.images % 2) == (1, 2, 0)
        assert place is None or (0 < place.images <= COUNT and math.isfinite(place.loss + place.seconds))

    check()


def test_damaged_states(tmp_path, unfinished):
    path = tmp_path / "state.safetensors"

    @bounded(60)
    @given(content=damaged(unfinished[0], within=2000))
    def check(content):
        path.write_bytes(content)
        answer_or_line(lambda: find_place(path), path)

    check()


# ---- records of a run


RECORD = {"index": 0, "image": "a.png", "class_name": "nut", "size": [4, 3], "score": 0.5, "position": "left"}
RECORD |= {"normal_similarity": 0.1, "kinds": [["rust", 0.2]], "boxes": [], "label": 1, "kind": "crack"}


@bounded(120)
@given(content=fuzzed(RECORD))
def test_records(tmp_path, content):
    whole = json.dumps(RECORD | {"index": 1}).encode()
    (tmp_path / "predictions.jsonl").write_bytes(whole + b"\n" + content.replace(b"\n", b" ") + b"\n")
    records = answer_or_line(lambda: read_records(tmp_path), tmp_path / "predictions.jsonl")
    assert records is None or {type(record.index) for record in records} == {int}


# ---- results of a test


RESULTS = {"arguments": {"dataset": "mvtec"}, "classes": {"nut": {}, "bottle": {}}, "method": "anomalyclip"}
RESULTS |= {"trained": {"dataset": "btad"}, "mean": dict.fromkeys(COLUMNS, 0.5)}


@bounded(120)
@given(content=fuzzed(RESULTS))
def test_results(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    lines = answer_or_line(lambda: read_lines([str(tmp_path)]), tmp_path / "results.json")
    assert lines is None or all(note.isprintable() for note in [*footnotes(lines), lines[0].dataset])
    assert lines is None or format_lines(lines).count("\n") == 2  # head, rule, the set


# ---- command lines


COMMANDS = {
    "train.py": (),
    "test.py": (),
    "filo/predict.py": ("data/nut/0.png",),
    "filo/report/__main__.py": ("run",),
    "filo/calibrate.py": ("run",),
    "filo/compare.py": ("run",),
    "filo/overview.py": ("run",),
    "filo/checkpoint.py": ("inspect", "filo.safetensors"),
    "filo/grounding/annotations.py": (
        "--meta",
        "data/meta.json",
        "--out",
        "boxes",
        "--prompts",
        "prompts.json",
    ),
    "data/folder.py": ("--root", "data"),
    "data/mvtec.py": ("--root", "data"),
}
VALUES = [
    *("", " ", "-1", "0", "nan", "-inf", "1e400", "9" * 400, str(2**63), "0x10", "1_0", "\u0661"),
    *("n" * 300, "\udcff", "..", "/dev/null", "/dev/full", "no/such/file", "data", "data/meta.json"),
    *("{0.__class__}", "$(touch ran)", "`touch ran`", "=1+1", "a=b", "\x1b[2J", "drawn:", "drawn:-1"),
    *("cuda:99", "cpu:7", "filo.safetensors"),
]
values = st.sampled_from(VALUES) | st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=12
)


class _Parsed(Exception):
    pass


def options_of(script, monkeypatch, capfd, folder):
    """Give the flags of a command, from its own parser."""
    found = []

    def keep(parser, *_):
        found.extend(action.option_strings[0] for action in parser._actions if action.option_strings)
        raise _Parsed

    with monkeypatch.context() as patched, pytest.raises(_Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_args", keep)
        call(patched, capfd, folder, script)
    return [name for name in found if name != "-h"] or ["--features_list"]  # of a command within


@pytest.mark.parametrize("script", COMMANDS)
def test_command_lines(script, made, tiny_config, tmp_path_factory, monkeypatch, capfd):
    folder = tmp_path_factory.mktemp("sandbox") / "a" / "b"
    folder.mkdir(parents=True)
    make_flags(folder, tiny_config)
    (folder / "data" / "nut" / "0.png").write_bytes(b"no image")  # so that nothing takes long
    before = {path for path in (ROOT, folder.parents[2]) for path in path.iterdir()}
    names = options_of(script, monkeypatch, capfd, folder)
    given_flags = flags(**made[1][script]) if script in made[1] else []
    monkeypatch.setattr(transforms, "LARGEST", transforms.LARGEST)

    @bounded(10)
    @given(pairs=st.lists(st.tuples(st.sampled_from(names), values), min_size=1, max_size=2))
    def check(pairs):
        more = [word for pair in pairs for word in pair]
        base = [word.replace(str(made[0]), str(folder)) for word in given_flags]
        status, _, err = call(monkeypatch, capfd, folder, script, *COMMANDS[script], *base, *more)
        assert status in (0, 1, 2) and "Traceback" not in err, err
        assert status != 2 or "error: " in err or "failed: " in err, err

    check()
    assert {path for path in (ROOT, folder.parents[2]) for path in path.iterdir()} - before <= {
        ROOT / "__pycache__"
    }
    assert not list(folder.rglob("ran")) and not os.path.exists("/dev/null.json")
