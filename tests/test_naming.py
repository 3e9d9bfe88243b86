"""What is meant by the name of a class."""

import json
import re
from dataclasses import replace

import pytest

from filo import naming
from filo.methods.filo_config import PRESETS
from filo.naming import find_class
from filo.prompts import FOLDER, PromptBook
from tests.trees import complaint

CONFIG = PRESETS["official"]


def write(path, **classes):
    content = {
        key: {"name": name, "descriptions": [{"text": text} for text in texts]}
        for key, (name, *texts) in classes.items()
    }
    path.write_text(json.dumps({"classes": content}))
    return path


def own(path, name, config=CONFIG):
    """The texts that test.py uses for a class of a file."""
    quirks = (config.templates, config.share_descriptions_by_name, config.described)
    return PromptBook([path]).texts([name], *quirks, not config.learned_template)[name]


@pytest.mark.parametrize("name", ["metal_nut", "metal nut", " Metal  Nut "])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_class_is_known_by_its_key_and_as_it_is_spoken(name, preset):
    found = find_class(name, (), PRESETS[preset])
    assert found.name == "metal_nut" and found.note == ""
    assert found.texts == own(FOLDER / "mvtec.json", "metal_nut", PRESETS[preset])
    assert found.origin == (FOLDER / "templates.json", FOLDER / "mvtec.json")


def test_a_spoken_name_leads_to_its_key():
    assert find_class("Printed circuit board", (), CONFIG).name == "deep_pcb"


def test_a_key_counts_more_than_a_spoken_name(tmp_path):
    path = write(tmp_path / "own.json", nut=("bolt", "a crack"), bolt=("nut", "a dent"))
    assert find_class("nut", [path], CONFIG).name == "nut"


def test_prompts_that_are_given_come_before_the_folder(tmp_path):
    path = write(tmp_path / "own.json", bracket=("metal bracket", "a torn edge"), wood=("plank", "a knot"))
    assert find_class("Metal bracket", [path], CONFIG).texts.kinds == ("a torn edge",)
    assert find_class("wood", [path], CONFIG).texts.kinds == ("a knot",)
    assert find_class("leather", [path], CONFIG).texts == own(FOLDER / "mvtec.json", "leather")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("pcb", r"'pcb' may be any of pcb1, pcb2, pcb3, pcb4"),
        ("macaroni", r"'macaroni' may be any of macaroni1, macaroni2: give one of these names"),
        (" _ ", "the class has no name"),
    ],
)
def test_what_may_mean_several_classes_is_one_line(name, pattern):
    assert re.search(pattern, complaint(lambda: find_class(name, (), CONFIG)))


def test_the_same_class_in_two_files_is_one(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", gear=("gear", "a missing tooth"))
    monkeypatch.setattr(naming, "FOLDER", tmp_path)
    assert find_class("gear", (), CONFIG).texts.kinds == ("a missing tooth",)
    write(tmp_path / "b.json", gear=("gear", "a broken tooth"))
    assert re.search(
        r"'gear' is described differently in .*a\.json, .*b\.json: name one .*--prompts",
        complaint(lambda: find_class("gear", (), CONFIG)),
    )


def test_real_classes_come_before_drawn_ones_and_imported_lists_are_named_or_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "FOLDER", tmp_path)
    write(tmp_path / "official_a.json", gear=("gear", "a worn tooth"))
    assert find_class("gear", (), CONFIG).note
    write(tmp_path / "demo_a.json", gear=("gear", "a missing tooth"))
    assert find_class("gear", (), CONFIG).texts.kinds == ("a missing tooth",)
    write(tmp_path / "a.json", gear=("gear", "a broken tooth"))
    assert find_class("gear", (), CONFIG).texts.kinds == ("a broken tooth",)
    assert find_class("gear", [tmp_path / "official_a.json"], CONFIG).texts.kinds == ("a worn tooth",)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_class_nobody_described_gets_the_general_states_and_says_so(preset):
    found = find_class("left_handed  widget", (), PRESETS[preset])
    assert found.name == "left handed widget" and found.texts.kinds == ()
    assert "nobody described the class 'left handed widget'" in found.note
    assert all("left handed widget" in text for text in (*found.texts.normal, *found.texts.abnormal))
    assert len(found.texts.abnormal) % 9 == 0 and found.texts.phrases == (
        "anomaly",
        "damage",
        "broken",
        "defect",
        "contamination",
    )


def test_capitals_make_no_other_class_of_one_that_nobody_described():
    one, other = (find_class(name, (), CONFIG) for name in ("Metal Bracket", "metal_bracket"))
    assert one == other and one.name == "metal bracket"


def test_the_file_that_describes_a_class_is_known_where_nobody_named_it(tmp_path):
    path = write(tmp_path / "own.json", bracket=("metal bracket", "a torn edge"))
    assert find_class("tile", [path], CONFIG).found_in == FOLDER / "mvtec.json"
    assert find_class("bracket", [path], CONFIG).found_in is None
    assert find_class("widget", [path], CONFIG).found_in is None


def test_an_empty_list_of_descriptions_is_as_good_as_none(tmp_path):
    path = write(tmp_path / "own.json", rod=("steel rod",))
    found = find_class("rod", [path], CONFIG)
    assert found.name == "rod" and "steel rod" in found.note and "steel rod" in found.texts.normal[0]


def test_a_checkpoint_trained_without_descriptions_gets_what_it_was_trained_with():
    config = replace(CONFIG, described=False)
    found = find_class("metal_nut", (), config)
    assert found.texts == own(FOLDER / "mvtec.json", "metal_nut", config) and found.texts.kinds == ()
