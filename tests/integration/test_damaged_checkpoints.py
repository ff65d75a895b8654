import json
import logging
import shutil
from pathlib import Path

import pytest
from training_stores import fit_spec, make_run

from mke_ray.errors import TrainingError
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore
from mke_ray.train.launch import run_fits

ZERO_1 = {"type": "deepspeed", "config": {"zero_optimization": {"stage": 1}}}
TWO_WORKERS = {"num_workers": 2, "checkpoint_every_steps": 5, "max_failures": 0}


def train(folder: Path, spec) -> FitStore:
    root = open_root(str(folder))
    run_fits([spec], root=root, launch="trainer", scaling=TWO_WORKERS, engine=ZERO_1)
    return FitStore(root)


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoints that a run kept, that of the fewest steps first."""
    heads = folder.joinpath("train").rglob("state.json")
    by_cursor = {json.loads(one.read_text())["cursor"]: one.parent for one in heads}
    return [by_cursor[cursor] for cursor in sorted(by_cursor)]


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="module")
def broken_off(ray_session, tmp_path_factory):
    """A run whose worker was killed in its 16th step, its fit, and steps made."""
    folder = tmp_path_factory.mktemp("broken_off")
    run, marker = folder / "run", folder / "killed"
    make_run(open_root(str(run)), {"unlabeled": 90})
    fault = {"_target_": "training_faults.KillOnce", "marker": str(marker)}
    spec = fit_spec(num_steps=24, objective=fault)
    with pytest.raises(TrainingError, match="workers failed"):
        train(run, spec)
    heads = [json.loads((one / "state.json").read_text()) for one in checkpoints_of(run)]
    assert [one["cursor"] for one in heads] == [10, 15]
    return run, spec, Path(f"{marker}.calls")


@pytest.fixture(scope="module")
def undisturbed(ray_session, tmp_path_factory):
    """The digest of the weights of the same fit where nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    make_run(open_root(str(folder)), {"unlabeled": 90})
    plain = fit_spec(num_steps=24)
    return train(folder, plain).weights_digest(plain.fingerprint())


def copy_of(run: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    return copied


@pytest.mark.parametrize(
    "damaged", [("state.json", "the last step"), ("digests/1.json", "step 15")]
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_says_what_that_costs(
    broken_off, undisturbed, tmp_path, caplog, damaged
):
    (run, spec, calls), (file, until) = broken_off, damaged
    folder = copy_of(run, tmp_path)
    damage(checkpoints_of(folder)[-1] / file)
    calls.unlink()
    with caplog.at_level(logging.WARNING, "mke_ray"):
        store = train(folder, spec)
    steps = [round(24 * float(line)) for line in calls.read_text().splitlines()]
    assert steps == list(range(10, 24))
    assert f"goes on at step 10, and the steps from there to {until} are made again" in caplog.text
    assert store.weights_digest(spec.fingerprint()) == undisturbed


def test_a_run_of_which_no_checkpoint_is_whole_ends_with_the_newest_one_and_the_way_out(
    broken_off, tmp_path
):
    run, spec, _ = broken_off
    folder = copy_of(run, tmp_path)
    for one in checkpoints_of(folder):
        damage(one / "state.json")
    with pytest.raises(TrainingError, match=r"state\.json is missing or not the file") as error:
        train(folder, spec)
    assert "delete the folder train/" in str(error.value)
