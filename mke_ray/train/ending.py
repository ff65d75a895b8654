"""Errors that a restart of the worker group would only meet again: they end the run at once."""

from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.train.v2._internal.execution.context import TrainRunContext

from mke_ray.errors import MkeRayError


class EndsAtOurErrors(UserCallback):
    """Ends a run at an error that we raise on purpose, whatever ``max_failures`` allows.

    Ray Train restarts the workers after any error of theirs, and ends at an error of a callback.
    """

    def after_exception(
        self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]
    ) -> None:
        """Raise the error of ours, if there is one and no worker was lost beside it."""
        if any(isinstance(one, RayActorError) for one in worker_exceptions.values()):
            return  # what the others met may come from that
        if error := own_error(worker_exceptions):
            raise error


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
