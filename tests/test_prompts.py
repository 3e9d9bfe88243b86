"""How the texts of a class are filled in, which file they come from, and the vectors in front of them."""

import json

import pytest
import torch

from filo.prompts import FOLDER, LearnablePrompt, PromptBook, fill_texts, find_prompt_file, spoken
from tests.trees import complaint

TEMPLATES = json.loads((FOLDER / "templates.json").read_text(encoding="utf-8"))
POSITIONS = (
    *("top left", "top", "top right"),
    *("left", "center", "right"),
    *("bottom left", "bottom", "bottom right"),
)


def one_place(described, general=(), normal=("{class}",)):
    parts = {"normal": list(normal), "described": list(described), "general": list(general)}
    return {"positions": ["top"], "sets": {"mine": parts}}


def prompt_file(path, classes):
    entries = {
        class_name: {"name": class_name, "descriptions": [{"text": text} for text in texts]}
        if isinstance(texts, list)
        else texts
        for class_name, texts in classes.items()
    }
    path.write_text(json.dumps({"dataset": "x", "sources": {}, "classes": entries}), encoding="utf-8")
    return path


# filling


def test_a_name_is_spoken_with_one_blank_between_words():
    found = [spoken(name) for name in ("hex_nut", " Metal\t bracket_", "pcb1", "__", "")]
    assert found == ["hex nut", "Metal bracket", "pcb1", "", ""]


def test_all_texts_of_a_class_are_those_of_the_published_program():
    texts = fill_texts(TEMPLATES, "official", "metal nut", ["a bent edge", "a scratch"])
    assert texts.positions == POSITIONS
    assert texts.normal == (
        "metal nut.",
        "flawless metal nut.",
        "perfect metal nut.",
        "unblemished metal nut.",
        "metal nut without flaw.",
        "metal nut without defect.",
        "metal nut without damage.",
    )
    states = (
        "abnormal metal nut with a bent edge",
        "abnormal metal nut with a scratch",
        "damaged metal nut",
        "broken metal nut",
        "metal nut with flaw",
        "metal nut with defect",
        "metal nut with damage",
    )
    assert len(texts.abnormal) == 63
    for k, state in enumerate(states):
        for i, position in enumerate(POSITIONS):
            assert texts.abnormal[9 * k + i] == f"{state} at {position}."


def test_the_papers_texts_cross_states_with_descriptions_only():
    texts = fill_texts(TEMPLATES, "paper", "nut", ["a dent", "rust"])
    assert texts.normal == ("normal nut.", "flawless nut.", "perfect nut.", "unblemished nut.")
    assert texts.abnormal[::9] == (
        "abnormal nut with a dent at top left.",
        "damaged nut with a dent at top left.",
        "abnormal nut with rust at top left.",
        "damaged nut with rust at top left.",
    )


def test_the_texts_of_a_position_are_every_ninth():
    texts = fill_texts(TEMPLATES, "official", "nut", ["a dent", "rust"])
    for i, position in enumerate(POSITIONS):
        assert texts.abnormal_at([i]) == texts.abnormal[i::9]
        assert len(texts.abnormal_at([i])) == 7
        assert all(text.endswith(f" at {position}.") for text in texts.abnormal_at([i]))
    assert texts.abnormal_at([]) == texts.abnormal
    assert texts.abnormal_at([8, 0]) == texts.abnormal[8::9] + texts.abnormal[0::9]


@pytest.mark.parametrize("position", [9, -1])
def test_there_is_no_tenth_position(position):
    with pytest.raises(ValueError, match="9 positions"):
        fill_texts(TEMPLATES, "official", "nut", ["a dent"]).abnormal_at([0, position])


@pytest.mark.parametrize(
    "text", ["{0.__class__}", "{class}", "{description}", "{", "}{", "%s", "\\1", "\\g<0>", "{position}"]
)
def test_whatever_stands_in_a_description_or_a_name_stays_as_it_is(text):
    templates = one_place(["abnormal {class} with {description}"])
    assert fill_texts(templates, "mine", "nut", [text]).abnormal == (f"abnormal nut with {text} at top.",)
    assert fill_texts(templates, "mine", text, ["rust"]).abnormal == (f"abnormal {text} with rust at top.",)
    assert fill_texts(templates, "mine", text, []).normal == (f"{text}.",)


def test_a_template_may_name_class_and_description_in_any_order_and_twice():
    templates = one_place(["{description} on {class}, {description}"], general=["{class} and {class}"])
    texts = fill_texts(templates, "mine", "nut", ["rust"])
    assert texts.abnormal == ("rust on nut, rust at top.", "nut and nut at top.")


# files


def test_every_file_that_ships_gives_texts_for_its_classes():
    for path in FOLDER.glob("*.json"):
        if path.stem != "templates":
            book = PromptBook([path])
            for set_name in TEMPLATES["sets"]:
                texts = book.texts(book.classes, set_name, share_by_name=True)
                assert list(texts) == list(book.classes) and all(t.abnormal for t in texts.values())


def test_a_later_file_overrides_an_earlier_one_class_by_class(tmp_path):
    first = prompt_file(tmp_path / "1.json", {"nut": ["rust"], "bolt": ["a bend"]})
    second = prompt_file(tmp_path / "2.json", {"nut": ["a dent"], "cap": ["a hole"]})
    book = PromptBook([first, second])
    found = {name: prompt.descriptions for name, prompt in book.classes.items()}
    assert found == {"nut": ("a dent",), "bolt": ("a bend",), "cap": ("a hole",)}
    assert PromptBook([second, first]).classes["nut"].descriptions == ("rust",)


def test_the_spoken_name_and_not_the_key_is_spoken(tmp_path):
    entry = {"name": "hex key", "descriptions": [{"text": "rust", "source": "me"}]}
    book = PromptBook([prompt_file(tmp_path / "1.json", {"hex_key": entry})])
    assert "flawless hex key." in book.texts(["hex_key"], "official", False)["hex_key"].normal


def test_descriptions_are_shared_only_when_asked_for(tmp_path):
    first = {"name": "pasta", "descriptions": [{"text": "a dent"}], "official_descriptions_of": "pasta2"}
    path = prompt_file(tmp_path / "1.json", {"pasta1": first, "pasta2": ["a hole"]})
    book = PromptBook([path])
    for shared, text in ((True, "a hole"), (False, "a dent")):
        texts = book.texts(["pasta1"], "official", shared)["pasta1"]
        assert texts.abnormal[0] == f"abnormal pasta with {text} at top left."
        assert (
            book.texts(["pasta2"], "official", shared)["pasta2"]
            .abnormal[0]
            .startswith("abnormal pasta2 with a hole")
        )


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_description_is_refused_since_it_would_match_every_box(tmp_path, text):
    classes = {"nut": {"name": "nut", "descriptions": [{"text": text}]}}
    (tmp_path / "p.json").write_text(json.dumps({"classes": classes}))
    assert "a description is empty" in complaint(lambda: PromptBook([tmp_path / "p.json"]))


def test_both_kinds_of_macaroni_are_described_alike_in_the_published_program():
    book = PromptBook([find_prompt_file("visa")])
    both = ["macaroni1", "macaroni2"]
    shared, own = book.texts(both, "official", True), book.texts(both, "official", False)
    assert shared["macaroni1"].abnormal == shared["macaroni2"].abnormal == own["macaroni2"].abnormal
    assert own["macaroni1"].abnormal != own["macaroni2"].abnormal
    # the detector is asked for each class's own
    assert shared["macaroni1"].phrases == own["macaroni1"].phrases != own["macaroni2"].phrases
    assert shared["macaroni1"].phrases[:5] == ("anomaly", "damage", "broken", "defect", "contamination")


def test_a_missing_class_is_one_line_that_says_how_to_add_it(tmp_path):
    path = prompt_file(tmp_path / "1.json", {"nut": ["rust"]})
    message = complaint(lambda: PromptBook([path]).texts(["nut", "bolt"], "official", False))
    for part in (str(path), "'bolt'", "classes there: nut", '"bolt": {"name"', "prompts/README.md"):
        assert part in message


def test_a_class_to_share_with_must_be_there(tmp_path):
    entry = {"name": "pasta", "descriptions": [{"text": "a dent"}], "official_descriptions_of": "gone"}
    book = PromptBook([prompt_file(tmp_path / "1.json", {"pasta1": entry})])
    assert "'gone'" in complaint(lambda: book.texts(["pasta1"], "official", True))
    assert book.texts(["pasta1"], "official", False)


def test_a_class_without_descriptions_has_general_texts_or_none(tmp_path):
    book = PromptBook([prompt_file(tmp_path / "1.json", {"nut": []})])
    assert len(book.texts(["nut"], "official", False)["nut"].abnormal) == 45
    message = complaint(lambda: book.texts(["nut"], "paper", False))
    assert "'nut'" in message and "description" in message


def test_an_unknown_template_set_is_one_line(tmp_path):
    book = PromptBook([prompt_file(tmp_path / "1.json", {"nut": ["rust"]})])
    message = complaint(lambda: book.texts(["nut"], "mine", False))
    assert "'mine'" in message and "official, paper" in message


GOOD = {"name": "nut", "descriptions": [{"text": "rust"}]}
BAD_FILES = {
    "no JSON": "{",
    "nothing": "",
    "a list": "[]",
    "no classes": "{}",
    "classes that are a list": '{"classes": []}',
    "a class that is a text": '{"classes": {"nut": "rust"}}',
    "no name": json.dumps({"classes": {"nut": {"descriptions": []}}}),
    "a name that is a number": json.dumps({"classes": {"nut": {**GOOD, "name": 3}}}),
    "no descriptions": json.dumps({"classes": {"nut": {"name": "nut"}}}),
    "descriptions that are one text": json.dumps({"classes": {"nut": {**GOOD, "descriptions": "rust"}}}),
    "descriptions that are texts": json.dumps({"classes": {"nut": {**GOOD, "descriptions": ["rust"]}}}),
    "a description that is null": json.dumps(
        {"classes": {"nut": {**GOOD, "descriptions": [{"text": None}]}}}
    ),
    "a class to share with that is a list": json.dumps(
        {"classes": {"nut": {**GOOD, "official_descriptions_of": ["nut"]}}}
    ),
    "bytes that are no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert str(path) in complaint(lambda: PromptBook([path]))


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        assert str(path) in complaint(lambda path=path: PromptBook([path]))


def test_an_unknown_dataset_names_those_there_are():
    assert find_prompt_file("mvtec") == FOLDER / "mvtec.json"
    message = complaint(lambda: find_prompt_file("workshop"))
    assert "'workshop'" in message and "mvtec" in message and "templates," not in message
    assert "--prompts" in message


# learned vectors


def test_the_image_shifts_every_learned_vector_alike():
    prompt = LearnablePrompt(n_ctx=3, feature_width=32, text_width=5)
    features = torch.randn(2, 32)
    down, up = prompt.meta_net[0], prompt.meta_net[2]
    hidden = (features @ down.weight.T + down.bias).clamp_min(0)
    shift = hidden @ up.weight.T + up.bias  # (B, T)
    output = prompt(features)
    assert output.shape == (2, 3, 5)
    for b in range(2):
        for i in range(3):
            torch.testing.assert_close(output[b, i], prompt.ctx[i] + shift[b])


@pytest.mark.parametrize(("width", "hidden"), [(768, 48), (16, 1), (24, 1), (8, 1)])
def test_the_net_is_a_sixteenth_as_wide_as_the_feature(width, hidden):
    prompt = LearnablePrompt(n_ctx=12, feature_width=width, text_width=6)
    sizes = {name: tuple(p.shape) for name, p in prompt.named_parameters()}
    assert sizes == {
        "ctx": (12, 6),
        "meta_net.0.weight": (hidden, width),
        "meta_net.0.bias": (hidden,),
        "meta_net.2.weight": (6, hidden),
        "meta_net.2.bias": (6,),
    }


def test_learned_vectors_start_small():
    ctx = LearnablePrompt(n_ctx=100, feature_width=16, text_width=100).ctx
    assert abs(ctx.std().item() - 0.02) < 0.001 and abs(ctx.mean().item()) < 0.001
