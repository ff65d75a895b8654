"""What is done with a store is done again while it fails in a way that passes."""

import errno
import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity
from botocore import exceptions as botocore_exceptions
from botocore.exceptions import BotoCoreError

PATIENCE_S = 30.0

_TRANSIENT_ERRNOS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO}
_CONNECTION_ERRORS = (
    botocore_exceptions.ConnectionError,
    botocore_exceptions.HTTPClientError,
    botocore_exceptions.IncompleteReadError,
)

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


def retried(action: Callable[[], _Result], what: str, *, patience_s: float = PATIENCE_S) -> _Result:
    """Do something with a store, again while it fails in a way that passes.

    Args:
        action: What to do.
        what: What that is, for the log and the error.
        patience_s: How long to go on.

    Raises:
        OSError: It still fails after that time, or fails in a way that does not pass.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        wait=tenacity.wait_exponential_jitter(initial=0.2, max=5.0),
        stop=tenacity.stop_after_delay(patience_s),
        before_sleep=lambda state: _logger.warning(
            "%s failed, trying again: %s", what, _why(state)
        ),
        reraise=True,
    )
    try:
        return retrying(action)
    except BotoCoreError as error:
        raise OSError(errno.EIO, f"{what}: {error}") from error


def _why(state: tenacity.RetryCallState) -> BaseException | None:
    """Return the error of a failed try."""
    return state.outcome.exception() if state.outcome else None


def _is_transient(error: BaseException) -> bool:
    """Return whether an error can pass by itself."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNOS
    return isinstance(error, _CONNECTION_ERRORS)
