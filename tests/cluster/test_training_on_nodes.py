"""Training on nodes that are warned, killed and come back: other workers, the same result."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import REPOSITORY
from rank_processes import Phase, run_phases
from train_on_nodes import NUM_STEPS, seen
from training_stores import fit_spec, make_run

from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore
from mke_ray.train.launch import run_fits

TIMEOUT_S = 540
FIT = {"global_batch": 22, "ema_decay": 0.9}


def zero(stage: int) -> dict[str, Any]:
    return {"type": "deepspeed", "config": {"zero_optimization": {"stage": stage}}}


def train_on_nodes(
    folder: Path, scenario: str, launch: dict[str, Any], fails_by: str | None = None
) -> tuple[FitStore, str, str]:
    """Return the fits of a scenario, the name of its fit and what was printed.

    Args:
        folder: Where the run lies.
        scenario: What happens to the nodes.
        launch: Arguments of ``run_fits``.
        fails_by: What the error says by which training ends; None where it ends well.
    """
    ended = subprocess.run(
        [
            sys.executable,
            str(REPOSITORY / "tests" / "train_on_nodes.py"),
            str(folder),
            scenario,
            json.dumps({"fit": FIT, "launch": launch}),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
    assert not last["is_alive"], ended.stdout[-3000:]
    if fails_by is None:
        assert last["failed"] == [], ended.stdout[-3000:]
    else:
        assert fails_by in last["failed"][0]
    return FitStore(open_root(str(folder / "run"))), last["fit"], ended.stdout + ended.stderr


def groups(folder: Path) -> list[tuple[int, int, int]]:
    """Return of each worker group its size, first and last step."""
    found: list[tuple[int, int, int]] = []
    for line in seen(folder):
        if found and found[-1][0] == line["workers"] and found[-1][2] + 1 == line["step"]:
            found[-1] = (*found[-1][:2], line["step"])
        else:
            found.append((line["workers"], line["step"], line["step"]))
    return found


def calm_spec() -> Any:
    """Return the fit of the scenarios, with nobody watching."""
    return fit_spec(**FIT, num_steps=NUM_STEPS)


def test_two_workers_one_after_a_warning_and_two_again_end_as_one_does(tmp_path):
    launch = {
        "engine": zero(2),
        "scaling": {
            "num_workers": [1, 2],
            "checkpoint_every_steps": 20,
            "resize_every_s": 5,
            "verbose": True,
        },
    }
    fits, fit, printed = train_on_nodes(tmp_path, "elastic", launch)
    parts = groups(tmp_path)
    assert [size for size, _, _ in parts] == [2, 1, 2]
    assert parts[0][1] == 0 and parts[-1][2] == NUM_STEPS - 1
    for (_, _, last), (_, first, _) in itertools.pairwise(parts):
        assert 0 < first <= last + 1  # from a checkpoint inside the epoch, and nothing is skipped
    assert "are about to go: step" in printed
    assert fits.facts(fit)["world_size"] == 2
    root = open_root(str(tmp_path / "calm"))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    run_fits([calm_spec()], root=root, launch="local", scaling={}, engine={"type": "torch"})
    for name, weight in FitStore(root).weights(calm_spec().fingerprint()).items():
        torch.testing.assert_close(fits.weights(fit)[name], weight, rtol=0, atol=1e-3)


def test_a_node_killed_inside_an_epoch_costs_steps_and_not_one_bit_of_the_result(tmp_path):
    scaling = {"num_workers": 2, "checkpoint_every_steps": 10}
    fits, fit, _ = train_on_nodes(tmp_path, "spare", {"engine": zero(1), "scaling": scaling})
    parts = groups(tmp_path)
    assert [size for size, _, _ in parts] == [2, 2]
    assert 0 < parts[1][1] <= parts[0][2] and parts[1][2] == NUM_STEPS - 1
    calm = str(tmp_path / "calm")
    make_run(open_root(calm), {"labelled": 20, "unlabeled": 90, "probe": 40})
    run_phases([Phase(calm, calm_spec().to_dict(), zero(1), None, str(tmp_path / "none"))], 2)
    store = FitStore(open_root(calm))
    assert store.weights_digest(calm_spec().fingerprint()) == fits.weights_digest(fit)


def fed_by_a_pool(num_workers: int, **scaling: Any) -> dict[str, Any]:
    """Return a launch whose pool makes few batches ahead, so that its nodes are never done."""
    pool = {"feed": "ray", "prefetch_bytes": 4096, "checkpoint_every_steps": 0, **scaling}
    return {"engine": zero(1), "scaling": {"num_workers": num_workers, **pool}}


def test_nodes_that_make_batches_are_killed_and_training_goes_on_with_the_same_batches(tmp_path):
    fits, fit, _ = train_on_nodes(tmp_path, "pool", fed_by_a_pool(2))
    assert groups(tmp_path) == [(2, 0, NUM_STEPS - 1)]  # no worker started anew
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[2]["step"] < NUM_STEPS - 10  # it waited for the node that came
    calm = str(tmp_path / "calm")
    make_run(open_root(calm), {"labelled": 20, "unlabeled": 90, "probe": 40})
    run_phases([Phase(calm, calm_spec().to_dict(), zero(1), None, str(tmp_path / "none"))], 2)
    store = FitStore(open_root(calm))
    assert store.weights_digest(calm_spec().fingerprint()) == fits.weights_digest(fit)


def test_a_pool_that_no_node_is_left_for_ends_the_run_with_the_key(tmp_path):
    launch = fed_by_a_pool(1, feed_timeout_s=6.0)
    fails_by = "in 6 s (scaling.feed_timeout_s)"
    fits, fit, _ = train_on_nodes(tmp_path, "pool_gone", launch, fails_by)
    assert not fits.has(fit)


@pytest.mark.parametrize("number", [1, 2])
def test_groups_are_read_from_what_was_seen(tmp_path, number):
    lines = [{"step": step, "workers": number} for step in (0, 1, 2, 1, 2)]
    (tmp_path / "seen.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert groups(tmp_path) == [(number, 0, 2), (number, 1, 2)]
