"""Errors that a restart of the worker group would only meet again: they end the run at once."""

from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.context import TrainRunContext

from mke_ray.errors import MkeRayError
from mke_ray.train.progress import ActorBoard


class EndsAtOurErrors(UserCallback):
    """Ends a run at an error that we raise on purpose, whatever ``max_failures`` allows.

    Ray Train restarts the workers after any error of theirs, and ends at an error of a callback.

    Args:
        board: Told of every start of workers anew.
    """

    def __init__(self, board: ActorBoard) -> None:
        self._board = board

    def after_exception(
        self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]
    ) -> None:
        """Raise the error of ours, if there is one and no worker was lost beside it."""
        if _lost(worker_exceptions):
            self._board.restart(_why(worker_exceptions))
            return  # what the others met may come from that
        if error := own_error(worker_exceptions):
            raise error
        self._board.restart(_why(worker_exceptions))


def _why(worker_exceptions: dict[int, Exception]) -> str:
    """Return in a few words what the workers met, the loss of one before all else."""
    if lost := _lost(worker_exceptions):
        return f"lost worker {', '.join(map(str, lost))}"
    number, failure = min(worker_exceptions.items())
    cause = getattr(failure, "_base_exc", failure)
    return f"worker {number} met {type(cause).__name__}"


def _lost(worker_exceptions: dict[int, Exception]) -> list[int]:
    """Return the ranks whose processes are gone, or gave no answer."""
    return sorted(
        rank
        for rank, one in worker_exceptions.items()
        if isinstance(one, RayActorError | WorkerHealthCheckFailedError)
    )


def own_error(worker_exceptions: dict[int, Exception]) -> MkeRayError | None:
    """Return the error of ours that the first of some workers met, None where none did.

    Args:
        worker_exceptions: What workers met, by rank.
    """
    for _, failure in sorted(worker_exceptions.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, MkeRayError):
            return cause
    return None
