"""Tests of which errors of workers end a run and which are left to Ray Train's restarts."""

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from mke_ray.errors import ConfigError, DeviceMemoryError, MkeRayError, StoreError, TrainingError
from mke_ray.train.ending import EndsAtOurErrors


class WorkerError(Exception):
    """An error as Ray Train hands it on."""

    def __init__(self, base: BaseException) -> None:
        super().__init__(str(base))
        self._base_exc = base


class HeardBoard:
    """A board that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def restart(self, why: str) -> None:
        self.told.append(why)


@pytest.mark.parametrize("kind", [ConfigError, DeviceMemoryError, StoreError, TrainingError])
def test_an_error_of_ours_on_one_rank_ends_the_run(kind):
    met = {0: WorkerError(RuntimeError("connection closed by peer")), 1: WorkerError(kind("why"))}
    board = HeardBoard()
    with pytest.raises(kind, match="why"):
        EndsAtOurErrors(board).after_exception(None, met)
    assert board.told == []


def test_an_error_beside_a_lost_worker_and_one_of_others_are_left_to_restarts():
    board = HeardBoard()
    ends = EndsAtOurErrors(board)
    for lost in (RayActorError(), WorkerHealthCheckFailedError("gone", RayActorError())):
        ends.after_exception(None, {0: WorkerError(MkeRayError("why")), 1: lost})
    ends.after_exception(None, {0: WorkerError(RuntimeError("why"))})
    assert board.told == ["lost worker 1", "lost worker 1", "worker 0 met RuntimeError"]
