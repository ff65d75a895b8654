"""The content of a report comes back as it was."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from report_contents import content, evaluation, full_content

from mke_ray.errors import StoreError
from mke_ray.report import write_report
from mke_ray.report.content import ReportContent
from mke_ray.report.page import draw_pictures, render_page
from mke_ray.report.stored import from_plain, stored_run, to_plain
from mke_ray.storage import open_root

SCORES = pa.table({"sample_id": [1], "group": ["a"], "digest": [1], "teacher/0": [1.0]})


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def test_the_page_that_is_made_again_is_the_page_that_was_there(root):
    write_report(root, full_content(), SCORES)
    first = root.read("report/index.html")
    found = stored_run(root)
    assert found.scores.equals(SCORES) and found.uri == root.uri
    again = render_page(found.content, draw_pictures(found.content))
    assert again.encode() == first


def test_what_is_stored_is_json_and_holds_no_scores_of_the_gate(root):
    write_report(root, full_content(), SCORES)
    plain = json.loads(root.read("report/content.json"))["content"]
    assert plain["evaluation"]["gate"] is None
    assert plain["cards"][0]["clip"] and plain["decision"]["verdict"] == "promoted"


def test_numbers_that_are_not_there_stay_apart_from_those_that_may_be_none():
    odd = replace(evaluation().arms["teacher"], class_ious=(0.5, float("nan")), ci95=None)
    made = content(evaluation=evaluation(arms={"teacher": odd}))
    back = from_plain(ReportContent, json.loads(json.dumps(to_plain(made))))
    arm = back.evaluation.arms["teacher"]
    assert arm.ci95 is None and arm.class_ious[0] == 0.5 and arm.class_ious[1] != arm.class_ious[1]
    assert back.evaluation.arms["teacher"].seeds == {0: 0.65}


def test_a_run_without_a_report_or_with_an_older_one_is_named(root):
    with pytest.raises(StoreError, match=f"{root.uri} holds no finished report"):
        stored_run(root)
    write_report(root, content())
    with pytest.raises(StoreError, match="a report of an older version"):
        stored_run(root)
    write_report(root, content(), SCORES)
    plain = json.loads(root.read("report/content.json"))
    root.write("report/content.json", json.dumps({**plain, "version": 99}).encode())
    with pytest.raises(StoreError, match="version 99"):
        stored_run(root)
