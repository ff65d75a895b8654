"""A search end to end: trials on Ray, finals, winner, its test result; killed and gone on with."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import composed
from job_processes import end_well, kill_once, start_job
from postgres import postgres_folder
from scipy import stats
from search_runs import (
    SPACE,
    check_runs_of_trials,
    command_line,
    finished_run,
    found_in,
    records_in,
    search_here,
    write_rows,
)

from mke_ray.errors import ConfigError
from mke_ray.expansion.whole import run_stages
from mke_ray.search.ledger import Ledger
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore

FEW = [
    "search.num_trials=5",
    "search.reduction=2",
    "search.final_seeds=[0,1]",
    "search.finalists=1",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    finished_run(folder)
    names = sorted(one.name for one in (folder / "run" / "fits").iterdir())
    (folder / "fits.json").write_text(json.dumps(names))  # of the run, which came first
    return folder


@pytest.fixture(scope="module")
def searched(run_folder: Path, ray_session: Any) -> Path:
    """Search once, and return a copy of what it left: others go on with the search itself."""
    search_here(run_folder, *SPACE, *FEW, "search.name=whole")
    return shutil.copytree(found_in(run_folder, "whole"), run_folder / "whole")


def test_a_search_leaves_a_winner_that_a_run_takes(searched: Path) -> None:
    folder, records = searched, Ledger(open_root(str(searched))).ended()
    assert [one.number for one in records] == [0, 1, 2, 3, 4]
    assert records[0].values["fusion"] == "concat"
    assert {one.state for one in records} <= {"finished", "stopped"}
    stopped = [one for one in records if one.state == "stopped"]
    assert all(one.curve[-1]["step"] < 32 for one in stopped)
    result = json.loads((folder / "result.json").read_text())
    test = json.loads((folder / f"test-trial-{result['winner']}.json").read_text())
    assert {0, result["winner"]} <= {one["number"] for one in result["finalists"]}
    assert set(test["winner"]["seeds"]) == {"0", "1"} and test["num_test"] == 200
    assert len(list(csv.reader((folder / "trials.csv").open()))) == 6
    assert "<svg" in (folder / "index.html").read_text()
    chosen = records[result["winner"]].values
    winner = yaml.safe_load((folder / "winner.yaml").read_text())
    assert winner["defaults"] == [{"override /fusion": chosen["fusion"]}]
    assert winner["fit"] == {"optimizer": {"lr": chosen["fit.optimizer.lr"]}}


@pytest.mark.usefixtures("searched")
def test_nothing_that_a_trial_learns_from_knows_the_labels_that_judge_it(run_folder: Path) -> None:
    store = FitStore(open_root(str(run_folder / "run")))
    specs = {one.name: store.facts(one.name)["spec"] for one in (run_folder / "run/fits").iterdir()}
    of_run = json.loads((run_folder / "fits.json").read_text())
    learnt = {
        name for name, spec in specs.items() if any(r["split"] == "probe" for r in spec["rows"])
    }
    assert learnt and learnt <= set(of_run)  # the run's own student learns the pairs
    told = {specs[name]["labels"] for name in of_run if specs[name]["arm"] == "mm_student"}
    trials = [specs[one.fit] for one in records_in(run_folder, "whole") if one.fit in specs]
    assert trials and all(one["labels"] not in told for one in trials)


@pytest.mark.usefixtures("searched")
def test_a_search_that_is_over_trains_and_tests_nothing_again(run_folder: Path) -> None:
    folder = found_in(run_folder, "whole")
    before = {one: one.stat().st_mtime_ns for one in folder.glob("trials/*")}
    (test,) = folder.glob("test-trial-*.json")
    tested = test.stat().st_mtime_ns
    search_here(run_folder, *SPACE, *FEW, "search.name=whole", "search.num_trials=6")
    after = {one: one.stat().st_mtime_ns for one in folder.glob("trials/*")}
    assert len(after) == 6 and before.items() <= after.items()
    assert test.stat().st_mtime_ns == tested
    winner = json.loads((folder / "result.json").read_text())["winner"]
    assert (folder / f"test-trial-{winner}.json").exists()


@pytest.mark.usefixtures("ray_session")
def test_trials_of_two_ranks_are_trained_in_the_room_that_tune_reserved(run_folder: Path) -> None:
    more = ["search.workers_per_trial=2", "search.num_trials=2", "search.name=ranks"]
    search_here(run_folder, *SPACE, *FEW, *more)
    records = records_in(run_folder, "ranks")
    assert [one.state for one in records].count("failed") == 0
    assert len(records) == 2 and all(one.quality is not None for one in records)


@pytest.mark.usefixtures("ray_session")
def test_two_goals_stop_no_trial_and_keep_those_that_none_beats(run_folder: Path) -> None:
    space = ["+search.space={student.head_hidden: {type: choice, values: [[8], [64]]}}"]
    keys = ["search.scheduler=fifo", "search.cost=parameters", "search.num_trials=4"]
    search_here(run_folder, *space, *keys, "search.finalists=2", "search.name=cost")
    records = records_in(run_folder, "cost")
    assert [one.state for one in records] == ["finished"] * 4
    sizes = {one.num_parameters for one in records}
    result = json.loads((found_in(run_folder, "cost") / "result.json").read_text())
    size_of = {one["number"]: one["num_parameters"] for one in result["finalists"]}
    assert len(sizes) == 2 and min(sizes) in size_of.values()
    best = max(result["finalists"], key=lambda one: one["mean"])
    slack = stats.sem(list(best["qualities"].values()))
    close = [one for one in result["finalists"] if one["mean"] >= best["mean"] - slack]
    assert size_of[result["winner"]] == min(one["num_parameters"] for one in close)


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_fails_is_on_record_and_the_search_goes_on(run_folder: Path) -> None:
    space = ["+search.space={fit.optimizer.lr: {type: choice, values: [0.01, 1.0e+30]}}"]
    keys = ["search.num_trials=6", "search.max_failures=3", "search.name=failing"]
    search_here(run_folder, *space, *FEW, *keys)
    records = records_in(run_folder, "failing")
    failed = [one for one in records if one.state == "failed"]
    assert len(records) == 6 and failed and all("not finite" in one.reason for one in failed)
    assert all(one.values["fit.optimizer.lr"] > 1 for one in failed)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            "fit.optimiser.lr: {type: uniform, low: 0.1, high: 0.2}",
            r"search\.space\.fit\.optimiser\.lr.*fit\.optimizer\.lr",
        ),
        (
            "student.head_hidden: {type: choice, values: [[64], [0.5]]}",
            r"search\.space\.student\.head_hidden=\[0\.5\]",
        ),
        ("scaling.num_workers: {type: choice, values: [1, 2]}", r"search\.workers_per_trial"),
        ("fit.global_batch: {type: uniform, low: 32, high: 64}", "have type: integer"),
    ],
)
def test_what_no_student_takes_stops_before_any_store_is_read(
    tmp_path: Path, space: str, said: str
) -> None:
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(ConfigError, match=said):
        search_here(tmp_path, f"+search.space={{{space}}}")


def test_a_key_of_an_earlier_stage_is_refused(run_folder: Path) -> None:
    space = ["+search.space={teacher.fit.num_steps: {type: integer, low: 10, high: 20}}"]
    with pytest.raises(ConfigError, match="changes nothing of mm_student"):
        search_here(run_folder, *space)


@pytest.fixture
def tracking_uri(request: pytest.FixtureRequest, run_folder: Path) -> str:
    """Return a database of PostgreSQL, of SQLite where there is none: a bucket's is SQLite too."""
    if postgres_folder() is None:
        return f"sqlite:///{run_folder}/run/mlflow.db"
    return request.getfixturevalue("postgres_uri")


def test_a_search_goes_on_after_its_driver_was_killed(run_folder: Path, tracking_uri: str) -> None:
    keys = ["search.name=killed", "name=killed", "ray.num_cpus=2"]
    keys += ["tracking=mlflow", f"tracking.uri={tracking_uri}"]
    lines = command_line(run_folder, *SPACE, *FEW, *keys)
    trials = run_folder / "run" / "search"
    kill_once(lambda: any(trials.glob("killed-*/trials.csv")), start_job("tune", lines))
    known = {one: one.read_bytes() for one in found_in(run_folder, "killed").glob("trials/*")}
    end_well(start_job("tune", lines))
    assert [one.number for one in records_in(run_folder, "killed")] == [0, 1, 2, 3, 4]
    assert all(path.read_bytes() == content for path, content in known.items())
    check_runs_of_trials(tracking_uri, experiment="killed", num_trials=5)


def test_a_run_with_the_keys_of_a_winner_ends(run_folder: Path) -> None:
    winner = run_folder / "winner.yaml"
    winner.write_text("defaults:\n- override /fusion: gated\nfit: {optimizer: {lr: 0.02}}\n")
    line = [one for one in command_line(run_folder) if not one.startswith("fit.optimizer.lr")]
    (job,) = composed(*line, f"+winner={winner}", "scaling.launch=local", "student.dropout=0.1")
    assert (job.fusion["type"], job.fit.optimizer["lr"]) == ("gated", 0.02)
    assert job.student.dropout == 0.1
    (own,) = composed(*line, f"+winner={winner}", "fit.optimizer.lr=0.005")
    assert own.fit.optimizer["lr"] == 0.005  # what the command line says counts more
    assert run_stages(job)["arms"]["mm_student"]["num_test"] == 200
