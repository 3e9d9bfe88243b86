"""prompts/describe.py, run as a command against a real HTTP server: what it asks, refuses, keeps, records."""

import hashlib
import json
import re
import sys
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import open_clip
import pytest

import address
import ask
import describe
import ensemble_file
import entries
import review
import targets
from filo.ensembles import read_texts
from filo.errors import InputError
from filo.prompts import PromptBook
from import_official import to_text
from tests import commands, test_prompt_files
from tests.chat_server import ChatServer, Reply, completes, fails, says

KEY = "sk-test-0123456789"
PARTS = ("left flange", "upper rim", "bolt hole", "long side", "inner corner", "welded seam", "flat base")
BRACKET = [f"a bent {part}" for part in PARTS] + ["rust along one edge"]
VIAL = [f"a crack in the {part}" for part in PARTS] + ["a chip at the neck"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A key, and neither a proxy nor further settings of the openai client."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "OPENAI_BASE_URL", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "mine.json"


@pytest.fixture
def run(monkeypatch, capfd, out):
    """Run the command, for the metal bracket if nothing is named, with short pauses; flags come on top."""

    def run(server=None, **flags):
        usual = {"out": out, "wait": 0.01}
        if not {"meta", "ensemble"} & set(flags):
            usual["classes"] = "metal bracket"
        if server is not None:
            usual |= {"base_url": server.url, "model": "tiny-llm"}
        spelled = {"print_request": "print-request", "from_file": "from-file"}
        chosen = {spelled.get(k, k): v for k, v in (usual | flags).items() if v is not None}
        return commands.run(monkeypatch, capfd, "prompts/describe.py", *commands.flags(**chosen))

    return run


@pytest.fixture
def fail(run):
    """Run the command, which must end with status 2 and one line; give what follows `error: `."""

    def fail(server=None, **flags):
        status, stdout, err = run(server, **flags)
        assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, (status, stdout, err)
        assert KEY not in stdout + err
        return err.removeprefix("error: ").rstrip("\n")

    return fail


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def texts(path: Path, key: str = "metal_bracket") -> list[str]:
    return [description["text"] for description in load(path)["classes"][key]["descriptions"]]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- what is asked and written


def test_each_class_is_asked_for_by_itself_and_becomes_an_entry_of_a_sound_prompt_file(run, out):
    replies = says({"metal bracket": BRACKET}), says({"glass vial": VIAL})
    with ChatServer(*replies) as server:
        status, stdout, err = run(server, classes="metal bracket, Glass_Vial")
    assert (status, err) == (0, "")
    assert "metal_bracket: 8 descriptions" in stdout and f"--prompts {out}" in stdout
    assert texts(out) == BRACKET and texts(out, "glass_vial") == VIAL
    assert [entry["name"] for entry in load(out)["classes"].values()] == ["metal bracket", "glass vial"]
    for rule in (
        test_prompt_files.test_the_schema_is_kept,
        test_prompt_files.test_every_description_has_a_known_source_and_every_source_is_used,
        test_prompt_files.test_a_class_has_five_to_ten_different_descriptions,
        test_prompt_files.test_a_description_is_plain_lower_case_words,
        test_prompt_files.test_a_description_does_not_repeat_the_class,
        test_prompt_files.test_the_longest_text_fits_the_context,
    ):
        rule(out)
    assert out.read_text(encoding="utf-8") == to_text(load(out))
    assert PromptBook([out]).phrases("glass_vial")[-1] == VIAL[-1]


def test_the_request_is_the_plain_protocol_with_the_key_from_the_environment(run):
    with ChatServer(says({"metal bracket": BRACKET})) as server:
        run(server)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["Authorization"] == f"Bearer {KEY}"
    assert set(request["body"]) == {"model", "messages"} and request["body"]["model"] == "tiny-llm"
    assert [message["role"] for message in request["body"]["messages"]] == ["user"]
    (said,) = server.asked
    assert "- metal bracket\n" in said and "give 8 descriptions" in said and '"metal bracket": [' in said


def test_a_local_server_needs_no_key(run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with ChatServer(says({"metal bracket": BRACKET})) as server:
        assert run(server)[0] == 0
    assert server.requests[0]["headers"]["Authorization"] == "Bearer no-key"


def test_the_source_tells_model_date_host_request_and_hashes_but_neither_key_nor_address(run, out):
    answer = json.dumps({"metal bracket": BRACKET})
    with ChatServer(says(answer)) as server:
        run(server, base_url=server.url.replace("//", "//ada:pass-word@"))
    (name, source), *others = load(out)["sources"].items()
    assert not others and re.fullmatch(r"metal_bracket \d{4}-\d{2}-\d{2} tiny-llm", name)
    assert "Model: tiny-llm, at 127.0.0.1." in source
    assert source.endswith(f"The first request: {server.asked[0]}")
    assert f"request {sha256(server.asked[0])}, answer {sha256(answer)}" in source
    port = server.url.split(":")[2].removesuffix("/v1")
    for secret in (KEY, "ada", "pass-word", f":{port}"):
        assert secret not in out.read_text(encoding="utf-8")


def test_harmless_deviations_are_tidied_without_asking_again(run, out):
    untidy = [f"{text.capitalize()}." for text in BRACKET[:5]]
    untidy += ["1. a dent", "- the  drill’s mark ", "a hair‑line crack"]  # noqa: RUF001
    with ChatServer(says({"metal bracket": [*untidy, "one more than asked for"]})) as server:
        assert run(server)[0] == 0
    assert texts(out) == [*BRACKET[:5], "a dent", "the drill's mark", "a hair-line crack"]


@pytest.mark.parametrize(
    "wrap",
    [
        "Gladly! Here they are:\n\n```json\n{}\n```\nTell me if you need {{more}}.",
        '<think>Maybe {{"metal bracket": ["a dent"]}}? No.</think>{}',
        "```\n{}\n```",
    ],
)
def test_json_is_found_in_prose_fences_and_behind_thoughts(run, out, wrap):
    answer = wrap.replace("{{", "\0").replace("}}", "\1")
    answer = answer.replace("{}", json.dumps({"Metal_Bracket": BRACKET}, indent=2))
    with ChatServer(says(answer.replace("\0", "{").replace("\1", "}"))) as server:
        assert run(server)[0] == 0
    assert texts(out) == BRACKET


@pytest.mark.parametrize("answer", [BRACKET, {"descriptions": BRACKET}])
def test_a_single_class_needs_no_key_around_its_list(run, out, answer):
    with ChatServer(says(answer)) as server:
        assert run(server)[0] == 0
    assert texts(out) == BRACKET


def test_the_list_of_another_class_is_not_taken():
    assert review.read_lists('{"bolt": ["a dent"]}', ["metal bracket"]) == {}
    assert review.read_lists('{"bolt": ["a dent"], "metal', ["metal bracket"]) == {}
    assert review.read_lists('["a dent"]', ["metal bracket", "bolt"]) == {}
    assert review.read_lists("{" * 10_000 + "[" * 10_000, ["bolt"]) == {}


# ---- what is refused, and repaired by asking again


def test_only_what_cannot_be_used_is_asked_for_again_and_both_answers_are_recorded(run, out):
    first = json.dumps({"metal bracket": [*BRACKET[:6], "a burnt odour", "A bent left flange", 7]})
    second = json.dumps({"metal bracket": BRACKET[6:]})
    with ChatServer(says(first), says(second)) as server:
        assert run(server)[0] == 0
    assert texts(out) == BRACKET
    request, answer, repair = server.requests[1]["body"]["messages"]
    assert (request["role"], answer["role"], repair["role"]) == ("user", "assistant", "user")
    assert request["content"] == server.asked[0] and answer["content"] == first
    said = repair["content"]
    assert (
        "'a burnt odour' is nothing visible (odour)" in said and "'A bent left flange' is there twice" in said
    )
    assert "'7' is not plain" in said and "Give 2 further descriptions" in said and BRACKET[0] in said
    (source,) = load(out)["sources"].values()
    for text in (server.asked[0], said, first, second):
        assert sha256(text) in source


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a strong smell of oil", "nothing visible (smell)"),
        ("a rattling noise inside", "nothing visible (rattling)"),
        ("an uneven temperature", "nothing visible (temperature)"),
        ("too low weight", "nothing visible (weight)"),
        ("a bitter-tasting film", "nothing visible (tasting)"),
        ("a dent, a scratch", "not plain"),
        ("a hole (small)", "not plain"),
        ("a naïve dent", "not plain"),
        ("", "not plain"),
        (None, "not plain"),
        ({"text": "a dent"}, "not plain"),
        ("scratch", "has 1 words"),
        ("a " * 12 + "dent", "has 13 words"),
        ("a bent metal bracket arm", "repeats the name metal bracket"),
        ("two metal-brackets stuck together", "repeats the name metal bracket"),
        ("The Known Dent!", "not plain"),
        ("the known dent", "is there twice"),
        ("x9z8q7 " * 12, "longer than CLIP's context"),
    ],
)
def test_a_description_against_the_rules_is_refused(text, fault):
    kept, (said,) = review.review([text], "metal bracket", ["a known dent"])
    assert kept == [] and fault in said and "\n" not in said


def test_every_description_that_ships_passes_the_review():
    for path in test_prompt_files.FILES:
        for entry in load(path)["classes"].values():
            found = [description["text"] for description in entry["descriptions"]]
            assert review.review(found, entry["name"]) == (found, []), path


def test_the_length_limit_is_exactly_clips_context():
    """The longest text is "abnormal ... with ... at bottom right.", behind 12 learned vectors."""
    encode = open_clip.get_tokenizer("ViT-B-32").encode
    seen = set()
    for words in range(30, 60):
        text = " ".join(["dent"] * words)
        needed = 1 + 12 + len(encode(f"abnormal metal bracket with {text} at bottom right.")) + 1
        assert review.fits("metal bracket", text) == (needed <= 77)
        seen.add(needed)
    assert {77, 78} <= seen


@pytest.mark.parametrize(
    "useless",
    [
        says(None, refusal="I cannot help with that."),
        says("I'm sorry, but I can't help with that."),
        says('{"metal bracket": ["a dent", '),
        says('{"metal bracket": ["a dent"', finish_reason="length"),
        says("", finish_reason="content_filter"),
        says({"metal bracket": "a dent"}),
        says({"metal bracket": BRACKET[:3]}),
        says('["half a character \\ud800 here"]'),
        says([["a dent"]]),
        completes([]),
        completes([None]),
        completes([{"message": {"content": [1]}}]),
    ],
)
def test_an_answer_without_usable_descriptions_is_followed_by_another_request(run, out, useless):
    with ChatServer(useless, says({"metal bracket": BRACKET})) as server:
        assert run(server)[0] == 0
    assert len(server.requests) == 2 and len(set(texts(out))) == 8


@pytest.mark.parametrize(
    ("useless", "wanted"),
    [
        (says(None, refusal="I cannot\nhelp."), "the model refuses: 'I cannot help.'"),
        (says("I'd rather not."), '''no JSON with its list in "I'd rather not."'''),
        (says("", finish_reason="length"), "cut off"),
        (completes([]), "the answer is empty"),
        (
            says({"metal bracket": ["a dent", "odd odour"]}),
            "1 of 8 descriptions usable ('a dent' is there twice; 'odd odour' is nothing",
        ),
    ],
)
def test_a_class_without_usable_answers_is_named_and_the_others_are_written(fail, out, useless, wanted):
    replies = [useless, useless, says({"glass vial": VIAL})]
    with ChatServer(*replies) as server:
        message = fail(server, classes="metal bracket, glass vial", attempts=2)
    assert message.startswith("1 of 2 classes are not described: metal bracket: ")
    assert wanted in message and "--model" in message
    assert list(load(out)["classes"]) == ["glass_vial"]


# ---- an endpoint in trouble


def test_a_rate_limit_is_waited_out_as_long_as_the_endpoint_asks(run, out):
    busy = fails(429, "slow down", Retry_After="0.05")
    with ChatServer(busy, says({"metal bracket": BRACKET})) as server:
        status, stdout, _ = run(server)
    assert status == 0 and texts(out) == BRACKET
    assert "answers 429 'slow down', asking again in 0.05 s" in stdout


def test_without_a_wish_pauses_double_until_the_repetitions_are_used_up(run, out):
    with ChatServer(*[fails(429, "slow down")] * 4) as server:
        status, stdout, err = run(server, retries=3)
    assert re.findall("again in (.+) s", stdout) == ["0.01", "0.02", "0.04"]
    assert status == 2 and "'slow down', asked 4 times" in err and len(server.requests) == 4


def test_a_wish_for_a_long_pause_ends_the_command(fail):
    with ChatServer(fails(429, "daily limit", Retry_After="3600")) as server:
        assert "'daily limit': run the same command in 3600 seconds" in fail(server)
    assert len(server.requests) == 1


def test_a_wish_can_be_a_date_and_nonsense_is_none():
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    assert 28 < ask.wish(format_datetime(soon, usegmt=True)) <= 30
    assert ask.wish("1.5") == 1.5
    for header in ("", "soon", "-3", "0", "nan", "inf", "1e999", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert ask.wish(header) == 0


@pytest.mark.parametrize(
    "trouble",
    [
        Reply("<h1>gateway</h1>", 502, {"Content-Type": "text/html"}),
        fails(500, "boom"),
        fails(503, "loading model"),
        Reply('{"error": {"message": "upstream", "code": 502}}'),
        Reply(hangs_up=True),
        Reply(delay=30),
        Reply(trickles=True),
    ],
)
def test_passing_trouble_is_followed_by_another_try(run, out, trouble):
    answers = [says({"metal bracket": BRACKET})] * 5  # several, for a machine so busy that one comes too late
    with ChatServer(trouble, *answers) as server:
        status, stdout, _ = run(server, timeout=0.3)
    assert status == 0 and "asking again in 0.01 s" in stdout and texts(out) == BRACKET


def test_an_endpoint_that_stays_slow_ends_the_command(fail):
    with ChatServer(*[Reply(delay=30)] * 2) as server:
        message = fail(server, timeout=0.1, retries=1)
    assert "gave no answer within 0.1 s, asked 2 times" in message and "--timeout" in message


@pytest.mark.parametrize(
    ("trouble", "wanted"),
    [
        (fails(401, f"Incorrect API key provided: {KEY}"), "provided: ***': set the environment variable"),
        (fails(403, "not yours"), "OPENAI_API_KEY"),
        (fails(404, "no such model"), "check --model tiny-llm and --base_url"),
        (fails(400, "too long"), "answers 400 'too long'"),
        (fails(429, "pay first", code="insufficient_quota"), "quota is used up"),
        (Reply('{"detail": "Not Found"}', 404), "answers 404 'Not Found'"),
        (Reply("<html>Welcome</html>", headers={"Content-Type": "text/html"}), "'<html>Welcome</html>'"),
        (Reply('{"choices": [{"mess'), "something else than a chat completion"),
        (Reply('{"message": {"content": "hi"}}'), "something else than a chat completion"),
        (Reply("[]"), "OpenAI-compatible endpoint, such as http://localhost:8000/v1"),
    ],
)
def test_lasting_trouble_ends_the_command_at_once_and_says_what_to_do(fail, out, trouble, wanted):
    with ChatServer(trouble) as server:
        message = fail(server)
    assert wanted in message and server.url in message and len(server.requests) == 1
    assert not out.exists()


def test_a_server_that_is_down_is_named_at_once(fail):
    with ChatServer() as server:
        pass
    message = fail(server)
    assert f"{server.url} cannot be reached (" in message and "start the server" in message


def test_what_was_described_before_a_failure_is_kept_and_the_same_command_goes_on_there(run, fail, out):
    names = "metal bracket, glass vial"
    with ChatServer(says({"metal bracket": BRACKET}), fails(401, "expired")) as server:
        message = fail(server, classes=names)
    assert "1 of 2 classes were asked before; the same command goes on" in message
    assert list(load(out)["classes"]) == ["metal_bracket"]
    with ChatServer(says({"glass vial": VIAL})) as server:
        assert run(server, classes=names)[0] == 0
    assert len(server.requests) == 1 and texts(out) == BRACKET and texts(out, "glass_vial") == VIAL
    status, stdout, _ = run(classes=names)  # nothing is left, so nobody is asked
    assert status == 0 and "left as they are: metal_bracket, glass_vial" in stdout


# ---- the file


def with_hand_made(path: Path) -> str:
    """Write a file with a class made by hand, a name without descriptions, and a field of the user's own."""
    mine = [{"text": "Anything, I like", "source": "me"}]
    classes = {
        "metal_bracket": {"name": "steel angle", "descriptions": mine},
        "glass_vial": {"name": "small bottle", "note": "of the lab", "descriptions": []},
    }
    path.write_text(json.dumps({"dataset": "mine", "sources": {"me": "Ada"}, "classes": classes}))
    return path.read_text()


def test_hand_made_entries_are_never_overwritten_and_their_names_are_spoken(run, out):
    with_hand_made(out)
    before = load(out)["classes"]["metal_bracket"]
    for renew in (None, True):
        with ChatServer(says({"small bottle": VIAL})) as server:
            assert run(server, classes="metal bracket, glass vial", renew=renew)[0] == 0
        assert len(server.requests) == 1 and "- small bottle\n" in server.asked[0]
    content = load(out)
    assert content["classes"]["metal_bracket"] == before and content["sources"]["me"] == "Ada"
    assert {"name": "small bottle", "note": "of the lab"}.items() <= content["classes"]["glass_vial"].items()


def test_renew_describes_own_entries_anew_unless_they_were_changed_by_hand(run, out):
    with ChatServer(says({"metal bracket": BRACKET}), says({"glass vial": VIAL})) as server:
        run(server, classes="metal bracket, glass vial")
    content = load(out)
    content["classes"]["glass_vial"]["descriptions"][0]["text"] = "a corrected phrase"
    out.write_text(json.dumps(content))
    newer = [f"a worn {part}" for part in PARTS] + ["a lost screw"]
    with ChatServer(says({"metal bracket": newer})) as server:
        flags = {"classes": "metal bracket, glass vial", "renew": True, "model": "newer-llm"}
        assert run(server, **flags)[0] == 0
    assert len(server.requests) == 1
    assert texts(out) == newer and texts(out, "glass_vial")[0] == "a corrected phrase"
    assert [name.split()[2] for name in load(out)["sources"]] == ["tiny-llm", "newer-llm"]


def test_a_class_described_by_somebody_else_meanwhile_stays(out):
    before = with_hand_made(out)
    record = entries.Record("m", "at h", "2026-01-01", (("request", "answer"),))
    assert not entries.put(out, "metal_bracket", "metal bracket", BRACKET, record, renew=True)
    assert out.read_text() == before


def test_a_source_that_another_entry_names_is_neither_replaced_nor_dropped(out):
    record = entries.Record("m", "at h", "2026-01-01", (("request", "answer"),))
    entries.put(out, "bolt", "bolt", BRACKET, record, renew=False)
    content = load(out)
    copied = content["classes"]["bolt"]["descriptions"][:2]
    content["classes"]["screw"] = {"name": "screw", "descriptions": copied}
    out.write_text(json.dumps(content))
    entries.put(out, "bolt", "bolt", VIAL, record, renew=True)
    assert list(load(out)["sources"]) == ["bolt 2026-01-01 m", "bolt 2026-01-01 m (2)"]
    assert texts(out, "screw") == BRACKET[:2] and texts(out, "bolt") == VIAL


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("no json", "not readable JSON"),
        ('{"train": {}, "test": {}}', "no prompt file"),
        ('{"classes": []}', "no prompt file"),
        ('{"classes": {}, "sources": []}', "sources must be an object"),
        ('{"classes": {"a": {"name": "a", "descriptions": [{"text": "b", "source": []}]}}}', "source is []"),
        ('{"classes": {}, "classes": {}}', "'classes' stands twice"),
    ],
)
def test_a_file_that_is_no_prompt_file_is_left_alone(fail, out, content, wanted):
    out.write_text(content)
    with ChatServer() as server:
        message = fail(server)
    assert str(out) in message and wanted in message
    assert out.read_text() == content and server.requests == []


def test_a_place_that_cannot_be_written_is_found_before_anybody_is_asked(fail, tmp_path):
    (tmp_path / "file").write_text("x")
    with ChatServer() as server:
        for place in ("file/mine.json", "n" * 300 + ".json", "file/"):
            message = fail(server, out=tmp_path / place)
            assert str(tmp_path / "file") in message or "File name too long" in message
    assert server.requests == [] and [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- classes


def test_classes_of_a_meta_json_keep_its_names_as_keys_and_need_no_images(run, out, tmp_path):
    splits = {"train": {"Hex_key": []}, "test": {"Hex_key": [], "pcb 2": [{"img_path": "gone.png"}]}}
    (tmp_path / "meta.json").write_text(json.dumps(splits))
    replies = [says(BRACKET), says(VIAL)]
    with ChatServer(*replies) as server:
        assert run(server, meta=tmp_path)[0] == 0
    assert {key: entry["name"] for key, entry in load(out)["classes"].items()} == {
        "Hex_key": "Hex key",
        "pcb 2": "pcb 2",
    }
    assert targets.from_meta(tmp_path) == targets.from_meta(tmp_path / "meta.json")


@pytest.mark.parametrize("content", [None, "[]", "x", '{"test": []}', '{"test": {}}', '{"test": {"_": []}}'])
def test_a_meta_json_without_classes_is_refused(fail, tmp_path, content):
    if content is not None:
        (tmp_path / "meta.json").write_text(content)
    assert str(tmp_path / "meta.json") in fail(meta=tmp_path / "meta.json")


# ---- bad flags


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"classes": None}, "no class given"),
        ({"classes": " , ,"}, "no class given"),
        ({"classes": "bolt; nut"}, "'bolt; nut' is no name"),
        ({"classes": "x9z8q7 " * 20}, "leaves no room for a description"),
        ({"out": None}, "--out prompts/mine.json"),
        ({}, "say which model to ask"),
        ({"model": "m\udcff"}, "no name has"),
        ({"model": "m", "base_url": "localhost:8000/v1"}, "--base_url is no address"),
        ({"model": "m", "base_url": "http://ada:pass-word@/v1"}, "--base_url is no address"),
        ({"model": "m", "base_url": "http://host:port/v1"}, "--base_url is no address"),
        ({"model": "m", "base_url": "http://a..b/v1"}, "--base_url is no address"),
        ({"model": "m", "base_url": "http://h/v1/chat/completions"}, "without /chat/completions"),
    ],
)
def test_wrong_flags_end_in_one_line_that_says_what_was_wanted(fail, out, flags, wanted):
    message = fail(**flags)
    assert wanted in message and "pass-word" not in message and not out.exists()


@pytest.mark.parametrize(
    ("key", "wanted"), [("", "no key for api.openai.com"), ("clé", "a character that no key")]
)
def test_a_key_that_is_missing_or_impossible_is_named(fail, monkeypatch, key, wanted):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    message = fail(model="m")
    assert wanted in message and "clé" not in message


@pytest.mark.parametrize("flags", [{"count": 4}, {"count": 11}, {"timeout": 0}, {"wait": "nan"}])
def test_numbers_out_of_range_are_refused(run, flags):
    status, _, err = run(**flags)
    assert status == 2 and f"--{next(iter(flags))}" in err


def test_an_address_is_shown_without_user_password_and_query():
    place = address.parse("https://ada:p%40ss@Example.com:81/v1?key=123")
    assert (str(place), place.host) == ("https://example.com:81/v1", "example.com")
    assert {"ada", "p%40ss", "p@ss", "key=123"} <= set(place.secrets)
    assert str(address.parse("http://[::1]:80/v1")) == "http://[::1]:80/v1"
    with pytest.raises(InputError):
        address.parse("http://[::zz]/v1")


def test_without_the_openai_package_the_line_says_how_to_install_it(fail, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with ChatServer() as server:
        assert "pip install -r prompts/requirements.txt" in fail(server)


# ---- a chat window


def test_a_printed_request_names_all_classes_and_its_answer_is_read_back(run, out, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    names = "metal bracket, glass vial"
    status, request, err = run(classes=names, print_request=True)
    assert (status, err) == (0, "") and not out.exists()
    assert "- metal bracket\n- glass vial\n" in request and '"glass vial": [..., ...]' in request
    answer = (
        f"Sure:\n```json\n{json.dumps({'metal bracket': BRACKET, 'glass vial': VIAL}, indent=1)}\n```\nBye."
    )
    (tmp_path / "answer.txt").write_text(answer, encoding="utf-8-sig")
    assert run(classes=names, from_file=tmp_path / "answer.txt", model="Chatty 3")[0] == 0
    assert texts(out) == BRACKET and texts(out, "glass_vial") == VIAL
    for source in load(out)["sources"].values():
        assert "Model: Chatty 3, in a chat window." in source and sha256(answer) in source
        assert source.endswith(f"The first request: {request.rstrip()}") and sha256(request[:-1]) in source


def test_an_answer_that_lacks_a_class_gives_the_others_and_the_next_request_asks_for_the_rest(
    run, fail, out, tmp_path
):
    names = "metal bracket, glass vial, hex key"
    (tmp_path / "answer.txt").write_text(
        json.dumps({"metal bracket": BRACKET, "glass vial": ["odour", *VIAL[1:]]})
    )
    message = fail(classes=names, from_file=tmp_path / "answer.txt")
    assert (
        "2 of 3 classes are not described: glass vial: 7 of 8 descriptions usable ('odour' has 1" in message
    )
    assert "hex key: 0 of 8" in message and "answer.txt, or paste what --print-request prints now" in message
    status, request, err = run(classes=names, print_request=True)
    assert status == 0 and "- glass vial\n- hex key\n" in request and "metal bracket" not in request
    assert "left as they are: metal_bracket" in err
    assert run(classes="metal bracket", print_request=True)[1] == ""


def test_an_answer_that_is_no_text_is_refused(fail, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    for name, wanted in (("gone.txt", "no such file"), ("", "no such file"), ("picture.png", "UTF-8")):
        message = fail(from_file=tmp_path / name)
        assert wanted in message and str(tmp_path / name) in message


def test_an_answer_that_is_far_too_large_is_not_read(fail, tmp_path):
    with (tmp_path / "film.mp4").open("wb") as file:
        file.truncate(describe.MOST_BYTES + 1)
    assert "too large for an answer" in fail(from_file=tmp_path / "film.mp4")


# ---- ensembles

GOOD = [f"{part} without a flaw" for part in PARTS] + [
    "clean part",
    "even finish, dry and bright",
    "new part",
]
BAD = [f"{part} with a crack" for part in PARTS] + ["dirty part", "worn finish", "part in pieces"]


def sentences(path: Path, kind: str) -> list[str]:
    return load(path)[kind]["prompts"]


def test_an_ensemble_is_asked_for_kind_by_kind_and_becomes_a_sound_file(run, out):
    with ChatServer(says({"normal": GOOD}), says({"abnormal": BAD})) as server:
        status, stdout, err = run(server, ensemble="castings", about="castings and forgings", count=10)
    assert (status, err) == (0, "") and "abnormal: 10 sentences" in stdout and f"wrote {out}" in stdout
    assert read_texts([out], "object") == (tuple(GOOD), tuple(BAD))
    assert load(out)["ensemble"] == "castings"
    normal, abnormal = server.asked
    assert "These are about castings and forgings. Give 10 sentences" in normal
    assert "- normal: " in normal and "- abnormal: " not in normal and '"normal": [..., ...]' in normal
    assert "- abnormal: " in abnormal and "- normal: " not in abnormal


def test_the_source_of_a_list_tells_model_date_host_and_request(run, out):
    with ChatServer(says({"normal": GOOD}), says({"abnormal": BAD})) as server:
        run(server, ensemble="castings", count=10)
    sources = load(out)["sources"]
    for kind, said in zip(("normal", "abnormal"), server.asked, strict=True):
        source = sources[load(out)[kind]["source"]]
        assert "Model: tiny-llm, at 127.0.0.1." in source and source.endswith(f"The first request: {said}")
    assert len(sources) == 2 and all(re.match(r"\w+ \d{4}-\d{2}-\d{2} tiny-llm$", name) for name in sources)
    assert KEY not in out.read_text(encoding="utf-8")


def test_a_sentence_is_tidied_and_one_against_the_rules_is_asked_for_again(run, out):
    first = ["A photo of a Clean Part.", "an even finish, dry and bright", "a stale smell", *GOOD[:7]]
    with ChatServer(
        says({"normal": first}), says({"normal": GOOD[9:]}), says({"abnormal": ["clean part", *BAD]})
    ) as server:
        assert run(server, ensemble="castings", count=10)[0] == 0
    assert sentences(out, "normal") == [*GOOD[7:9], *GOOD[:7], "new part"]
    assert "'a stale smell' is nothing visible" in server.asked[1] and "Give 1 further" in server.asked[1]
    assert sentences(out, "abnormal") == BAD  # what is normal cannot be abnormal as well


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("bottle with a chip", "names a class (bottle), and is to hold for all"),
        ("row of metal nuts", "names a class (metal nut)"),
        ("part with a strange odour", "nothing visible (odour)"),
        ("part; bent", "not plain English words with no punctuation but commas"),
        ("part {classname}", "not plain"),
        ("part ,bent", "not plain"),
        ("part", "has 1 words instead of 2 to 20"),
        ("part " * 21, "has 21 words"),
        ("known flaw", "is there twice"),
        ("x9z8q7 " * 19, "longer than CLIP's context"),
        (None, "not plain"),
    ],
)
def test_a_sentence_against_the_rules_is_refused(text, fault):
    kept, (said,) = review.review_sentences([text], ["known flaw"])
    assert kept == [] and fault in said and "\n" not in said


def test_a_sentence_may_hold_what_a_description_may_not():
    text = "surface with a long bright scratch, seen from the side under a low and very strong light"
    assert review.review_sentences([text]) == ([text], [])
    assert review.review([text], "bolt")[0] == []


def test_the_limit_of_a_sentence_is_exactly_clips_context():
    encode, seen = open_clip.get_tokenizer("ViT-B-32").encode, set()
    for words in range(1, 10):
        text = " ".join(["q9q9q9"] * 10 + ["q9"] + ["dent"] * words)
        needed = len(encode(f"a photo of a {text}.")) + 2
        assert bool(review.review_sentences([text])[0]) == (needed <= 77)
        seen.add(needed)
    assert {77, 78} <= seen


def test_the_list_that_was_written_before_a_failure_is_kept_and_the_same_command_goes_on(run, fail, out):
    flags = {"ensemble": "castings", "count": 10}
    with ChatServer(says({"normal": GOOD}), fails(401, "expired")) as server:
        assert "1 of 2 lists were asked before; the same command goes on" in fail(server, **flags)
    assert sentences(out, "normal") == GOOD and sentences(out, "abnormal") == []
    with ChatServer(says({"abnormal": [GOOD[0], *BAD]})) as server:
        assert run(server, **flags)[0] == 0
    assert (
        len(server.requests) == 1 and sentences(out, "normal") == GOOD and sentences(out, "abnormal") == BAD
    )
    status, stdout, _ = run(**flags)  # nothing is left, so nobody is asked
    assert status == 0 and "written already" in stdout and "left as they are: normal, abnormal" in stdout


def test_a_list_that_stays_too_short_is_named_and_the_other_is_written(fail, out):
    with ChatServer(*[says({"normal": GOOD[:4]})] * 2, says({"abnormal": BAD})) as server:
        message = fail(server, ensemble="castings", count=10, attempts=2)
    assert message.startswith("1 of 2 lists are not written: normal: 4 of 10 sentences usable (")
    assert "lower --count" in message
    assert sentences(out, "normal") == [] and sentences(out, "abnormal") == BAD


def test_renew_writes_own_lists_anew_and_leaves_what_was_changed_by_hand(run, out):
    with ChatServer(says({"normal": GOOD}), says({"abnormal": BAD})) as server:
        run(server, ensemble="castings", count=10)
    content = load(out)
    content["abnormal"]["prompts"][0] = "My own words"
    out.write_text(json.dumps(content))
    newer = [f"well kept {part}" for part in PARTS] + ["whole part", "calm finish", "good part"]
    with ChatServer(says({"normal": newer})) as server:
        assert run(server, ensemble="castings", count=10, renew=True, model="newer-llm")[0] == 0
    assert sentences(out, "normal") == newer and sentences(out, "abnormal")[0] == "My own words"
    assert sorted(name.split()[2] for name in load(out)["sources"]) == ["newer-llm", "tiny-llm"]


def test_a_printed_request_of_an_ensemble_names_both_kinds_and_its_answer_is_read_back(run, out, tmp_path):
    flags = {"ensemble": "castings", "count": 10}
    status, request, err = run(print_request=True, **flags)
    assert (status, err) == (0, "") and not out.exists()
    assert "- normal: " in request and '"abnormal": [..., ...]' in request
    answer = f"Sure:\n```json\n{json.dumps({'Normal': GOOD, 'Abnormal': BAD[:9]})}\n```"
    (tmp_path / "answer.txt").write_text(answer)
    status, _, err = run(from_file=tmp_path / "answer.txt", model="Chatty 3", **flags)
    assert status == 2 and "abnormal: 9 of 10 sentences usable (its list has only 9)" in err
    assert sentences(out, "normal") == GOOD
    (source,) = load(out)["sources"].values()
    assert "Model: Chatty 3, in a chat window." in source and source.endswith(request.rstrip())
    status, request, err = run(print_request=True, **flags)
    assert "- abnormal: " in request and "- normal: " not in request and "left as they are: normal" in err


def test_a_list_written_by_somebody_else_meanwhile_stays(out):
    record = entries.Record("m", "at h", "2026-01-01", (("request", "answer"),))
    assert ensemble_file.put(out, "mine", "normal", GOOD, record, renew=False)
    before = out.read_text()
    assert not ensemble_file.put(out, "mine", "normal", BAD, record, renew=False)
    assert out.read_text() == before
    assert ensemble_file.put(out, "mine", "normal", BAD, record, renew=True)
    assert sentences(out, "normal") == BAD and list(load(out)["sources"]) == ["normal 2026-01-01 m"]


def test_a_source_that_both_lists_name_is_not_dropped_with_one(out):
    record = entries.Record("m", "at h", "2026-01-01", (("request", "answer"),))
    ensemble_file.put(out, "mine", "normal", GOOD, record, renew=False)
    content = load(out)
    content["abnormal"] = content["normal"]
    out.write_text(json.dumps(content))
    ensemble_file.put(out, "mine", "normal", BAD, record, renew=True)
    assert list(load(out)["sources"]) == ["normal 2026-01-01 m", "normal 2026-01-01 m (2)"]
    assert sentences(out, "abnormal") == GOOD


HALF = {"ensemble": "castings", "sources": {}, "normal": {"prompts": []}, "abnormal": {"prompts": []}}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("no json", "mend it"),
        ("[]", "is no ensemble"),
        ('{"ensemble": "castings", "ensemble": "x"}', "stands twice"),
        (json.dumps({"dataset": "x", "sources": {}, "classes": {}}), "is no ensemble"),
        (json.dumps(HALF | {"normal": {"prompts": [3]}}), "among the prompts of normal is 3"),
        (
            json.dumps(HALF | {"normal": {"prompts": ["a"], "source": []}}),
            "the source of normal must be a text",
        ),
        (json.dumps(HALF | {"sources": []}), "sources must be an object"),
        (json.dumps(HALF | {"ensemble": "forgings"}), "holds the ensemble 'forgings'"),
    ],
)
def test_a_file_that_is_no_ensemble_or_another_one_is_left_alone(fail, out, content, wanted):
    out.write_text(content)
    with ChatServer() as server:
        message = fail(server, ensemble="castings")
    assert str(out) in message and wanted in message
    assert out.read_text() == content and server.requests == []


def test_states_that_were_written_by_hand_are_left_as_they_are(run, out):
    states = {"templates": ["a {state}"], "normal": {"states": ["good {classname}"]}}
    out.write_text(json.dumps(HALF | states))
    for renew in (None, True):
        with ChatServer(says({"abnormal": BAD})) as server:
            assert run(server, ensemble="castings", count=10, renew=renew)[0] == 0
        assert read_texts([out], "nut") == (("a good nut",), tuple(BAD))


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"count": 9}, "--count 9: wanted 10 to 200, or leave it out for 90"),
        ({"count": 201}, "--count 201"),
        ({"ensemble": " "}, "--ensemble ''"),
        ({"about": "a\nb"}, "--about 'a b'"),
        ({"out": None}, "--out prompts/ensembles/mine.json"),
        ({}, "say which model to ask"),
    ],
)
def test_wrong_flags_of_an_ensemble_end_in_one_line(fail, out, flags, wanted):
    assert wanted in fail(**({"ensemble": "castings"} | flags)) and not out.exists()


def test_an_ensemble_has_no_classes(run):
    status, _, err = run(ensemble="castings", classes="bolt")
    assert status == 2 and "not allowed with argument" in err
