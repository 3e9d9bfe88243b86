"""The report from a run's files: what it shows, whom it believes, and that no name is ever markup."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from filo.errors import InputError
from filo.markup import Markup, join, tag
from filo.metrics import COLUMNS, percent
from filo.plots import Scale
from filo.records import Record
from filo.report import pictures as of_pictures
from filo.report import run as of_run
from filo.report import write_report
from filo.report.cut import Cut, decided, find_cut, groups
from filo.report.format import anchor, count, duration, number, points
from filo.report.published import FILE, find_published
from filo.report.run import Run, choose_scale, read_run
from filo.report.similar import similarity_table
from filo.report.table import kinds_table
from filo.summary import by_decision, by_label, summarise
from tests.commands import run as run_command
from tests.runs import HOSTILE, make_prediction, make_test_run

VOID = {"meta", "img", "input", "wbr"}


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, text, and whether every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.open, self.in_order = [], [], [], True
        self.feed(html)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        self.in_order &= bool(self.open) and self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, name, **attributes):
        chosen = [found for kind, found in self.elements if kind == name]
        return [a for a in chosen if all(a.get(k.rstrip("_")) == v for k, v in attributes.items())]


def read(run, scale=None):
    return Page(write_report(run, scale).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    return make_test_run(tmp_path_factory.mktemp("runs") / "test")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    return make_prediction(tmp_path_factory.mktemp("runs") / "predict", names=("bracket", HOSTILE))


@pytest.fixture(scope="module")
def pages(tested, predicted):
    return {run: read(run) for run in (tested, predicted)}


@pytest.fixture(params=["tested", "predicted"])
def either(request, pages):
    return request.getfixturevalue(request.param)


# the page as a page


def test_a_page_is_well_formed_and_needs_nothing_beside_itself(either, pages):
    page = pages[either]
    assert page.in_order and page.open == []
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert re.match(r"data:|#", attributes.get(name) or "#"), attributes
    text = (either / "report.html").read_text()
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", text)


def test_a_name_is_never_markup(either, pages):
    page = pages[either]
    assert len(page.all("script")) == 1
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert HOSTILE in page.text
    assert "a dent {class}" in page.text and "rust <b>" in page.text


def test_only_its_own_script_may_run(either):
    text = (either / "report.html").read_text()
    script = re.search(r"<script>(.*)</script>\s*</body>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = Page(text).all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_every_link_leads_somewhere_and_every_picture_is_told_in_words(either, pages):
    page = pages[either]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    for image in page.all("img"):
        assert image["alt"] and image["loading"] == "lazy" and int(image["width"]) > 0
    assert all("scope" in head for head in page.all("th"))
    assert len(page.all("svg", role="img")) == len(page.all("svg")) == len(page.all("title")) - 1


def test_the_same_files_give_the_same_page(either, tmp_path):
    copy = shutil.copytree(either, tmp_path / either.name)
    assert write_report(copy).read_bytes() == (either / "report.html").read_bytes()


def test_markup_escapes_all_that_is_not_markup():
    assert tag("p", "a < b", Markup("<i>c</i>"), None, ["d", 1]) == "<p>a &lt; b<i>c</i>d1</p>"
    assert (
        tag("a", class_="x", data_v=0.25, hidden=True, href=None) == '<a class="x" data-v="0.25" hidden></a>'
    )
    assert tag("img", alt="\"'>") == '<img alt="&quot;&#x27;&gt;">'
    assert join("caf\udce9") == "caf?"  # a file name that is no text


# what a test run shows


def test_numbers_in_words():
    assert [percent(0.9123), percent(None), percent(1.0)] == ["91.2", "n/a", "100.0"]
    assert [points(0.0123), points(-0.0123), points(-0.0001)] == ["+1.2", "\N{MINUS SIGN}1.2", "+0.0"]
    assert [number(-0.5), number(0.1234, signed=True), number(None)] == [
        "\N{MINUS SIGN}0.500",
        "+0.123",
        "n/a",
    ]
    assert [count(1, "image"), count(2000, "image"), count(2, "class")] == [
        "1 image",
        "2,000 images",
        "2 classes",
    ]
    assert [duration(0.76871), duration(83.5), duration(200), duration(7500)] == [
        "0.769 s",
        "83.5 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert anchor("Hex nut <b>", 3) == "class-3-hex-nut-b" and anchor("漢", 1) != anchor("字", 2)


def test_the_table_has_the_results_in_percent(tested, pages):
    page, results = pages[tested], json.loads((tested / "results.json").read_text())
    cells = {a.get("data-v") for a in page.all("td")}
    for values in [*results["classes"].values(), results["mean"]]:
        assert f"{values['auroc_sp']:.6g}" in cells and f"{100 * values['auroc_sp']:.1f}" in page.text
    assert "1 of 5 1 of 4" in page.text  # missed and false alarms


def test_what_is_undefined_is_n_a(tmp_path):
    note = "nut has no masks <i>"
    run = make_test_run(tmp_path, classes=("nut",), notes=[note])
    results = json.loads((run / "results.json").read_text())
    results["classes"]["nut"]["aupro"] = results["mean"]["aupro"] = None
    (run / "results.json").write_text(json.dumps(results))
    page = read(run)
    assert "n/a" in page.text and note in page.text


def records_of(*scores_and_labels, **fields):
    return [
        Record(i, f"{i}.png", "nut", score=score, label=label, **fields)
        for i, (score, label) in enumerate(scores_and_labels)
    ]


def tally_of(records, sort=by_label):
    return summarise(records, sort).classes["nut"]


def indices(found):
    return {group.name: [record.index for record in group.records] for group in found}


def test_what_went_wrong_comes_first_the_worst_at_its_head():
    records = records_of((0.9, 0), (0.6, 0), (0.1, 0), (0.2, 1), (0.05, 1), (0.7, 1), (0.8, 1))
    found = groups(records, Cut(0.5))
    assert list(indices(found).items()) == [
        ("False alarms", [0, 1]),
        ("Misses", [4, 3]),
        ("Surest finds", [6, 5]),
        ("Calmest", [2]),
    ]


def test_a_flawless_class_shows_its_closest_calls():
    records = records_of(*[(0.1, 0)] * 6, *[(0.6 + i / 100, 1) for i in range(6)])
    found = indices(groups(records, Cut(0.5)))
    assert found["Closest calls"] == [6, 7, 8, 9] and found["Surest finds"] == [11, 10]
    assert "False alarms" not in found and "Misses" not in found


def test_a_group_says_how_many_there_are_though_it_shows_few():
    group = groups(records_of(*[(0.9, 0)] * 9, (0.95, 1)), Cut(0.5))[0]
    assert (len(group.records), group.total) == (4, 9)


def test_without_a_threshold_the_ends_are_shown_and_no_image_twice():
    found = indices(groups(records_of(*[(i / 10, 1) for i in range(6)]), Cut()))
    assert found == {"Highest scores": [5, 4, 3, 2], "Lowest scores": [0, 1]}


def test_the_threshold_is_the_runs_own_or_the_best_on_its_labels(tested, tmp_path):
    run = read_run(tested)
    cut = find_cut(run, "nut", run.classes["nut"])
    assert 0.3 < cut.threshold < 0.6 and "optimistic" in cut.origin
    given = read_run(make_test_run(tmp_path, classes=("nut",), thresholds={"nut": 0.65}))
    assert find_cut(given, "nut", given.classes["nut"]).threshold == 0.65
    one_sort = tally_of(records_of((0.5, 1), (0.6, 1)))
    assert find_cut(run, "nut", one_sort).threshold is None


def test_misses_are_counted_by_the_kind_of_defect():
    records = records_of((0.9, 1), (0.1, 1), kind="dent") + records_of((0.8, 1), kind="scratch")
    rows = re.findall(r"<tr>(.*?)</tr>", kinds_table(records, Cut(0.5)))[1:]
    assert [re.sub(r"<.*?>", " ", row).split() for row in rows] == [
        ["dent", "2", "1", "0.500"],
        ["scratch", "1", "0", "0.800"],
    ]
    assert kinds_table(records[:2], Cut(0.5)) is None  # one kind alone says nothing new


def test_descriptions_are_averaged_by_label_and_sorted_by_what_they_tell_apart():
    fits = {"normal_similarity": 0.5}
    records = [
        Record(0, "a", "nut", label=0, kinds=(("rust", 0.2), ("dent", 0.1)), **fits),
        Record(1, "b", "nut", label=0, kinds=(("dent", 0.3), ("rust", 0.2)), **fits),
        Record(2, "c", "nut", label=1, kinds=(("dent", 0.7), ("rust", 0.3)), **fits),
    ]
    rows = re.findall(r"<tr>(.*?)</tr>", similarity_table(tally_of(records)))[1:]
    assert [re.sub(r"<title>.*?</title>|<.*?>", " ", row).split() for row in rows] == [
        ["what", "is", "normal", "0.500", "0.500", "+0.000"],
        ["dent", "0.200", "0.700", "+0.500"],
        ["rust", "0.200", "0.300", "+0.100"],
    ]
    assert similarity_table(tally_of(records_of((0.1, 0)))) is None


def test_curves_are_drawn_where_they_were_kept(tested, pages, tmp_path):
    assert "Overlap per region" in pages[tested].text
    bare = shutil.copytree(tested, tmp_path / "bare")
    (bare / "curves.json").unlink()
    page = read(bare)
    assert "Overlap per region" not in page.text and "Scores" in page.text


def test_without_pictures_the_page_says_so(tmp_path):
    bare = make_test_run(tmp_path, pictures=False)
    page = read(bare)
    assert page.all("img") == [] and "kept no pictures" in page.text and "Class by class" in page.text


def test_a_damaged_picture_is_a_gap_in_the_gallery(tested, pages, tmp_path):
    copy = shutil.copytree(tested, tmp_path / "copy")
    (copy / "small" / "000003.jpg").write_bytes(b"no image")
    page = read(copy)
    assert len(page.all("img")) == len(pages[tested].all("img")) - 1 and "no picture" in page.text


# the scale


def test_all_pictures_share_the_scale_that_the_run_states(predicted, tested, pages):
    assert choose_scale(read_run(predicted)) == Scale(0.1, 0.9, "the calibration")
    assert "maps of this run" in pages[tested].text


# published figures


def all_published():
    """Each published set: the method, its number of references, the source, its name, what is said of it."""
    for method, about in json.loads(FILE.read_text())["methods"].items():
        for shots, sources in {"0": about["sources"], **about.get("few_shot", {})}.items():
            for source, entry in sources.items():
                for name, each in entry["sets"].items():
                    yield method, int(shots), source, name, each


def test_published_means_are_those_of_their_classes():
    differs = set()
    for method, shots, source, name, entry in all_published():
        rows = list(entry.get("classes", {}).values())
        assert set(entry["mean"]) <= set(COLUMNS) and all(row.keys() == entry["mean"].keys() for row in rows)
        for metric, mean in entry["mean"].items():
            assert 0 < mean <= 100
            # each class is rounded, and their mean once more
            if rows and abs(sum(row[metric] for row in rows) / len(rows) - mean) > 0.1:
                differs.add((method, shots, source, name, metric))
    # as printed: the means of the rows are 81.0, 85.0, 85.6 and 88.7
    assert differs == {("winclip", shots, "paper", "visa", "ap_sp") for shots in (0, 1, 2, 4)}


def test_every_published_set_has_the_classes_of_the_others():
    sizes = {"mvtec": 15, "visa": 12, "mpdd": 6}
    names = {}
    for method, shots, source, name, entry in all_published():
        is_free = method in ("winclip", "fade")
        trained_on = None if is_free else "visa" if name == "mvtec" else "mvtec"
        assert entry.get("trained_on") == trained_on, (method, shots, source, name)
        assert ("classes" in entry) == (name in sizes and method != "fade")
        if "classes" in entry:
            assert len(entry["classes"]) == sizes[name]
            assert names.setdefault(name, entry["classes"].keys()) == entry["classes"].keys()


def test_published_figures_stand_beside_ours_with_the_difference(tmp_path):
    page = read(make_test_run(tmp_path, classes=("metal_nut", "pill"), dataset="mvtec"))
    ours = json.loads((tmp_path / "results.json").read_text())["classes"]["metal_nut"]["auroc_sp"]
    assert f"paper 77.0 {points(ours - 0.77)} log 99.2 {points(ours - 0.992)}" in page.text
    assert "compare means, not classes" in page.text
    assert "paper 82.4" in page.text and "91.2" not in page.text  # of 15 classes, these are two
    assert "over the 2 tested classes of 15" in page.text
    assert "weights trained on" not in page.text  # on VisA, as published


def test_a_run_stands_beside_the_figures_of_its_own_method(tmp_path):
    made = {"classes": ("metal_nut", "pill"), "dataset": "mvtec", "trained": {"dataset": "btad"}}
    page = read(make_test_run(tmp_path, method="anomalyclip", **made))
    assert "AnomalyCLIP · zero-shot anomaly detection · test" in page.text
    assert "paper 93.6" in page.text and "log 92.4" in page.text and "paper 77.0" not in page.text
    assert "AnomalyCLIP, arXiv 2310.18961" in page.text and "tables 1 and 10 to 17" in page.text
    assert "figures of weights trained on visa; these were trained on btad" in page.text
    other = read(make_test_run(tmp_path, method=HOSTILE, **made))
    assert f"{HOSTILE} · zero-shot" in other.text and "arXiv" not in other.text


def test_published_figures_are_found_by_name_or_by_all_their_classes():
    classes = ["candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"]
    classes += ["pcb1", "pcb2", "pcb3", "pcb4", "pipe fryum"]
    whole = find_published("filo", "official_visa", classes)
    assert whole.of("mean", "aupro_legacy") == pytest.approx({"log": 0.854})
    assert whole.of("pipe fryum", "auroc_sp") == pytest.approx({"paper": 0.838, "log": 0.864})
    assert whole.of("candle", "aupro") == {}
    for dataset, tested in (
        ("demo_mvtec", ["wood", "hex_nut"]),
        ("parts", ["bottle"]),
        ("mvtec", ["bracket"]),
        (None, []),
        ("btad", ["01", "02"]),  # of three, of which only the mean is printed
        ("headct", ["brain", "spine"]),
        ("parts", ["brain"]),  # three sets have one class of that name
    ):
        assert find_published("anomalyclip", dataset, tested) is None
    assert find_published("filo", "mpdd", ["tubes"]) is None
    assert find_published("none", "mvtec", ["bottle"]) is None


def test_published_figures_are_those_of_as_many_references():
    one, four = (find_published("winclip", "mvtec", ["bottle", "cable"], shots) for shots in (1, 4))
    assert one.method == "WinCLIP, 1 shot" and four.method == "WinCLIP, 4 shots"
    assert one.of("cable", "auroc_px") == pytest.approx({"paper": 0.938, "program": 0.869})
    assert four.of("cable", "auroc_px") == pytest.approx({"paper": 0.949, "program": 0.890})
    assert find_published("winclip", "mvtec", ["bottle"], 3) is None
    assert find_published("filo", "mvtec", ["bottle"], 1) is None  # nothing of the kind was published


def test_a_page_says_how_many_references_were_shown(tmp_path):
    shown = {"references": {"metal_nut": ["a.png", "b.png"]}, "method": "winclip"}
    page = read(make_test_run(tmp_path, classes=("metal_nut",), dataset="mvtec", **shown))
    assert "WinCLIP, 2 shots · few-shot anomaly detection · test" in page.text
    assert "paper 99.4" in page.text and "paper 97.1" not in page.text


def test_the_published_mean_is_over_the_tested_classes_alone():
    two = find_published("filo", "mvtec", ["bottle", "metal nut"])
    assert two.of("mean", "auroc_sp") == pytest.approx(
        {"paper": (0.986 + 0.77) / 2, "log": (0.963 + 0.992) / 2}
    )
    assert (two.tested, two.known) == (2, 15)
    with_own = find_published("filo", "mvtec", ["bottle", "bracket"])
    assert with_own.of("bottle", "auroc_sp") and with_own.of("mean", "auroc_sp") == {}


def test_of_a_set_of_one_class_the_mean_is_the_class():
    chest = find_published("anomalyclip", "covid19", ["chest"])
    assert chest.of("chest", "ap_sp") == chest.of("mean", "ap_sp") == pytest.approx({"paper": 0.587})
    assert chest.of("mean", "auroc_px") == {}
    three = find_published("april-gan", "btad", ["01", "02", "03"])
    assert (
        three.of("mean", "auroc_sp") == pytest.approx({"anomalyclip": 0.736})
        and three.of("01", "auroc_sp") == {}
    )


def test_means_over_other_classes_stand_beside_nothing_and_that_is_said(tmp_path):
    page = read(make_test_run(tmp_path, classes=("metal_nut", "bracket"), dataset="mvtec"))
    assert "over other classes than were tested" in page.text and "paper 77.0" in page.text


def test_training_on_the_dataset_under_test_is_said(tmp_path):
    page = read(make_test_run(tmp_path, classes=("nut",), dataset="visa"))
    assert "not zero-shot" in page.text


# what a prediction shows


def test_every_image_of_a_prediction_is_there_the_highest_score_first(predicted, pages):
    page = pages[predicted]
    assert len(page.all("img")) == len(page.all("figure", class_="card")) == 12
    assert "3 of 6 images called anomalous" in page.text and "from filo.decisions.json" in page.text
    assert "broken-0.jpg: cannot be read as an image" in page.text
    assert "13 images of 2 classes" in page.text
    order = [
        float(s) for s in re.findall(r'class="score">([\d.]+)<', (predicted / "report.html").read_text())
    ]
    assert order == [*sorted(order[:3], reverse=True), *sorted(order[3:6], reverse=True)] * 2


def test_a_class_without_a_threshold_is_not_decided(tmp_path):
    undecided = {"thresholds": {}, "classes": {"bracket": {"undecided": "nobody calibrated <it>"}}}
    page = read(make_prediction(tmp_path, failed=0, **undecided))
    assert "6 images, none of them decided: nobody calibrated <it>." in page.text
    assert "called anomalous" not in page.text and len(page.all("img")) == 6


def test_images_are_parted_by_the_decision():
    records = records_of((0.1, None), (0.9, None), (0.6, None))
    parted = tally_of(records, by_decision({"nut": 0.5}))
    assert indices(decided(parted, Cut(0.5))) == {"Called anomalous": [1, 2], "Called normal": [0]}
    assert indices(decided(tally_of(records, by_decision()), Cut())) == {"Images": [1, 2, 0]}


def test_of_very_many_images_the_highest_scores_of_every_class_are_shown_and_all_are_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(of_run, "SHOWN", 12)
    monkeypatch.setattr(of_run, "FEWEST", 3)
    names = ("bracket", "nut", "bolt")
    page = read(make_prediction(tmp_path, names=names, images=20, failed=0, images_failed=0))
    assert len(page.all("figure", class_="card")) == 3 * 12  # nothing says how many there are
    about = json.loads((tmp_path / "predict.json").read_text()) | {"images": 60}
    (tmp_path / "predict.json").write_text(json.dumps(about))
    page = read(tmp_path)
    assert len(page.all("figure", class_="card")) == len(page.all("img")) == 3 * 4
    assert page.text.count("10 of 20 images called anomalous") == 3
    assert "Called anomalous 4 of 10, the highest score first" in page.text and "60 images of 3" in page.text
    assert page.text.count("Of each class the highest scores are shown; predictions.csv has all images.") == 1
    assert "how many of 20 images have which score" in (tmp_path / "report.html").read_text()


def test_a_run_in_which_everything_failed_still_has_a_page(tmp_path):
    page = read(make_prediction(tmp_path, images=0, failed=30))
    assert "30 could not be read" in page.text and "and 18 more failed" in page.text


def test_pictures_never_outgrow_their_budget(tmp_path, monkeypatch):
    run = make_prediction(tmp_path, images=40)
    monkeypatch.setattr(of_pictures, "RUNGS", ((64, 80), (32, 40), (16, 30)))
    whole = sum(len(a["src"]) for a in read(run).all("img"))
    monkeypatch.setattr(of_pictures, "BUDGET", whole // 2)
    page = read(run)
    assert len(page.all("img")) == 40 and sum(len(a["src"]) for a in page.all("img")) < whole // 2 + 1000
    monkeypatch.setattr(of_pictures, "BUDGET", 4_000)
    page = read(run)
    shown = [a["alt"] for a in page.all("img")]
    assert 0 < len(shown) < 40 and sum(len(a["src"]) for a in page.all("img")) <= 5_000
    assert all("anomalous" in words for words in shown)  # the highest scores keep theirs
    assert "To keep this page small, only the" in page.text


# the command


def test_the_command_writes_reports_from_files_alone(tested, predicted, tmp_path, monkeypatch, capfd):
    copies = [shutil.copytree(run, tmp_path / run.name) for run in (tested, predicted)]
    for copy in copies:
        (copy / "report.html").unlink(missing_ok=True)
    arguments = [*copies, "--scale", 0.2, 0.8]
    status, out, err = run_command(monkeypatch, capfd, "filo/report/__main__.py", *arguments)
    assert (status, err) == (0, "") and out.count("report: ") == 2
    for copy in copies:
        assert "from 0.2 to 0.8: given by --scale" in Page((copy / "report.html").read_text()).text


def no_run(run):
    shutil.rmtree(run)


def half_results(run):
    (run / "results.json").write_text('{"classes": {')


def other_results(run):
    (run / "results.json").write_text('{"loss": 1}')


def no_lines(run):
    (run / "predictions.jsonl").unlink()


def damaged_line(run):
    with (run / "predictions.jsonl").open("a") as file:
        file.write('{"index": 1\n')


def infinite_score(run):
    path = run / "predictions.jsonl"
    path.write_text(re.sub(r'"score": 0\.\d+', '"score": NaN', path.read_text()))


def odd_scale(run):
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"scale": {"low": 1}}))


BAD = {
    no_run: "holds neither results.json nor predict.json",
    half_results: r"results\.json is damaged",
    other_results: r"results\.json has no classes and mean",
    no_lines: r"holds no predictions\.jsonl",
    damaged_line: r"predictions\.jsonl, line 19 is damaged",
    infinite_score: "no finite score",
    odd_scale: "states no usable scale",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_run_is_one_clear_line(spoil, tested, tmp_path, monkeypatch, capfd):
    copy = shutil.copytree(tested, tmp_path / "copy")
    (copy / "report.html").unlink(missing_ok=True)
    spoil(copy)
    status, _, err = run_command(monkeypatch, capfd, "filo/report/__main__.py", copy)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(BAD[spoil], err), err
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize("ends", [(1, 0), (0.5, 0.5), ("nan", 1)])
def test_a_scale_that_does_not_rise_is_refused(ends, tested, monkeypatch, capfd):
    status, _, err = run_command(monkeypatch, capfd, "filo/report/__main__.py", tested, "--scale", *ends)
    assert status == 2 and "error: --scale: a scale from" in err and err.count("\n") == 1


def test_a_report_that_cannot_be_written_is_one_clear_line(tested, tmp_path):
    copy = shutil.copytree(tested, tmp_path / "copy")
    (copy / "report.html").unlink(missing_ok=True)
    (copy / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(copy)


def test_classes_that_sound_alike_keep_their_own_place():
    run = Run(None, {}, summarise([], by_label, names=("a b", "a_b")))
    assert len({anchor(name, i) for i, name in enumerate(run.classes)}) == 2
