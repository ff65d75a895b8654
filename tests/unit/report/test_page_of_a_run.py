import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_contents import card, content, evaluation, full_content

from mke_ray.gate import GateDecision
from mke_ray.report import Picture, UnreadableFile, write_report
from mke_ray.report.page import draw_pictures, duration, render_page
from mke_ray.storage import open_root


class Outline(HTMLParser):
    """Tags, attributes and text of a page, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text.strip())

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures(content())


@pytest.fixture(scope="module")
def page(pictures):
    return render_page(content(), pictures)


def test_the_page_is_whole_html(page):
    assert Outline(page).open == []


def test_the_page_loads_nothing_from_anywhere(page):
    outline = Outline(page)
    assert {attrs["href"].split("/")[0] for attrs in outline.find("a")} - {"figures"} == {
        attrs["href"] for attrs in outline.find("a") if attrs["href"].startswith("#")
    }
    links = [
        attrs.get("src") or attrs.get("href") or "" for tag, attrs in outline.tags if tag != "a"
    ]
    assert {link.split(":")[0] for link in links if link and not link.startswith("#")} == {"data"}
    assert "<script" not in page
    assert not re.search(r"@import|url\((?!#)", page)
    assert not re.search(r'https?://(?!www\.w3\.org)[^"<\s]*', page)


def test_the_verdict_comes_first(page):
    said = [text for text in Outline(page).texts if text]
    body = said[said.index("Promoted") :]
    assert body[1].startswith("The multimodal student is promoted: 87.0% accuracy")
    assert body[2] == content().decision.reason


def test_every_figure_has_an_alternative_text_and_a_table(page):
    outline = Outline(page)
    assert all(attrs.get("alt") for attrs in outline.find("img"))
    drawings = outline.find("svg")
    assert len(drawings) == 5
    assert all(attrs.get("aria-label") for attrs in drawings)
    assert len(outline.find("table")) >= 6


def test_the_table_of_arms_has_every_arm_and_marks_the_shipped_one(page):
    rows = re.findall(r"<tr(.*?)</tr>", page, flags=re.DOTALL)
    (shipped,) = [row for row in rows if "MKE as published" in row and "+22.0" in row]
    assert 'class="shipped"' in shipped
    assert "87.0%" in shipped
    assert "84.0 to 90.0" in shipped
    assert any("Teacher" in row and "65.0%" in row for row in rows)


def test_what_comes_from_files_is_escaped(pictures):
    evil = "<script>alert(1)</script>"
    page = render_page(
        content(
            experiment=evil,
            config_yaml=evil,
            unreadable=[UnreadableFile(evil, evil)],
            cards=[card("wrong", key=evil)],
            decision=GateDecision(False, "rejected", evil),
            taught=evil,
        ),
        pictures,
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7


def test_who_taught_stands_below_the_verdict(pictures):
    page = render_page(content(taught="The teacher reads text."), pictures)
    said = [text for text in Outline(page).texts if text]
    assert said[said.index("Promoted") + 3] == "The teacher reads text."


def test_what_the_labels_went_through_is_told_in_its_section_and_not_in_the_verdict():
    seen = {"is_certain": True, "share": 0.3, "slopes": [1.0], "likelihood_ratio": 9.0}
    made = full_content()
    rounds = [replace(one, open_set=seen) for one in made.refinement]
    page = render_page(replace(made, refinement=rounds), draw_pictures(made))
    verdict, sections = page.split("<main>")
    for said in (
        "Log-likelihood",
        "expected calibration error",
        "it is to be expected",
        "At least",
    ):
        assert said not in verdict
        assert said in sections


def test_tiles_of_the_unlabeled_set_say_so(page):
    tiles = page.split('<dl class="tiles">')[1].split("</dl>")[0]
    assert "wrong labels of the unlabeled set" in tiles
    assert "right labels of the unlabeled set" in tiles


def test_a_student_without_a_value_on_the_select_part_has_a_reason(page):
    assert "learnt from the select part" not in page
    arms = dict(evaluation().arms)
    arms["mke"] = replace(arms["mke"], select=None)
    made = content(evaluation=evaluation(arms=arms))
    said = "MKE as published learnt from the select part, which says nothing of it."
    assert said in render_page(made, draw_pictures(made))


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ([0.1, 0.3], "within the interval that was expected (+10.0 to +30.0)"),
        ([0.3, 0.4], "less than was expected: the interval (+30.0 to +40.0) was missed"),
        ([0.0, 0.1], "more than was expected: the interval (+0.0 to +10.0) was missed"),
    ],
)
def test_a_missed_interval_of_the_preflight_is_told(interval, said):
    made = full_content()
    made = replace(made, preflight={**(made.preflight or {}), "interval": interval})
    assert f"What came: +22.0 points on the test set, {said}." in render_page(
        made, draw_pictures(made)
    )


def test_bad_files_are_counted_by_reason_and_listed(page):
    assert re.search(r"<code>truncated</code></th><td>4</td>", page)
    assert "unlabeled/broken.mp4" in page
    assert "(1 of 20)" in page
    unreadable, partial = page.split("What partial samples lack")
    assert "<code>truncated" in unreadable and "<code>no_audio" not in unreadable
    assert "<code>no_audio" in partial and "<code>truncated" not in partial


def test_a_page_without_pictures_of_samples_or_truth_is_whole_too():
    arms = {"teacher": evaluation().arms["teacher"]}
    bare = content(
        evaluation=evaluation(arms=arms, teacher_flow=None),
        histories=[],
        cards=[],
        unreadable=[],
        config_yaml="",
        fingerprints={},
        versions={},
        decision=GateDecision(False, "unverified", "No probe."),
    )
    page = render_page(bare, draw_pictures(bare))
    assert Outline(page).open == []
    assert "How did training go?" not in page
    assert "Not verified" in page


def test_the_report_is_page_figures_and_metrics(tmp_path):
    extra = Picture("boundaries", title="Where?", alt="Boundaries", png=b"png", note="")
    root = open_root(str(tmp_path))
    uri = write_report(root, content(pictures=[extra]))
    assert uri == f"{tmp_path}/report/index.html"
    names = set(root.names("report"))
    assert names == {
        "report/index.html",
        "report/metrics.json",
        "report/figures/arms.png",
        "report/figures/corrected.png",
        "report/figures/curves.png",
        "report/figures/boundaries.png",
        "report/figures/flow.png",
        "report/figures/seconds.png",
        "report/figures/samples_corrected.png",
        "report/figures/samples_wrong.png",
    }
    assert json.loads(root.read("report/metrics.json"))["arms"]["mke"]["value"] == 0.87
    assert 'alt="Boundaries"' in root.read("report/index.html").decode()


@pytest.fixture(scope="module")
def full():
    made = full_content()
    return render_page(made, draw_pictures(made))


def test_what_refining_did_to_the_labels_stands_beside_its_rounds():
    found = evaluation()
    arms = {**found.arms, "relabel_only": replace(found.arms["mke"], arm="relabel_only")}
    made = full_content()
    made = replace(made, evaluation=replace(made.evaluation, arms=arms))
    page = render_page(made, draw_pictures(made))
    assert "corrected 60.0%, of its right ones it corrupted 2.0%: 60.0% of them" in page
    assert "were right before, 82.8% after" in page


def test_a_run_that_has_everything_has_every_section_and_a_way_to_it(full):
    outline = Outline(full)
    assert outline.open == []
    anchors = [attrs["href"][1:] for attrs in outline.find("a") if attrs["href"][0] == "#"]
    assert anchors == [
        *("arms", "answers", "classes", "confidence", "reliability", "refinement", "modalities"),
        *("preflight", "scenes", "samples-corrected", "samples-wrong", "samples-corrupted"),
        *("training", "time", "data", "made"),
    ]
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and set(anchors) <= set(ids)


def test_numbers_stand_in_tables_beside_the_figures(full):
    text = re.sub(r"<[^>]+>", " ", full)
    text = re.sub(r"\s+", " ", text)
    assert "cat dog 18 14 2 2" in text  # 18 went from cat to dog: 14 corrected, 2 corrupted
    assert "cat 40 70.0% 92.5% +22.5" in text
    assert "90% to 100% 60 83.3% 93.3%" in text
    assert "Teacher 12.6% 1.50 1.8%" in text and "none fitted" in text
    assert "2, learnt 1.40 1 1 -0.360" in text
    assert "audio 1 89.3% 90.0 to 95.0 -4.0" in text
    assert "What came: +22.0 points on the test set, within the interval that was expected" in text


def test_time_and_money_are_told_by_stage_and_by_sample(full):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", full))
    assert "train 3 min 20 s 66.7% 0.20" in text
    assert "total 5 min 0 s 100.0% 0.30" in text
    assert "Samples per second 33.3" in text and "Media decoded 1.67 h" in text
    assert "Cost per 1,000 samples 0.0350" in text


def test_samples_that_can_be_played_have_a_player(full):
    outline = Outline(full)
    (video,), (audio,) = outline.find("video"), outline.find("audio")
    assert video["src"].startswith("data:video/mp4;base64,")
    assert video["poster"].startswith("data:image/jpeg;base64,")
    assert audio["src"].startswith("data:audio/mp4;base64,")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.26, "0.3 s"),
        (59.9, "59.9 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (7325, "2 h 2 min"),
    ],
)
def test_times_are_written_for_people(seconds, text):
    assert duration(seconds) == text
