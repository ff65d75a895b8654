"""Tests of which errors of workers end a run and which are left to Ray Train's restarts."""

import pytest
from ray.exceptions import RayActorError

from mke_ray.errors import ConfigError, DeviceMemoryError, MkeRayError, StoreError, TrainingError
from mke_ray.train.ending import EndsAtOurErrors


class WorkerError(Exception):
    """An error as Ray Train hands it on."""

    def __init__(self, base: BaseException) -> None:
        super().__init__(str(base))
        self._base_exc = base


@pytest.mark.parametrize("kind", [ConfigError, DeviceMemoryError, StoreError, TrainingError])
def test_an_error_of_ours_on_one_rank_ends_the_run(kind):
    met = {0: WorkerError(RuntimeError("connection closed by peer")), 1: WorkerError(kind("why"))}
    with pytest.raises(kind, match="why"):
        EndsAtOurErrors().after_exception(None, met)


def test_an_error_beside_a_lost_worker_and_one_of_others_are_left_to_restarts():
    ends = EndsAtOurErrors()
    ends.after_exception(None, {0: WorkerError(MkeRayError("why")), 1: RayActorError()})
    ends.after_exception(None, {0: WorkerError(RuntimeError("why"))})
