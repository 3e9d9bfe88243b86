"""test.py with a detector: run once, then from disk; its thresholds; parts switched off."""

import json

import pytest

from tests.commands import flags, run


@pytest.fixture
def test(test_flags, tmp_path, monkeypatch, capfd):
    """Run test.py with some flags changed, give what it wrote and printed."""

    def test(name, **changes):
        values = test_flags | {"save_path": tmp_path / name} | changes
        status, out, err = run(monkeypatch, capfd, "test.py", *flags(**values))
        results = tmp_path / name / "results.json"
        return status, json.loads(results.read_text()) if status == 0 else None, out, err

    return test


def test_the_detector_runs_once_and_then_never(test, grounding, monkeypatch):
    status, first, out, _ = test("first", **grounding, batch_size=3)
    assert status == 0 and "60 of them run through the detector" in out
    assert first["detector"]["kind"] == "groundingdino" and first["detector"]["detected"] == 60
    assert first["detector"]["thresholds"] == {"box": 0.9, "text": 0.85, "area": 0.7}
    assert len(first["detector"]["weights"]) == 64

    def never(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr("filo.grounding.load.load_detector", never)
    for name, changes in {
        "second": grounding,
        "cached": grounding | {"detector": "cached"},
        "without weights": grounding | {"detector": "cached", "grounded_checkpoint": None},
    }.items():
        status, again, out, err = test(name, **{k: v for k, v in changes.items() if v is not None})
        assert status == 0, err
        assert again["detector"]["detected"] == 0 and again["mean"] == pytest.approx(first["mean"], abs=2e-3)


def test_thresholds_can_be_changed_afterwards_and_change_the_numbers(test, grounding):
    means = []
    for box in (0.5, 0.95, 0.999):
        status, results, _, err = test(str(box), **grounding | {"box_threshold": box})
        assert status == 0, err
        means.append(results["mean"]["auroc_px"])
    assert len(set(means)) == 3


def test_boxes_change_maps_and_positions_and_can_be_left_out(test, grounding):
    none = test("none", detector="none")[1]["mean"]
    boxed = test("boxed", **grounding)[1]["mean"]
    both = test("both", **grounding, without=["grounding", "position"])[1]["mean"]
    grounded = test("grounded", **grounding, without=["position"])[1]["mean"]
    assert both == pytest.approx(none, abs=1e-6)
    assert boxed["auroc_px"] != none["auroc_px"] and grounded["auroc_px"] != none["auroc_px"]
    assert boxed["auroc_sp"] != grounded["auroc_sp"] == none["auroc_sp"]


def test_cached_refuses_to_detect(test, grounding, tmp_path):
    status, _, _, err = test("cached", **grounding | {"detector": "cached", "cache_dir": tmp_path / "empty"})
    assert status == 2 and "60 of 60 images have no boxes" in err and err.count("\n") == 1


def test_a_detector_needs_weights(test):
    status, _, _, err = test("detector", detector="groundingdino")
    assert status == 2 and "--grounded_checkpoint" in err and err.count("\n") == 1


def test_a_filo_checkpoint_as_detector_and_the_reverse_are_told_apart(test, grounding, test_flags):
    mixed = grounding | {"grounded_checkpoint": test_flags["ckpt_path"]}
    status, _, _, err = test("reverse", **mixed)
    assert status == 2 and "--ckpt_path" in err and err.count("\n") == 1
    status, _, _, err = test("reverse", ckpt_path=grounding["grounded_checkpoint"])
    assert status == 2 and "--grounded_checkpoint" in err and err.count("\n") == 1


def test_flags_of_a_detector_have_no_effect_without_one_and_that_is_said(test):
    status, _, _, err = test("none", detector="none", box_threshold=0.3, bert="vocab.txt")
    assert status == 0 and err == "note: without a detector --bert, --box_threshold have no effect\n"
    status, _, _, err = test("none", without=["position"])
    assert status == 0 and err == "note: without a detector --without position have no effect\n"


def test_an_empty_name_of_weights_is_no_wish_to_go_without(test):
    status, _, _, err = test("empty", grounded_checkpoint="")
    assert status == 2 and "--grounded_checkpoint is empty" in err


def test_where_boxes_mean_nothing_none_are_looked_for(test, grounding):
    parts = {"without": ["grounding", "position"], "cache_dir": grounding["cache_dir"].with_name("unused")}
    status, results, out, _ = test("nothing", **grounding | parts)
    assert status == 0 and "none are looked for" in out and results["detector"] == {"kind": "none"}
    assert not parts["cache_dir"].exists()


def test_a_wrong_clip_is_said_before_the_detector_runs_and_old_results_stay(test, grounding, tmp_path):
    assert test("same", **grounding)[0] == 0
    fresh = {"cache_dir": tmp_path / "fresh", "clip_pretrained": "nope.pt"}
    assert test("same", **grounding | fresh)[0] == 2
    assert (tmp_path / "same" / "table.md").exists() and not fresh["cache_dir"].exists()


def test_parts_of_the_method_can_be_switched_off(test, test_flags):
    whole = test("whole")[1]
    seen = {json.dumps(whole["mean"])}
    for part in ("shapes", "scales", "descriptions", "template"):
        status, results, _, err = test(part, without=[part])
        assert status == 0, err
        seen.add(json.dumps(results["mean"]))
    assert len(seen) == 5
    assert results["config"]["learned_template"] is False and results["preset"] == "official"


def test_what_was_trained_without_is_tested_without(test, train_flags, tmp_path, monkeypatch, capfd):
    run_flags = train_flags | {"save_path": tmp_path / "run", "without": ["template", "shapes", "scales"]}
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**run_flags))
    assert status == 0, err
    status, results, _, err = test("test", ckpt_path=tmp_path / "run" / "filo.safetensors")
    assert status == 0, err
    assert results["config"]["mmci_shapes"] == [] and results["config"]["learned_template"] is False
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**run_flags | {"without": ["position"]}))
    assert status == 2 and "position" in err
