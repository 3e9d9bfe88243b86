"""Every prompt file that ships in prompts/: is it complete, well-formed, and short enough for CLIP?"""

import json
import re
from pathlib import Path

import open_clip
import pytest

import import_official

PROMPTS = Path(import_official.__file__).parent
TEMPLATES = json.loads((PROMPTS / "templates.json").read_text(encoding="utf-8"))
FILES = sorted(
    path
    for path in PROMPTS.glob("*.json")
    if path.name != "templates.json" and not path.name.startswith("official_")
)
CONTEXT_LENGTH = 77
N_CTX = 12


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=reject_duplicate_keys)


def reject_duplicate_keys(pairs: list[tuple]) -> dict:
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"a key stands twice: {keys}"
    return dict(pairs)


def fill(template: str, name: str, description: str = "") -> str:
    return template.replace("{class}", name).replace("{description}", description)


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


CLASSES = {  # of every dataset, by the keys of its meta.json
    "mvtec": "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush "
    "transistor wood zipper",
    "visa": "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum",
    "mpdd": "bracket_black bracket_brown bracket_white connector metal_plate tubes",
    "btad": "01 02 03",
    "sdd": "electrical_commutators",
    "dagm": "Class1 Class2 Class3 Class4 Class5 Class6 Class7 Class8 Class9 Class10",
    "dtd_synthetic": "Woven_001 Woven_127 Woven_104 Stratified_154 Blotchy_099 Woven_068 Woven_125 "
    "Marbled_078 Perforated_037 Mesh_114 Fibrous_183 Matted_069",
    "headct": "brain",
    "brainmri": "brain",
    "br35h": "brain",
    "covid19": "chest",
    "isic": "skin",
    "colondb": "colon",
    "clinicdb": "colon",
    "kvasir": "colon",
    "endo": "colon",
    "tn3k": "thyroid",
    "magnetic_tile": "magnetic_tile",
    "deep_pcb": "deep_pcb",
}
DRAWN = {"demo_mvtec", "demo_visa"}


def test_every_dataset_is_there_with_all_its_classes():
    classes = {path.stem: list(load(path)["classes"]) for path in FILES if path.stem not in DRAWN}
    assert classes == {dataset: keys.split() for dataset, keys in CLASSES.items()}


def test_no_name_is_a_key_that_nobody_would_say():
    for path in FILES:
        for key, entry in load(path)["classes"].items():
            assert "_" not in entry["name"] and not re.search(r"\d", entry["name"]), key
    keys = {path.stem: load(path)["classes"] for path in FILES}
    assert keys["btad"]["01"]["name"] == "round disc" and keys["dagm"]["Class1"]["name"] == "textured surface"
    assert {keys["dtd_synthetic"][key]["name"] for key in keys["dtd_synthetic"] if key[:5] == "Woven"} == {
        "woven fabric"
    }


def test_what_is_seen_in_the_same_way_is_described_alike_and_otherwise_differently():
    lists = {name: load(PROMPTS / f"{name}.json")["classes"] for name in CLASSES}
    assert lists["colondb"] == lists["clinicdb"] == lists["kvasir"] == lists["endo"]
    assert lists["brainmri"] == lists["br35h"]  # both are MRI
    in_ct = {d["text"] for d in lists["headct"]["brain"]["descriptions"]}
    assert not in_ct & {d["text"] for d in lists["brainmri"]["brain"]["descriptions"]}


@pytest.mark.parametrize("name", ["mpdd", "dagm", "dtd_synthetic", "btad"])
def test_no_description_serves_two_classes_of_a_dataset(name):
    texts = [
        d["text"]
        for entry in load(PROMPTS / f"{name}.json")["classes"].values()
        for d in entry["descriptions"]
    ]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"mvtec", "visa", "magnetic_tile", "deep_pcb"}))
def test_a_class_of_the_further_datasets_has_eight_descriptions(name):
    for entry in load(PROMPTS / f"{name}.json")["classes"].values():
        assert len(entry["descriptions"]) == 8


@each_file
def test_the_schema_is_kept(path):
    prompts = load(path)
    assert list(prompts) == ["dataset", "sources", "classes"]
    assert prompts["dataset"] == path.stem
    assert prompts["sources"] and all(text.strip() for text in prompts["sources"].values())
    for key, entry in prompts["classes"].items():
        assert re.fullmatch("[A-Za-z0-9_]+", key)
        assert set(entry) - {"official_descriptions_of"} == {"name", "descriptions"}
        assert re.fullmatch("[a-z]+( [a-z]+)*", entry["name"])
        assert entry.get("official_descriptions_of", key) in prompts["classes"]
        assert all(set(d) == {"text", "source"} for d in entry["descriptions"])


@each_file
def test_every_description_has_a_known_source_and_every_source_is_used(path):
    prompts = load(path)
    used = {d["source"] for entry in prompts["classes"].values() for d in entry["descriptions"]}
    assert used == set(prompts["sources"])


@each_file
def test_a_class_has_five_to_ten_different_descriptions(path):
    for key, entry in load(path)["classes"].items():
        texts = [d["text"] for d in entry["descriptions"]]
        assert 5 <= len(texts) <= 10, key
        assert len(set(texts)) == len(texts), key


@each_file
def test_a_description_is_plain_lower_case_words(path):
    # a full stop would end a phrase of the detector's caption, a capital never matches one of its phrases
    for entry in load(path)["classes"].values():
        for description in entry["descriptions"]:
            assert re.fullmatch("[a-z0-9]+([ '-][a-z0-9]+)*", description["text"])


@each_file
def test_a_description_does_not_repeat_the_class(path):
    for entry in load(path)["classes"].values():
        name = re.compile(rf"\b{entry['name'].removesuffix('s')}s?\b")
        assert not [d["text"] for d in entry["descriptions"] if name.search(d["text"])]


@each_file
def test_the_longest_text_fits_the_context(path):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    position = max(TEMPLATES["positions"], key=lambda p: len(tokenizer.encode(p)))
    for entry in load(path)["classes"].values():
        for templates in TEMPLATES["sets"].values():
            for template in templates["described"] + templates["general"]:
                for description in entry["descriptions"]:
                    text = fill(template, entry["name"], description["text"])
                    words = len(tokenizer.encode(f"{text} at {position}."))
                    assert 1 + N_CTX + words + 1 <= CONTEXT_LENGTH, text  # start, context, words, end


def test_the_published_quirk_of_macaroni_is_one_line():
    classes = load(PROMPTS / "visa.json")["classes"]
    quirks = {key: entry["official_descriptions_of"] for key, entry in classes.items() if len(entry) > 2}
    assert quirks == {"macaroni1": "macaroni2"}


@pytest.mark.parametrize("name", CLASSES)
def test_the_files_stand_as_the_writer_formats_them(name):
    text = (PROMPTS / f"{name}.json").read_text(encoding="utf-8")
    assert text == import_official.to_text(json.loads(text))


def test_official_normal_texts_are_the_seven_of_the_published_program():
    texts = [fill(template, "widget") + "." for template in TEMPLATES["sets"]["official"]["normal"]]
    assert texts == [
        "widget.",
        "flawless widget.",
        "perfect widget.",
        "unblemished widget.",
        "widget without flaw.",
        "widget without defect.",
        "widget without damage.",
    ]


def test_official_abnormal_texts_are_those_of_the_published_program():
    official = TEMPLATES["sets"]["official"]
    texts = [fill(template, "widget", "a dent") for template in official["described"] + official["general"]]
    assert texts == [
        "abnormal widget with a dent",
        "damaged widget",
        "broken widget",
        "widget with flaw",
        "widget with defect",
        "widget with damage",
    ]


def test_paper_texts_follow_its_two_templates():
    paper = TEMPLATES["sets"]["paper"]
    assert "normal {class}" in paper["normal"] and paper["general"] == []
    assert all(re.fullmatch(r"[a-z]+ \{class\}", text) for text in paper["normal"])
    assert all(re.fullmatch(r"[a-z]+ \{class\} with \{description\}", text) for text in paper["described"])


def test_positions_are_the_nine_in_reading_order():
    columns = ("left", "", "right")
    grid = [f"{row} {column}".strip() or "center" for row in ("top", "", "bottom") for column in columns]
    assert TEMPLATES["positions"] == grid
