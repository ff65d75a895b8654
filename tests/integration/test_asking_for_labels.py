"""An open verdict, the labels that are asked for, and the verdict that they settle."""

import csv
import json
import re
from pathlib import Path

import pytest
from asking_world import CLASSES, asking_job, write_table

from mke_ray.ask.job import ask_of
from mke_ray.data.manifest import Manifest
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job, open_run
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.asked import records_of
from mke_ray.labels.probe import probe_part
from mke_ray.schema import Split
from mke_ray.storage import open_root


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Run the job, ask for labels, and return what there is then."""
    folder = tmp_path_factory.mktemp("asking")
    truth = write_table(folder)
    first = run_stages(asking_job(folder))
    with open_run(asking_job(folder, "ask.num=80")) as run:
        said = ask_of(run)
    (table,) = (folder / "run" / "asked").glob("*/labels.csv")
    return folder, truth, first, said, table


def filled(table: Path, truth: dict[str, str], into: Path, change=None) -> Path:
    """Write a table filled in with the truth."""
    rows = list(csv.DictReader(table.open()))
    for row in rows:
        row["label"] = truth[row["key"].partition("#")[2]]
    rows = change(rows) if change else rows
    with into.open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return into


def test_new_groups_of_the_gate_are_asked_for_and_no_others(asked):
    folder, _, first, said, _ = asked
    assert first["gate"]["verdict"] == "inconclusive"
    assert "probe.more=" in said
    (record,) = records_of(open_root(f"{folder}/run"))
    assert len(record.samples) == 80
    manifest = Manifest.open(open_root(f"{folder}/run/manifest"))
    splits = {
        row.sample_id: row.split for ref in manifest.unit_refs() for row in manifest.read_unit(ref)
    }
    for one in record.samples:
        assert splits[one.sample_id] == Split.UNLABELED
        assert probe_part(one.group) == "gate"
    strata = [one.stratum for one in record.samples]
    assert strata.count("disagree") / 80 > 1.5 * record.shares["disagree"]
    assert strata.count("agree") >= 5
    assert strata != sorted(strata)


def test_the_sheet_shows_no_answers_and_needs_no_network(asked):
    _, _, _, _, table = asked
    page = (table.parent / "index.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<article") == 80
    assert all(f"<option>{name}</option>" in page for name in CLASSES)
    assert (table.parent / "sheet.png").stat().st_size > 1000
    header, first, *_ = table.read_text().splitlines()
    assert header == "id,key,start_s,end_s,group,label"
    assert first.endswith(",")


def test_the_truth_settles_the_verdict(asked, tmp_path):
    folder, truth, first, _, table = asked
    more = filled(table, truth, tmp_path / "labels.csv")
    job = asking_job(folder, f"probe.more={more}")
    second = run_stages(job)
    gate = second["gate"]
    assert gate["verdict"] == "promoted"
    assert gate["num_samples"] == first["gate"]["num_samples"] + 80
    assert gate["openings"] == 2
    assert "80 of the samples were asked for" in gate["reason"]
    assert run_stages(job) == second  # and nothing is done or counted again
    with open_run(job) as run:
        ask_of(run)
    records = records_of(run.root)
    first_ids, second_ids = ({one.sample_id for one in record.samples} for record in records)
    assert not first_ids & second_ids


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [{**rows[0], "label": ""}, *rows[1:]], "the label is empty"),
        (lambda rows: [{**rows[0], "label": "cat"}, *rows[1:]], "'cat' is not one of the classes"),
        (lambda rows: [{**rows[0], "id": "q-1"}, *rows[1:]], "'q-1' was never asked for"),
        (lambda rows: [*rows, rows[0]], "occurs twice"),
        (lambda rows: rows[1:], "79 of the 80 samples"),
        (lambda rows: [{**row, "label": "?"} for row in rows], "at most one in ten"),
        (lambda rows: [{"id": row["id"]} for row in rows], "no column label"),
    ],
)
def test_a_table_that_is_not_what_was_asked_for_is_refused(asked, tmp_path, change, said):
    folder, truth, _, _, table = asked
    more = filled(table, truth, tmp_path / "labels.csv", change)
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_job(asking_job(folder, f"probe.more={more}"))


def test_another_division_of_the_probe_is_refused(asked, tmp_path):
    folder, truth, _, _, table = asked
    more = filled(table, truth, tmp_path / "labels.csv")
    with pytest.raises(ConfigError, match=r"gate\.select_fraction"):
        check_job(asking_job(folder, f"probe.more={more}", "gate.select_fraction=0.9"))


def test_labels_that_teach_most_are_of_the_select_part(asked):
    folder, *_ = asked
    with open_run(asking_job(folder, "ask.purpose=learn", "ask.num=20")) as run:
        ask_of(run)
        (record,) = (one for one in records_of(run.root) if one.purpose == "learn")
    assert len(record.samples) == 20
    assert {probe_part(one.group) for one in record.samples} == {"select"}
    assert json.loads(json.dumps(record.shares)) == {}
