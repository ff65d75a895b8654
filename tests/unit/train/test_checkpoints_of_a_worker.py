"""When a checkpoint is stored beside training, and when training waits for it."""

import os
import shutil
import subprocess
import sys

import pytest
import ray.train
from ray.train import CheckpointUploadMode

from mke_ray.train.worker import TrainCheckpoints, sweep_checkpoints


class Look:
    def is_told(self, step):
        return step == 7


@pytest.fixture
def reported(monkeypatch):
    """What would be reported to Ray, which this process is no worker of."""
    calls = []

    def report(metrics, *, checkpoint, checkpoint_upload_mode, **others):
        assert others == {"delete_local_checkpoint_after_upload": True}
        calls.append((checkpoint.path, checkpoint_upload_mode))

    monkeypatch.setattr(ray.train, "report", report)
    yield calls
    for path, _ in calls:
        shutil.rmtree(path, ignore_errors=True)


def write(folder):
    (folder / "state").write_text("x")


def test_training_goes_on_beside_a_checkpoint_and_waits_where_the_one_before_is_not_stored(
    reported,
):
    checkpoints = TrainCheckpoints(Look())
    checkpoints.save(write, is_urgent=False)
    checkpoints.save(write, is_urgent=False)  # the first one is still there
    shutil.rmtree(reported[1][0])  # as Ray does when it is stored
    checkpoints.save(write, is_urgent=False)
    modes = [mode for _, mode in reported]
    first, then = CheckpointUploadMode.ASYNC, CheckpointUploadMode.SYNC
    assert modes == [first, then, first]


def test_an_urgent_checkpoint_is_stored_at_once(reported):
    checkpoints = TrainCheckpoints(Look())
    assert [checkpoints.is_urgent(step) for step in (6, 7)] == [False, True]
    checkpoints.save(write, is_urgent=True)
    assert reported[0][1] == CheckpointUploadMode.SYNC


def test_a_checkpoint_that_cannot_be_written_leaves_no_folder(reported, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def fail(folder):
        (folder / "half").write_text("x")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        TrainCheckpoints(Look()).save(fail, is_urgent=False)
    assert not list(tmp_path.iterdir()) and not reported


def test_folders_of_killed_workers_are_swept_and_those_of_living_ones_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f"mke_ray-checkpoint-{ended.pid}-a"
    alive = tmp_path / f"mke_ray-checkpoint-{os.getpid()}-b"
    for one in (dead, alive):
        one.mkdir()
    sweep_checkpoints()
    assert list(tmp_path.iterdir()) == [alive]
