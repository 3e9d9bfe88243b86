"""What the detector said is kept, found again, and never believed when damaged."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

from filo.grounding.boxes import Detection, Thresholds, select
from filo.grounding.cache import BoxCache, open_cache, request_key
from filo.grounding.search import Request, find_boxes
from filo.transforms import open_image
from tests.trees import complaint

DEFAULT = Thresholds()
TOKENS = ("[CLS]", "bent", "pin", ".", "[SEP]")


def an_answer(seed=0):
    rng = np.random.default_rng(seed)
    return Detection(rng.random((6, 4), np.float32), rng.random((6, 5), np.float32), TOKENS)


@pytest.fixture
def cache(tmp_path):
    return open_cache(tmp_path / "cache", "drawn:0", {"hidden_dim": 256}, 64)


def same(one, other):
    return (
        one.tokens == other.tokens
        and np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.probabilities, other.probabilities)
    )


def test_an_answer_comes_back_bit_for_bit(cache):
    assert cache.get("ab12") is None
    cache.put("ab12", an_answer())
    assert same(cache.get("ab12"), an_answer())
    assert cache.get("ab12").boxes.dtype == np.float32
    cache.put("ab12", an_answer(1))
    assert same(cache.get("ab12"), an_answer(1))
    assert not [path for path in cache.folder.rglob("*") if ".tmp" in path.name]


def test_what_a_killed_process_left_half_written_goes_once_nobody_can_be_writing_it(cache):
    cache.put("ab12", an_answer())
    folder = cache.folder / "ab"
    old, new = (folder / f".{'ab' * 32}.npz.{number}.tmp" for number in ("0123abcd", "4567cdef"))
    mine = folder / ".mine.0123abcd.tmp"
    for path in (old, new, mine):
        path.touch()
    for path in (old, mine, folder / "ab12.npz"):  # two days later
        os.utime(path, (path.stat().st_mtime - 2 * 24 * 3600,) * 2)
    BoxCache(cache.folder, cache.about).put("cd12", an_answer())
    assert {path.name for path in folder.iterdir()} == {"ab12.npz", new.name, mine.name}


def test_a_damaged_entry_is_noticed_wherever_the_damage_is(cache):
    cache.put("ab12", an_answer())
    path = next(cache.folder.rglob("*.npz"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert cache.get("ab12") is None
    path.write_bytes(b"")
    assert cache.get("ab12") is None
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        found = cache.get("ab12")
        assert found is None or same(found, an_answer()), place


def test_an_entry_that_executes_code_is_not_read(cache, tmp_path):
    class Probe:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    cache.put("ab12", an_answer())
    path = next(cache.folder.rglob("*.npz"))
    np.savez(path, boxes=np.array([Probe()], dtype=object), probabilities=np.ones(1), tokens=np.array(["a"]))
    assert cache.get("ab12") is None
    assert not (tmp_path / "ran").exists()


def test_a_request_is_known_by_bytes_and_caption_and_not_by_name(tmp_path):
    for name, content in (("a.png", b"one"), ("b.png", b"one"), ("c.png", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (request_key(tmp_path / name, "rust.") for name in ("a.png", "b.png", "c.png"))
    assert a == b != c
    assert a != request_key(tmp_path / "a.png", "dent.")
    assert "gone.png" in complaint(lambda: request_key(tmp_path / "gone.png", "rust."))


def test_a_detector_is_known_by_weights_config_and_side(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"one")
    (tmp_path / "copy.pth").write_bytes(b"one")
    (tmp_path / "x.pth").write_bytes(b"two")

    def folder(weights="w.pth", config="a", side=64):
        return open_cache(tmp_path / "cache", str(tmp_path / weights), {"text": config}, side).folder

    assert folder() == folder("copy.pth")
    assert len({folder(), folder("x.pth"), folder(config="b"), folder(side=128)}) == 4
    assert "none.pth" in complaint(lambda: folder("none.pth"))


def test_without_weights_the_only_detector_that_fits_is_meant(tmp_path):
    root, config = tmp_path / "cache", {"sizes": (1, 2)}
    assert "0 detectors" in complaint(lambda: open_cache(root, None, config, 64))
    one = open_cache(root, "drawn:0", config, 64)
    assert "0 detectors" in complaint(lambda: open_cache(root, None, config, 64))  # it has said nothing yet
    one.put("ab12", an_answer())
    assert open_cache(root, None, config, 64).folder == one.folder
    assert open_cache(root, None, config, 64).about["file"] == "drawn:0"
    open_cache(root, "drawn:0", config, 128).put("ab12", an_answer())
    assert open_cache(root, None, config, 64).folder == one.folder
    open_cache(root, "drawn:1", config, 64).put("ab12", an_answer())
    assert "drawn:0, drawn:1" in complaint(lambda: open_cache(root, None, config, 64))
    (one.folder / "detector.json").write_text("{")
    assert open_cache(root, None, config, 64).about["file"] == "drawn:1"
    open_cache(root, "drawn:0", config, 64).put("cd34", an_answer())  # mends it
    assert "drawn:0, drawn:1" in complaint(lambda: open_cache(root, None, config, 64))


def _write_many(folder):
    cache = BoxCache(folder, {})
    for i in range(60):
        cache.put(f"{i % 5:02d}same", an_answer(i % 5))
        found = cache.get(f"{i % 3:02d}same")
        assert found is None or same(found, an_answer(i % 3))


def test_several_processes_write_the_same_entries_at_once(tmp_path):
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_write_many, args=(tmp_path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    cache = BoxCache(tmp_path, {})
    assert all(same(cache.get(f"{i:02d}same"), an_answer(i)) for i in range(5))
    assert len(list(tmp_path.rglob("*"))) == 5 + 5  # a folder and a file each, nothing left over


def test_a_full_disk_is_one_line_and_leaves_nothing(cache, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert "No space left on device" in complaint(lambda: cache.put("ab12", an_answer()))
    assert not list(cache.folder.rglob("*.npz"))


# ---- a whole dataset


class _Fake:
    """A detector whose answer depends on the picture alone; it remembers how it was called."""

    side = 64

    def __init__(self):
        self.calls = []

    def explain_misfit(self, size):
        return "too thin" if min(size) == 1 else None

    def detect(self, images, phrases):
        assert len({image.size for image in images}) == 1
        self.calls.append((len(images), phrases))
        return [an_answer(image.getpixel((0, 0))[0]) for image in images]


@pytest.fixture
def requests(tmp_path):
    """Seven pictures of two classes and two sizes."""
    found = []
    for i in range(7):
        size = (90, 60) if i in (2, 5) else (60, 60)
        path = tmp_path / f"{i}.png"
        Image.new("RGB", size, (i, 0, 0)).save(path)
        found.append(Request(path, ("dent",) if i < 4 else ("rust", "crack")))
    return found


def find(requests, cache, detector, thresholds=DEFAULT, batch_size=2):
    load = None if detector is None else lambda: detector
    return find_boxes(requests, thresholds, cache, load, open_image, batch_size)


def test_images_go_through_in_batches_of_one_caption_and_one_size(requests, cache):
    fake = _Fake()
    found = find(requests, cache, fake)
    dent, rust = ("dent",), ("rust", "crack")
    assert fake.calls == [(2, dent), (1, dent), (1, dent), (2, rust), (1, rust)]
    assert found.detected == 7
    for i, boxes in enumerate(found.boxes):
        assert np.array_equal(boxes.boxes, select(an_answer(i), Thresholds()).boxes)


def test_a_second_time_the_detector_is_not_even_loaded(requests, cache):
    first = find(requests, cache, _Fake())

    def never():
        raise AssertionError("loaded")

    second = find_boxes(requests, Thresholds(), cache, never, open_image)
    assert second.detected == 0
    for one, other in zip(first.boxes, second.boxes, strict=True):
        assert np.array_equal(one.scores, other.scores) and one.phrases == other.phrases


def test_any_threshold_can_be_asked_for_later(requests, cache):
    find(requests, cache, _Fake())
    for thresholds in (Thresholds(0.9, 0.1, 0.9), Thresholds(0.0, 0.95, 0.01), Thresholds(0.5, 0.0, 1.0)):
        for i, boxes in enumerate(find(requests, cache, None, thresholds).boxes):
            fresh = select(an_answer(i), thresholds)
            assert np.array_equal(boxes.boxes, fresh.boxes) and boxes.phrases == fresh.phrases


def test_only_what_is_missing_or_damaged_is_detected(requests, cache):
    find(requests[:5], cache, _Fake())
    sorted(cache.folder.rglob("*.npz"))[0].write_bytes(b"damaged")
    fake = _Fake()
    assert find(requests, cache, fake).detected == 3
    assert sum(count for count, _ in fake.calls) == 3


def test_without_permission_what_is_missing_is_named(requests, cache):
    find(requests[:5], cache, _Fake())
    message = complaint(lambda: find(requests, cache, None))
    assert "2 of 7 images" in message and "5.png" in message and "--detector groundingdino" in message


def test_the_same_picture_twice_is_detected_once(requests, cache, tmp_path):
    (tmp_path / "again.png").write_bytes(requests[0].image.read_bytes())
    twice = [requests[0], Request(tmp_path / "again.png", requests[0].phrases), requests[0]]
    found = find(twice, cache, _Fake())
    assert found.detected == 1 and len(found.boxes) == 3


def test_a_broken_picture_is_named_and_what_was_detected_before_is_kept(requests, cache):
    requests[6].image.write_bytes(b"no picture")
    assert "6.png" in complaint(lambda: find(requests, cache, _Fake()))
    requests[6].image.unlink()
    assert len(list(cache.folder.rglob("*.npz"))) >= 4
    assert find(requests[:4], cache, None).detected == 0


def test_where_sizes_are_many_few_pictures_wait_for_their_like(tmp_path, cache):
    requests = []
    for i in range(60):
        Image.new("RGB", (60 + 2 * i, 60), (i, 0, 0)).save(tmp_path / f"{i}.png")
        requests.append(Request(tmp_path / f"{i}.png", ("dent",)))
    fake, waiting = _Fake(), []
    detect = fake.detect
    fake.detect = lambda images, phrases: waiting.append(len(opened)) or detect(images, phrases)
    opened = []

    def open_and_count(path):
        opened.append(path)
        return open_image(path)

    found = find_boxes(requests, DEFAULT, cache, lambda: fake, open_and_count, batch_size=8)
    assert found.detected == 60 and waiting[0] <= 2 * 16 + 1
    pairs = enumerate(found.boxes)
    assert all(np.array_equal(b.boxes, select(an_answer(i), DEFAULT).boxes) for i, b in pairs)


def test_a_picture_that_the_detector_cannot_look_at_is_named(tmp_path, cache):
    Image.new("RGB", (50, 1)).save(tmp_path / "strip.png")
    message = complaint(lambda: find([Request(tmp_path / "strip.png", ("dent",))], cache, _Fake()))
    assert message.endswith("strip.png: too thin")


def test_what_detector_it_was_stands_beside_the_answers(cache):
    cache.put("ab12", an_answer())
    about = json.loads((cache.folder / "detector.json").read_text())
    assert about["weights"] == "drawn:0" and about["side"] == 64 and about["config"] == {"hidden_dim": 256}
