"""Which of the checkpoints that are kept a run goes on from: the newest one that is whole."""

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from mke_ray.errors import DamagedCheckpointError
from mke_ray.train.checkpoints import Checkpoint, open_checkpoint
from mke_ray.train.engine import of_all_ranks, rank

logger = logging.getLogger(__name__)


class Stored(Protocol):
    """A checkpoint that is stored somewhere.

    Attributes:
        path: Where.
    """

    path: str

    def as_directory(self) -> contextlib.AbstractContextManager[str]:
        """Return the context in which its files lie in a folder of this node."""
        ...


@contextlib.contextmanager
def newest_whole(
    stored: Sequence[Stored], fits: Collection[str]
) -> Iterator[tuple[Checkpoint | None, str]]:
    """Yield the newest checkpoint that is whole on all ranks, and what the damage costs.

    Args:
        stored: Checkpoints, oldest first; the same on every rank.
        fits: Fits that may go on from one.

    Yields:
        None where there is no checkpoint, and "" where nothing is damaged.

    Raises:
        DamagedCheckpointError: On all ranks, where none is whole; it is that of the newest.
        OSError: On all ranks, where the store does not give one to any of them.
    """
    damaged: list[DamagedCheckpointError] = []
    for one in reversed(stored):
        with contextlib.ExitStack() as stack:
            try:
                found = open_checkpoint(_fetched(one, stack), fits)
            except DamagedCheckpointError as error:
                damaged.append(error)
                continue
            warning = _loss(damaged[0], found, fits) if damaged else ""
            if warning and rank() == 0:
                logger.warning(warning)
            yield found, warning
            return
    if damaged:
        raise damaged[0]
    yield None, ""


def _fetched(stored: Stored, stack: contextlib.ExitStack) -> Path:
    """Return the folder with the files of a checkpoint, there until the stack ends.

    Raises:
        DamagedCheckpointError: On all ranks, where one found that it is gone.
        OSError: On all ranks, where the store did not give it to one; it may when asked again.
    """
    folder, is_gone, lack = "", False, ""
    try:
        folder = stack.enter_context(stored.as_directory())
    except OSError as error:
        is_gone, lack = isinstance(error, FileNotFoundError), str(error) or repr(error)
    for gone, found in sorted(of_all_ranks((is_gone, lack)), reverse=True):
        if gone:
            raise DamagedCheckpointError(f"checkpoint {stored.path} is gone ({found})")
        if found:
            raise OSError(f"checkpoint {stored.path} could not be fetched: {found}")
    return Path(folder)


def _loss(newest: DamagedCheckpointError, found: Checkpoint, fits: Collection[str]) -> str:
    """Return which steps are made again because the newest checkpoint is damaged."""
    fit_id, cursor = found.head["fit"], found.head["cursor"]
    until = f"step {newest.cursor}" if newest.cursor is not None else "the last step"
    if newest.fit in (None, fit_id) and fit_id in fits:
        lost = f"fit {fit_id} goes on at step {cursor}, and the steps from there to {until} are"
    else:
        lost = f"fit {newest.fit or 'in work'} starts anew, and its steps to {until} are"
    return f"{newest.found}: the one before is taken; {lost} made again"
