"""The page of a run, and that of a comparison, in a real browser that a person might have."""

import io
import os
import shutil
from itertools import pairwise

import pyarrow as pa
import pytest
from PIL import Image
from report_contents import full_content

from mke_ray.report import write_report
from mke_ray.report.compare_page import write_comparison
from mke_ray.report.comparing import compare
from mke_ray.report.stored import stored_run
from mke_ray.storage import open_root

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

SCORES = pa.table(
    {
        "sample_id": list(range(40)),
        "group": [str(one // 2) for one in range(40)],
        "digest": [1] * 40,
        "teacher/0": [float(one % 3 == 0) for one in range(40)],
        "mke/0": [float(one % 5 != 0) for one in range(40)],
    }
)
# Sections of a comparison of two runs with equal seeds: there are no repeats to draw.
SECTIONS = {"report": 7, "comparison": 3}
SIZES = {"phone": 390, "tablet": 768, "desk": 1280}

# Texts whose contrast with what lies behind them is below that of WCAG 2.2 AA.
PALE = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const found = rgb(getComputedStyle(element).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const pale = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest('svg, [aria-hidden]')) continue;
    const seen = getComputedStyle(element);
    const [one, two] = [light(rgb(seen.color)), light(behind(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    const least = parseFloat(seen.fontSize) >= 24 ? 3 : 4.5;
    if (contrast < least) pale.push(`${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
  }
  return pale;
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path of the page of a run, and of a comparison of it with its copy."""
    folder = tmp_path_factory.mktemp("pages")
    roots = [open_root(str(folder / name)) for name in ("first", "second")]
    report, _ = (write_report(one, full_content(), SCORES) for one in roots)
    compared = write_comparison(
        open_root(str(folder / "out")), compare([stored_run(one) for one in roots])
    )
    return {"report": report, "comparison": compared}


class Opened:
    """A page, and what went wrong on it."""

    def __init__(self, browser, path, *, width=1280, scheme="light"):
        self.wrong = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.page.on("console", lambda said: self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", lambda asked: self.wrong.append(asked.url[:100]))
        self.page.on("request", self._check_local)
        self.page.goto(f"file://{path}")

    def _check_local(self, asked):
        if not asked.url.startswith(("file://", "data:")):
            self.wrong.append(f"asked for {asked.url}")

    def __enter__(self):
        return self.page

    def __exit__(self, *_):
        self.context.close()
        assert self.wrong == []


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_everything_is_rendered_within_the_width(browser, pages, name, width):
    with Opened(browser, pages[name], width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = page.evaluate(
            "[...document.querySelectorAll('section, figure svg, figure img')].map(one => "
            "[one.id || one.tagName, one.getBoundingClientRect().width, "
            "one.getBoundingClientRect().height, one.naturalWidth ?? 1])"
        )
        assert len(shown) > SECTIONS[name]
        assert [one for one in shown if min(one[1:]) < 1] == []
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        assert picture.width == width and picture.height > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_on_a_phone_captions_are_read_whole_and_tables_of_a_run_nearly(browser, pages, name):
    with Opened(browser, pages[name], width=SIZES["phone"]) as page:
        cut = page.eval_on_selector_all(
            ".scroll caption",
            "all => all.map(one => [one.innerText, one.closest('.scroll')]).filter(([, box]) => "
            "box.querySelector('caption').getBoundingClientRect().right > "
            "box.getBoundingClientRect().right + 1).map(([text]) => text)",
        )
        assert cut == []
        beyond = page.eval_on_selector_all(
            ".scroll", "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert name != "report" or max(beyond) < 40


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_lies_behind_them(browser, pages, name, scheme):
    with Opened(browser, pages[name], scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate(PALE) == []
        behind = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, behind[4:-1].split(","))) < 384) == (scheme == "dark")


def test_players_play(browser, pages):
    with Opened(browser, pages["report"]) as page:
        players = page.query_selector_all("video, audio")
        assert [one.evaluate("one => one.tagName") for one in players] == ["VIDEO", "AUDIO"]
        for one in players:
            one.evaluate("one => { one.muted = true; return one.play(); }")
            page.wait_for_function("one => one.currentTime > 0.05", arg=one, timeout=60_000)
            assert 1.5 < one.evaluate("one => one.duration") < 2.6
            assert one.evaluate("one => one.error") is None
            assert one.get_attribute("aria-label").startswith("Play unlabeled/clip-")
        assert players[0].evaluate("one => one.videoWidth") == 64


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_links_lead_somewhere(browser, pages, name):
    with Opened(browser, pages[name], width=390) as page:
        links = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
        anchors = [one for one in links if one.startswith("#")]
        files = [one for one in links if not one.startswith("#")]
        assert len(anchors) >= SECTIONS[name] and len(files) >= 2
        folder = os.path.dirname(pages[name])
        assert [one for one in files if not os.path.getsize(f"{folder}/{one}")] == []
        for one in anchors:
            page.click(f"nav a[href='{one}']")
            top = page.evaluate(f"document.querySelector('{one}').getBoundingClientRect().top")
            bottom = page.evaluate("innerHeight")
            assert -1 <= top < bottom


def test_on_paper_all_is_open_light_and_without_players(browser, pages):
    with Opened(browser, pages["report"], scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert not page.is_visible("video") and not page.is_visible("nav")
        heights = page.eval_on_selector_all(
            "details table, details pre",
            "all => all.map(one => one.getBoundingClientRect().height)",
        )
        assert heights and min(heights) > 10
        assert page.evaluate(PALE) == []
        assert page.pdf(format="A4").count(b"/Type /Page\n") > 1


def test_what_is_drawn_is_said_too(browser, pages):
    with Opened(browser, pages["report"]) as page:
        unsaid = page.evaluate(
            "[...document.querySelectorAll('svg, img')].filter(one => !one.closest('[aria-hidden]')"
            " && !(one.getAttribute('aria-label') || one.getAttribute('alt'))).length"
        )
        assert unsaid == 0
        without_table = page.evaluate(
            "[...document.querySelectorAll('section:has(figure.plot svg)')]"
            ".filter(one => !one.querySelector('table')).map(one => one.id)"
        )
        assert without_table == []
        levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => +one.tagName[1])")
        assert levels[0] == 1 and max(b - a for a, b in pairwise(levels)) <= 1
        ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))
