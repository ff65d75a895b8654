"""Trials that hang or whose workers are killed: each is on record once, and the search goes on."""

from pathlib import Path
from typing import Any

import pytest
from search_runs import finished_run, records_in, search_here

KEYS = ["search.num_trials=4", "search.reduction=2", "search.final_seeds=[0]"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    finished_run(folder)
    return folder


def search_encoders(folder: Path, faulty: str, *more: str) -> list[Any]:
    """Search the encoder as it is and one with a fault; return the records of all trials."""
    as_it_is = "{type: features, num_inputs: 3, hidden: [8]}"
    values = f"[{as_it_is}, {faulty}]"
    space = f"+search.space={{student.encoders.b: {{type: choice, values: {values}}}}}"
    search_here(folder, space, "allow_targets=[faulty_encoders]", *KEYS, *more)
    return records_in(folder)


def is_faulty(record: Any) -> bool:
    return "_target_" in record.values["student.encoders.b"]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_trial_that_hangs_is_ended_and_on_record_and_its_room_is_free(
    run_folder: Path, tmp_path: Path, num_workers: int
) -> None:
    marker = tmp_path / "marker"
    records = search_encoders(
        run_folder,
        f"{{_target_: faulty_encoders.HangsOnce, num_inputs: 3, marker: {marker}}}",
        f"search.workers_per_trial={num_workers}",
        "search.silence_s=75",
        "search.max_concurrent=1",  # the next one needs its room
        "search.max_failures=2",
    )
    assert [one.number for one in records] == [0, 1, 2, 3]
    (hung,) = [one for one in records if one.state == "failed"]
    assert is_faulty(hung) and hung.number < 3
    assert "made no step for 75 s" in hung.reason
    assert all(one.state in ("finished", "stopped") for one in records if one is not hung)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_trial_whose_worker_is_killed_is_begun_again_and_ends_once(
    run_folder: Path, tmp_path: Path, num_workers: int
) -> None:
    marker = tmp_path / "marker"
    records = search_encoders(
        run_folder,
        f"{{_target_: faulty_encoders.KillsOnce, num_inputs: 3, marker: {marker}}}",
        f"search.workers_per_trial={num_workers}",
        "search.max_failures=2",  # the marker is looked for before the other rank is gone
    )
    assert marker.exists() and any(map(is_faulty, records))
    assert [one.number for one in records] == [0, 1, 2, 3]
    assert all(one.state in ("finished", "stopped") for one in records)
