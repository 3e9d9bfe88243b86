"""Other tests of the same images stand beside a report's own run: metrics, scores, maps."""

import json
import re

import pytest

from filo.errors import InputError
from filo.report import write_report
from tests.commands import run as run_command
from tests.runs import HOSTILE, make_prediction, make_test_run


@pytest.fixture
def two(tmp_path):
    """A FiLo and an AnomalyCLIP that were tested on the same images."""
    one = make_test_run(tmp_path / "one", trained={"dataset": "visa"})
    other = make_test_run(tmp_path / "other", method="anomalyclip")
    about = json.loads((other / "results.json").read_text())
    about["classes"]["nut"]["auroc_sp"] = 0.999
    about["mean"]["auroc_px"] = None
    (other / "results.json").write_text(json.dumps(about))
    return one, other


def test_metrics_stand_class_by_class_with_the_best_set_off(two):
    one, other = two
    page = write_report(one, beside=[("AnomalyCLIP", other)]).read_text()
    section = re.search(r'<section id="comparison">.*?</section>', page, re.S)[0]
    heads = re.findall(r'<th scope="col">(.*?)</th>', section)
    assert heads[:3] == ["class", "image AUROC · FiLo", "image AUROC · AnomalyCLIP"] and len(heads) == 7
    nut = re.search(r'<th scope="row">nut</th>(.*?)</tr>', section, re.S)[1]
    own = json.loads((one / "results.json").read_text())["classes"]["nut"]["auroc_sp"]
    assert f">{100 * own:.1f}</td>" in nut and "<b>99.9</b>" in nut  # ours is lower, so it is not set off
    assert "n/a" in section.split("<tfoot>")[1]


def test_cards_show_the_other_score_and_a_third_picture(two):
    one, other = two
    alone = write_report(one).read_text()
    both = write_report(one, beside=[("AnomalyCLIP", other)]).read_text()
    assert "AnomalyCLIP" not in alone and 'class="beside"' not in alone
    assert both.count('<p class="beside">AnomalyCLIP ') == both.count('<figure class="card"') > 0
    assert "The next map is that of AnomalyCLIP, from" in both
    widths = [int(re.search(r'<img [^>]*width="(\d+)"', page)[1]) for page in (alone, both)]
    assert widths[1] > 1.4 * widths[0]


def test_a_name_is_text_whatever_it_holds(two):
    one, other = two
    page = write_report(one, beside=[(HOSTILE, other)]).read_text()
    assert "<script>hacked" not in page and "&lt;script&gt;hacked=2" in page


def test_an_image_without_a_map_there_leaves_a_gap(two, tmp_path):
    one, _ = two
    bare = make_test_run(tmp_path / "bare", method="winclip", pictures=False)
    page = write_report(one, beside=[("WinCLIP", bare)]).read_text()
    assert '<p class="beside">WinCLIP ' in page


def test_tests_of_other_images_and_predictions_are_refused(two, tmp_path):
    one, _ = two
    foreign = make_test_run(tmp_path / "foreign", classes=("brain",))
    prediction = make_prediction(tmp_path / "prediction")
    for run, other, wanted in (
        (one, foreign, "has no image of"),
        (one, prediction, "is a prediction: name a run of test.py"),
        (prediction, one, "--beside is for runs of test.py"),
        (one, tmp_path / "nowhere", "holds neither"),
    ):
        with pytest.raises(InputError, match=wanted):
            write_report(run, beside=[("other", other)])


def test_the_command_takes_names_and_folders(two, monkeypatch, capfd):
    one, other = two
    status, out, _ = run_command(monkeypatch, capfd, "filo/report/__main__.py", one, "--beside", f"A={other}")
    assert status == 0 and "report.html" in out and "image AUROC · A" in (one / "report.html").read_text()
