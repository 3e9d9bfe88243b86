"""FiLo.load(...).predict(...): what goes in, what comes out, and that it is what test.py says."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import filo
from filo.decisions import Decision, Decisions, decisions_path, of_class, write_decisions
from filo.errors import ImageError, InputError
from filo.grounding.boxes import Thresholds
from filo.localise import Choice
from filo.plots import Scale, with_bar
from filo.predictor import FiLo
from filo.records import read_records
from tests.commands import flags, run
from tests.trees import complaint

PROMPTS = ["prompts/demo_mvtec.json"]


@pytest.fixture(scope="module")
def model(trained):
    return FiLo.load(trained / "filo.safetensors", prompts=PROMPTS, device="cpu")


@pytest.fixture(scope="module")
def images(data):
    return sorted((data["mvtec"] / "wood" / "test").rglob("*.png"))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(one, other, rel=1e-5):
    assert one.score == pytest.approx(other.score, rel=rel, abs=1e-6)
    np.testing.assert_allclose(one.square_map, other.square_map, atol=1e-5)
    assert one.position == other.position and dict(one.kinds) == pytest.approx(dict(other.kinds), abs=2e-6)
    assert one.boxes == other.boxes


def test_the_public_name_is_this_class():
    assert filo.FiLo is FiLo


def test_one_image_gives_one_result_and_a_list_a_list(model, images):
    one = model.predict(images[0], "wood")
    assert one.class_name == "wood" and one.normal_similarity != 0
    several = model.predict([str(images[0])], "wood")
    assert isinstance(several, list) and len(several) == 1
    same(one, several[0])
    assert model.predict([], "wood") == [] and len(model.predict(tuple(images[:2]), "wood")) == 2


def test_a_batch_gives_what_its_images_give_one_by_one(model, images):
    for one, other in zip(model.predict(images, "wood", batch_size=4), images, strict=True):
        same(one, model.predict(other, "wood"))


def test_every_form_of_an_image_gives_the_same(model, tmp_path):
    pixels = noise(30, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [tmp_path / "a.png", Image.fromarray(pixels), pixels, tensor, tensor / 255]
    first, *others = model.predict(forms, "wood")
    for other in others:
        same(first, other)


@pytest.mark.parametrize(("height", "width"), [(30, 50), (1, 1), (3, 500), (56, 56)])
def test_maps_have_the_size_of_the_image(model, height, width):
    result = model.predict(noise(height, width), "wood")
    assert result.anomaly_map.shape == (height, width) and result.size == (width, height)
    assert result.anomaly_map.dtype == np.float32
    assert 0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= 1
    if (height, width) == (56, 56):
        np.testing.assert_array_equal(result.anomaly_map, result.square_map)


def test_a_photo_taken_sideways_is_looked_at_upright(model, tmp_path):
    pixels = noise(32, 48)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels.swapaxes(0, 1)[:, ::-1]).save(tmp_path / "upright.png")
    turned, upright = model.predict([tmp_path / "turned.png", tmp_path / "upright.png"], "wood")
    assert turned.anomaly_map.shape == (48, 32) and turned.heatmap().height > turned.heatmap().width
    same(turned, upright)


def test_kinds_are_the_class_s_own_the_most_likely_first(model, images):
    kinds = model.predict(images[0], "wood").kinds
    with open(PROMPTS[0], encoding="utf-8") as file:
        written = json.load(file)["classes"]["wood"]["descriptions"]
    assert sorted(name for name, _ in kinds) == sorted(each["text"] for each in written)
    assert [value for _, value in kinds] == sorted((value for _, value in kinds), reverse=True)


def test_a_class_nobody_described_works_and_says_so_once(model, images, capfd):
    first = model.predict(images[0], "left handed widget")
    model.predict(images[0], "left_handed_widget")
    err = capfd.readouterr().err
    assert err.count("nobody described the class 'left handed widget'") == 1 and err.count("\n") == 1
    assert first.kinds == () and first.position and np.isfinite(first.score)
    assert first.score != model.predict(images[0], "wood").score


def test_the_file_that_describes_a_class_is_said_once_where_nobody_named_it(trained, capfd):
    model = FiLo.load(trained / "filo.safetensors", prompts=PROMPTS, device="cpu")
    for name in ("tile", "Tile", "wood"):
        model.know(name)
    assert capfd.readouterr().err == "note: class tile: described in prompts/mvtec.json\n"


def test_a_class_name_that_does_not_fit_is_refused_before_anything_is_looked_at(model, capfd):
    message = complaint(lambda: model.know("very " * 80 + "long bracket"))
    assert "is too long (412 characters)" in message and "use fewer words" in message and len(message) < 300
    assert capfd.readouterr().err == "" and complaint(lambda: model.know("very " * 80 + "long bracket"))


@pytest.mark.parametrize("name", [None, "", "  ", 7])
def test_without_a_class_nothing_is_said(model, images, name):
    assert "class" in complaint(lambda: model.predict(images[0], name))


def test_a_bad_image_is_named(model, images, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png cannot be read as an image \(it is empty"):
        model.predict([images[0], tmp_path / "empty.png"], "wood")
    with pytest.raises(ImageError, match=r"images\[1\]: .*nan"):
        model.predict([images[0], torch.full((3, 4, 4), torch.nan)], "wood")
    with pytest.raises(InputError, match="batch_size 0"):
        model.predict([images[0]], "wood", batch_size=0)


def test_paths_are_not_held_in_memory_and_can_be_drawn_later(model, images):
    results = model.predict(images[:3], "wood")
    assert all(result.picture._image is None for result in results)
    assert results[0].heatmap().size[0] > 64


def test_a_heatmap_says_the_verdict_and_is_as_large_as_wanted(model):
    result = model.predict(noise(100, 300), "wood")
    plain, said, small = (
        result.heatmap(**given) for given in ({"with_verdict": False}, {}, {"longest_side": 150})
    )
    assert plain.width == said.width > 300 and said.height > plain.height > 100
    assert 150 < small.width < 225 and result.heatmap(5000) == said
    picture = Image.new("RGB", (150, 50))
    assert small.width == with_bar(picture, result.scale).width


def test_weights_that_are_damaged_are_said_so(model, images, monkeypatch):
    monkeypatch.setattr(model.model, "image_scores", lambda *_: torch.tensor([torch.nan]))
    with pytest.raises(ImageError, match="not finite"):
        model.predict(images[0], "wood")


def test_load_refuses_what_it_does_not_know(trained):
    assert "precision 'fp64'" in complaint(lambda: FiLo.load(trained / "filo.safetensors", precision="fp64"))
    assert "no such checkpoint" in complaint(lambda: FiLo.load(trained / "none.safetensors"))


def test_load_turns_rounded_convolutions_off(trained, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    FiLo.load(trained / "filo.safetensors", device="cpu")
    assert not torch.backends.cudnn.allow_tf32


# decisions


def decided(model, path, threshold, **changes):
    """Keep a threshold for wood, with some of its settings changed."""
    scoring = model.scoring(["wood"])
    settings = of_class(scoring, "wood") | changes
    decision = Decision(threshold, "f1", None, 2, 2, {}, {}, "2026-11-22", settings)
    return Decisions(path, {"wood": decision}, Scale(0.2, 0.8, "by hand"), of_class(scoring, None))


@pytest.fixture
def fresh(trained, tmp_path):
    """A checkpoint with nothing beside it."""
    return shutil.copy(trained / "filo.safetensors", tmp_path / "filo.safetensors")


def test_without_thresholds_there_is_no_decision_and_that_is_explained(model, images):
    result = model.predict(images[0], "wood")
    assert result.threshold is None and result.is_anomalous is None
    assert "filo.decisions.json is not there" in result.undecided and result.scale.high == 1
    assert "anomalous" not in result.verdict


def test_a_threshold_beside_the_checkpoint_decides(model, images, fresh):
    path = decisions_path(tmp := fresh.__class__(fresh))
    score = model.predict(images[0], "wood").score
    for threshold, verdict in ((score, True), (np.nextafter(score, 2), False)):
        write_decisions(decided(model, path, float(threshold)))
        result = FiLo.load(tmp, prompts=PROMPTS, device="cpu").predict(images[0], "wood")
        assert result.is_anomalous is verdict and result.undecided == ""
        assert result.scale == Scale(0.2, 0.8, "by hand")
    assert result.verdict.endswith("normal")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checkpoint": "0" * 64}, "is for another checkpoint"),
        ({"image_size": 70}, "is for image_size 70, not 56"),
        ({"precision": "bf16"}, "is for precision bf16, not fp32"),
        ({"without": ["position"]}, "is for without [position], not []"),
        ({"detector": {"identity": "abc"}}, "is for detector {identity: abc}, not none"),
        ({"texts": "0" * 64}, "is for other texts of the class"),
    ],
)
def test_a_threshold_made_otherwise_is_not_used(model, images, tmp_path, monkeypatch, changes, reason):
    monkeypatch.setattr(model, "decisions", decided(model, tmp_path / "d.json", 0.1, **changes))
    result = model.predict(images[0], "wood")
    assert result.is_anomalous is None and reason in result.undecided


def test_another_class_has_no_threshold_and_a_scale_made_otherwise_is_not_used(
    model, images, tmp_path, monkeypatch
):
    made = decided(model, tmp_path / "d.json", 0.1)
    monkeypatch.setattr(model, "decisions", replace(made, scale_settings={"image_size": 3}))
    result = model.predict(images[0], "fabric")
    assert "for wood only" in result.undecided and result.scale.origin == "the range a map can take"


# the same as test.py


@pytest.fixture
def judge(test_flags, wood, monkeypatch, capfd):
    """Let test.py look at the wood; give its records."""

    def judge(**changes):
        values = test_flags | {"data_path": wood} | changes
        assert run(monkeypatch, capfd, "test.py", *flags(**values))[0] == 0
        return read_records(values["save_path"])

    return judge


def test_predictions_are_those_of_test_py(model, wood, judge):
    records = judge()
    agree(model.predict([wood / record.image for record in records], "wood", batch_size=3), records)


def agree(results, records):
    for result, record in zip(results, records, strict=True):
        assert result.score == pytest.approx(record.score, rel=1e-5, abs=1e-6)
        assert (result.position, result.size) == (record.position, record.size)
        assert dict(result.kinds) == pytest.approx(dict(record.kinds), abs=2e-6)
        assert len(result.boxes) == len(record.boxes)
        for box, other in zip(result.boxes, record.boxes, strict=True):
            assert box["corners"] == pytest.approx(other["corners"], abs=0.11)
            assert box["phrase"] == other["phrase"]


def choice(grounding, **changes):
    names = ("grounded_checkpoint", "groundingdino_config", "bert")
    weights, config, bert = (grounding[name] for name in names)
    thresholds = Thresholds(grounding["box_threshold"], grounding["text_threshold"])
    made = Choice("groundingdino", str(weights), config, bert, thresholds, grounding["cache_dir"] / "boxes")
    return replace(made, **changes)


def test_with_a_detector_too_predictions_are_those_of_test_py(trained, wood, judge, grounding, tmp_path):
    records = judge(**grounding)
    detector = choice(grounding, folder=tmp_path / "fresh")
    model = FiLo.load(trained / "filo.safetensors", prompts=PROMPTS, detector=detector, device="cpu")
    paths = [wood / record.image for record in records]
    results = model.predict(paths, "wood", batch_size=3)
    agree(results, records)
    assert model.localiser.detected == len(paths) and any(result.boxes for result in results)
    agree(model.predict([Image.open(path) for path in paths], "wood"), records)
    assert model.localiser.detected == 2 * len(paths)  # what is in memory is not kept
    model.predict(paths[0], "wood")
    assert model.localiser.detected == 2 * len(paths)
    result = model.predict([paths[1], noise(40, 90)], "wood")[1]
    assert all(0 <= c <= 90 for box in result.boxes for c in box["corners"])


def test_a_detector_that_may_not_run_is_asked_for_paths(trained, data, grounding, images):
    detector = choice(grounding, kind="cached")
    model = FiLo.load(trained / "filo.safetensors", prompts=PROMPTS, detector=detector, device="cpu")
    assert "give its path" in complaint(lambda: model.predict(noise(40, 40), "wood"))


def test_an_image_too_thin_for_the_detector_is_named(trained, grounding, tmp_path):
    model = FiLo.load(trained / "filo.safetensors", prompts=PROMPTS, detector=choice(grounding), device="cpu")
    with pytest.raises(ImageError, match=r"the image: .*too thin"):
        model.predict(noise(1, 3000), "wood")
    Image.fromarray(noise(1, 3000)).save(tmp_path / "thin.png")
    with pytest.raises(ImageError, match=r"thin\.png: .*too thin"):
        model.predict(tmp_path / "thin.png", "wood")
