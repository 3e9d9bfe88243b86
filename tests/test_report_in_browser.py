"""The report in a real browser: no script error, no missing picture, sorting, filtering, phone and paper.

Needs chromium (`apt-get install chromium`); without it these tests are skipped.
"""

import numpy as np
import pytest
from PIL import Image

from filo.report import write_report
from tests.browser import CHROMIUM, Browser
from tests.runs import HOSTILE, make_prediction, make_test_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: install it with your system's package manager"
)

ENTER, SPACE = ("Enter", 13, "\r"), (" ", 32, " ")  # as `Browser.press` takes them
COLUMN = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[{}].textContent.trim())"
HEAD = "document.querySelector('table').tHead.rows[0].cells[{}]"
CARDS = "[...document.querySelectorAll('.card')].filter(card => card.checkVisibility()).length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    classes = ("washer", "bottle", HOSTILE, "nut")
    run = make_test_run(tmp_path_factory.mktemp("runs") / "test", classes=classes, normal=3, anomalous=3)
    return write_report(run)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    return write_report(
        make_prediction(tmp_path_factory.mktemp("runs") / "predict", names=("bracket", HOSTILE))
    )


@pytest.fixture(params=["tested", "predicted"])
def page(request):
    return request.getfixturevalue(request.param)


def test_nothing_fails_nothing_is_fetched_and_every_picture_is_there(browser, page):
    browser.open(page)
    broken = browser.ask(
        "Promise.all([...document.images].map(i => { i.loading = 'eager'; "
        "return i.decode().then(() => i.naturalWidth > 0 ? '' : i.alt, () => i.alt) }))"
    )
    assert len(broken) > 8 and set(broken) == {""}
    assert browser.errors == [] and browser.ask("typeof hacked") == "undefined"
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}


@pytest.mark.parametrize("press", ["click", ENTER, SPACE], ids=["mouse", "enter", "space"])
def test_a_table_sorts_by_the_column_that_is_chosen(browser, tested, press):
    browser.open(tested)
    before = browser.ask(COLUMN.format(0))
    for direction in ("ascending", "descending", "ascending"):
        button = HEAD.format(0) + ".querySelector('button')"
        if press == "click":
            browser.ask(button + ".click()")
        else:
            browser.ask(button + ".focus()")
            browser.press(*press)
        names = browser.ask(COLUMN.format(0))
        assert sorted(names) == sorted(before)
        assert names == sorted(names, key=str.lower, reverse=direction == "descending")
        assert browser.ask(HEAD.format(0) + ".getAttribute('aria-sort')") == direction
        before = names
    assert browser.ask("document.querySelector('tfoot').textContent").startswith("mean")
    assert browser.errors == []


def test_numbers_sort_as_numbers_and_what_is_undefined_comes_last(browser, tested):
    browser.open(tested)
    values = ["9.9", "n/a", "10.1", "-1"]
    browser.ask(
        "[...document.querySelector('table').tBodies[0].rows].forEach((row, i) => { "
        f"const cell = row.cells[4], value = {values}[i]; cell.textContent = value; "
        "if (value === 'n/a') delete cell.dataset.v; else cell.dataset.v = value })"
    )
    for expected in (["10.1", "9.9", "-1", "n/a"], ["-1", "9.9", "10.1", "n/a"]):
        browser.ask(HEAD.format(4) + ".querySelector('button').click()")
        assert browser.ask(COLUMN.format(4)) == expected


def test_images_can_be_found_by_name_and_by_decision(browser, predicted):
    browser.open(predicted)
    assert browser.ask(CARDS) == 6  # those that seem normal are folded
    browser.ask("document.querySelector('.filter [value=no]').click()")
    assert browser.ask(CARDS) == 6
    browser.ask("document.querySelector('.filter [value=\"\"]').click()")
    browser.ask("document.querySelector('.filter [name=word]').focus()")
    browser.call("Input.insertText", text="3-.PNG")
    assert browser.ask(CARDS) == 2
    assert browser.ask("document.querySelector('output').textContent") == "2 of 12 images"
    assert browser.errors == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_never_scrolls_sideways_but_its_tables_do(browser, page, width):
    browser.open(page, width, 844)
    assert browser.ask("document.documentElement.scrollWidth") == width
    wide = browser.ask(
        "Math.max(...[...document.querySelectorAll('.wide')].map(e => e.getBoundingClientRect().right))"
    )
    assert wide <= width
    small = browser.ask(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && e.textContent.trim() && "
        "parseFloat(getComputedStyle(e).fontSize) < 11).map(e => e.tagName)"
    )
    assert small == []


CONTRAST = """(() => {
  const part = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 };
  const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b) };
  const ground = e => { for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor; if (!colour.endsWith(', 0)')) return colour } };
  const words = 'p, span, b, td, th, dt, dd, li, a, h1, h2, button';
  return Math.min(...[...document.querySelectorAll(words)].map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e) || 'rgb(255, 255, 255)')];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) }));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_has_contrast_in_light_and_dark(browser, page, scheme):
    browser.open(page, prefers_color_scheme=scheme)
    assert browser.ask("getComputedStyle(document.body).backgroundColor")[4:6] == (
        "25" if scheme == "light" else "22"
    )
    assert browser.ask(CONTRAST) >= 4.5


def test_without_scripts_everything_is_still_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.ask("document.querySelectorAll('th button').length") == 0
        assert browser.ask("document.querySelectorAll('.filter:not([hidden])').length") == 0
        assert (
            browser.ask("[...document.images].filter(i => i.getBoundingClientRect().width > 100).length") > 4
        )
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_what_is_on_the_page_is_painted(browser, tested, tmp_path):
    browser.open(tested, 390, 844)
    browser.ask("document.querySelector('.card img').scrollIntoView(); new Promise(requestAnimationFrame)")
    browser.ask("document.querySelector('.card img').decode().then(() => new Promise(requestAnimationFrame))")
    browser.screenshot(tmp_path / "phone.png")
    pixels = np.asarray(Image.open(tmp_path / "phone.png").convert("RGB")).reshape(-1, 3)
    assert len(pixels) == 390 * 844 and len(np.unique(pixels, axis=0)) > 5000  # a photograph is among it
    assert (pixels == (180, 66, 15)).all(1).any()  # the accent colour of the style sheet


def test_it_prints(browser, tested, tmp_path):
    browser.open(tested)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") >= 2
    assert browser.errors == []
