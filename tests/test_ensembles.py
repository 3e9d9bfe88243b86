"""Which texts say normal and abnormal: how ensembles are read, and whether those that ship are sound."""

import json
import re
from pathlib import Path

import open_clip
import pytest

import review
from filo.ensembles import FOLDER, HYBRID, WINCLIP, find_ensemble, read_ensemble, read_texts
from tests.trees import complaint

OWN = [name for name in HYBRID if name not in WINCLIP]
SHIPPED = sorted(path for path in FOLDER.glob("*.json") if not path.stem.startswith("official_"))


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def lists(normal: list, abnormal: list, **more) -> dict:
    return {"normal": {"prompts": normal}, "abnormal": {"prompts": abnormal}, **more}


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


# ---- reading


def test_texts_are_given_file_by_file_and_one_that_stands_twice_counts_twice(tmp_path):
    one = write(tmp_path / "1.json", lists(["{classname} in order", "clean part"], ["bent {classname}"]))
    two = write(tmp_path / "2.json", lists(["clean part"], ["scrap", "scrap"]))
    normal = ("toothed wheel in order", "clean part", "clean part")
    abnormal = ("bent toothed wheel", "scrap", "scrap")
    assert read_texts([one, two], "toothed wheel") == (normal, abnormal)
    assert read_texts([two, one, two], "x")[0] == ("clean part", "x in order", "clean part", "clean part")


def test_every_state_is_put_into_every_template_template_by_template(tmp_path):
    content = {
        "templates": ["a photo of a {state}", "{state}, seen twice: {state}"],
        "normal": {"states": ["{classname}", "good {classname}"]},
        "abnormal": {"states": ["bad {classname}"]},
    }
    assert read_texts([write(tmp_path / "e.json", content)], "nut") == (
        (
            "a photo of a nut",
            "a photo of a good nut",
            "nut, seen twice: nut",
            "good nut, seen twice: good nut",
        ),
        ("a photo of a bad nut", "bad nut, seen twice: bad nut"),
    )


def test_states_and_lists_may_stand_in_one_file(tmp_path):
    content = {"templates": ["a {state}"], "normal": {"states": ["nut"]}, "abnormal": {"prompts": ["rust"]}}
    ensemble = read_ensemble(write(tmp_path / "e.json", content))
    assert (ensemble.normal, ensemble.abnormal) == (("a nut",), ("rust",))


def test_the_published_form_is_read_and_its_instruction_is_not_a_prompt(tmp_path):
    content = lists(["Clean part."], ["Bent part.", " dent "])
    content["normal"]["instruction"] = "Give 1 prompt."
    path = write(tmp_path / "e.json", content)
    assert read_texts([path], "object") == (("Clean part.",), ("Bent part.", " dent "))


@pytest.mark.parametrize(
    "text",
    [
        "{0.__class__}",
        "{classname!r}",
        "{state}",
        "{",
        "}{",
        "%s",
        "\\1",
        "{classname.__init__}",
        "{{classname}}x",
    ],
)
def test_whatever_stands_in_a_prompt_or_a_name_stays_as_it_is(tmp_path, text):
    path = write(tmp_path / "e.json", lists([text, "{classname}"], ["{classname} and {classname}"]))
    normal, abnormal = read_texts([path], text)
    assert normal == (text.replace("{classname}", text), text)
    assert abnormal == (f"{text} and {text}",)


def test_places_for_the_class_word_stay_until_it_is_spoken(tmp_path):
    ensemble = read_ensemble(write(tmp_path / "e.json", lists(["good {classname}"], ["bad {classname}"])))
    assert ensemble.normal == ("good {classname}",)
    assert ensemble.speak("metal nut").abnormal == ("bad metal nut",)
    assert ensemble.speak("bolt").normal == ("good bolt",)


def test_an_ensemble_is_found_by_its_name_or_its_path(tmp_path):
    assert find_ensemble("winclip") == FOLDER / "winclip.json"
    mine = write(tmp_path / "mine.json", lists(["a"], ["b"]))
    assert find_ensemble(str(mine)) == mine
    for name in ("castings", "", "../mvtec", str(tmp_path), "winclip.json"):
        message = complaint(lambda name=name: find_ensemble(name))
        assert repr(name) in message and "surfaces" in message and "winclip" in message


STATES = {"templates": ["a {state}"], "normal": {"states": ["x"]}, "abnormal": {"states": ["y"]}}
BAD_FILES = {
    "nothing": b"",
    "no JSON": b"{",
    "bytes that are no text": b"\xff\xfe\x00",
    "deep nesting": b"[" * 100_000,
    "a list": b"[]",
    "a number": b"3",
    "a prompt file": b'{"dataset": "x", "sources": {}, "classes": {}}',
    "no abnormal": b'{"normal": {"prompts": ["a"]}}',
    "bare lists": b'{"normal": ["a"], "abnormal": ["b"]}',
    "bare texts": b'{"normal": "prompts", "abnormal": "states"}',
    "no prompts": b'{"normal": {"prompts": ["a"]}, "abnormal": {}}',
    "an empty list": json.dumps(lists(["a"], [])).encode(),
    "prompts that are one text": json.dumps(lists(["a"], "b")).encode(),
    "a prompt that is a number": json.dumps(lists(["a", 3], ["b"])).encode(),
    "an empty prompt": json.dumps(lists(["a", " "], ["b"])).encode(),
    "half a character": json.dumps(lists(["a"], ["\ud800"])).encode(),
    "states without templates": json.dumps({k: v for k, v in STATES.items() if k != "templates"}).encode(),
    "no template": json.dumps(STATES | {"templates": []}).encode(),
    "a template without a place": json.dumps(STATES | {"templates": ["a {}"]}).encode(),
    "no state": json.dumps(STATES | {"normal": {"states": []}}).encode(),
    "states and prompts": json.dumps(STATES | {"normal": {"states": ["x"], "prompts": ["x"]}}).encode(),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    message = complaint(lambda: read_texts([FOLDER / "winclip.json", path], "nut"))
    assert message.startswith(str(path)) and len(message) < 400


def test_the_line_says_what_was_wrong(tmp_path):
    wrong = {
        "nothing called 'abnormal'": {"normal": {"prompts": ["a"]}},
        "the prompts of abnormal are empty": lists(["a"], []),
        "the prompts of abnormal are no list": lists(["a"], {}),
        "among the prompts of normal is 3": lists([3], ["b"]),
    }
    for words, content in wrong.items():
        assert words in complaint(lambda content=content: read_ensemble(write(tmp_path / "e.json", content)))


def test_a_missing_file_a_folder_and_no_file_at_all_are_one_line(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        assert str(path) in complaint(lambda path=path: read_ensemble(path))
    assert "no ensemble is named" in complaint(lambda: read_texts([], "nut"))


# ---- those that ship


def test_winclips_ensemble_is_that_of_its_paper():
    normal, abnormal = read_texts([find_ensemble(name) for name in WINCLIP], "metal nut")
    assert (len(normal), len(abnormal)) == (7 * 22, 4 * 22)
    assert len({*normal, *abnormal}) == 11 * 22
    views = ["cropped ", "close-up ", "bright ", "dark ", "jpeg corrupted ", "blurry ", ""]
    templates = [f"a {view}photo of {article} {{}}" for view in views for article in ("a", "the")]
    templates += [
        f"a photo of {article} {size} {{}}" for size in ("small", "large") for article in ("a", "the")
    ]
    ends = ("for visual inspection", "for anomaly detection")
    templates += [f"a photo of {article} {{}} {end}" for end in ends for article in ("a", "the")]
    good = ["metal nut", *(f"{word} metal nut" for word in ("flawless", "perfect", "unblemished"))]
    good += [f"metal nut without {word}" for word in ("flaw", "defect", "damage")]
    bad = ["damaged metal nut", *(f"metal nut with {word}" for word in ("flaw", "defect", "damage"))]
    assert set(normal) == {template.format(state) for template in templates for state in good}
    assert set(abnormal) == {template.format(state) for template in templates for state in bad}
    assert normal[:2] == ("a cropped photo of the metal nut", "a cropped photo of the flawless metal nut")
    assert abnormal[-1] == "a photo of a metal nut with damage for anomaly detection"


def test_every_file_that_ships_is_named_and_nothing_else_is():
    assert {path.stem for path in SHIPPED} == {*HYBRID, "winclip_program"}
    assert all(load(path.stem)["ensemble"] == path.stem for path in SHIPPED)


@pytest.mark.parametrize("name", OWN)
def test_a_list_of_our_own_has_about_ninety_texts_of_each_kind_that_pass_the_review(name):
    ensemble = read_ensemble(find_ensemble(name))
    for texts in (ensemble.normal, ensemble.abnormal):
        assert 85 <= len(texts) <= 95
        assert review.review_sentences(texts) == (list(texts), [])  # plain, no class named, none twice, short
        assert all(3 <= len(text.split()) <= 15 for text in texts)


def test_no_text_of_our_lists_stands_twice_within_or_between_them():
    texts = [text for name in OWN for kind in read_texts([find_ensemble(name)], "object") for text in kind]
    assert len(texts) == len(set(texts)) == 900
    bare = [re.sub("[^a-z ]", "", re.sub(r"\b(a|an|the)\b ", "", text)) for text in texts]
    assert len(set(bare)) == 900


@pytest.mark.parametrize("name", HYBRID)
def test_every_list_says_who_wrote_it_when_and_to_which_request(name):
    content = load(name)
    for kind in ("normal", "abnormal"):
        source = content["sources"][content[kind]["source"]]
        if name in WINCLIP:
            assert "arXiv 2303.14814" in source
        else:
            assert "2026-11" in source and "by an AI assistant" in source
            request = source.split("The request that they answer: ")[1]
            assert f"Give 90 sentences for each of these:\n\n- {kind}: " in request
    assert set(content["sources"]) == {content[kind]["source"] for kind in ("normal", "abnormal")}


def test_every_list_answers_another_request():
    sources = [text for name in OWN for text in load(name)["sources"].values()]
    assert len(set(sources)) == 2 * len(OWN) == 10


def test_the_longest_text_fits_the_context_with_what_is_put_around_it():
    encode = open_clip.get_tokenizer("ViT-B-16-plus-240").encode
    normal, abnormal = read_texts([find_ensemble(name) for name in HYBRID], "electrical commutator")
    assert max(len(encode(f"a photo of a {text}.")) for text in normal + abnormal) + 2 <= 77


def test_the_files_stand_as_the_writer_formats_them():
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
