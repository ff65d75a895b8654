"""Stages on labelled nodes: each in its pool, which is free again afterwards; then a drain.

One pool has no node before it is asked for, and loses one while a network is asked there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from composed import REPOSITORY

STAGE_POOLS = {
    "decode": "decode",
    "teach": "teach",
    "late": "late",
    "trainer": "train",
    "feed of trainer": "train",
    "fed": "train",
    "feed of fed": "train",  # its workers look at all labels once, for their mean weight
    "feed of fed by tasks": "decode",
    "tasks": "train",
    "feed of tasks by tasks": "train",
}
STAGES = ("label", "late", "trainer", "fed", "tasks", "answer")


@pytest.mark.timeout(900)
def test_every_stage_runs_in_its_pool_and_leaves_it_and_drained_nodes_go(tmp_path: Path) -> None:
    path = [str(REPOSITORY), str(REPOSITORY / "tests"), *sys.path]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "stages_on_pools.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    events = json.loads((tmp_path / "events.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "where.jsonl").read_text().splitlines()]
    found = {(line["stage"], events["pools"][line["node"]]) for line in lines}
    assert found == set(STAGE_POOLS.items())
    assert events["freed"] == dict.fromkeys(STAGES, True)
    stages = events["found"]
    # All of labelling.max_actors, before any node was there; Ray may tell of one in two ways.
    assert stages["late"] >= 3
    assert len(set(stages["fed"])) == 1  # weights of batches made here and there
    num_units, num_answered, num_nodes_gone = stages["answer"]
    assert num_units == num_answered > 10 and num_nodes_gone == 1
    assert events["trial"] == ["train", "train"]
    status, said = events["drained"]
    assert status == 0 and said.count(": told") == 5, said
    assert (events["alive"], events["num_alive"]) == ([""], 1)  # the head, which nobody drains
