"""Checkpoints of a fit: what each rank writes, and how as many ranks, or others, read it again."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mke_ray.errors import DamagedCheckpointError
from mke_ray.train.engine import of_all_ranks, rank, world_size
from mke_ray.train.loop import FitParts, FitState

logger = logging.getLogger(__name__)

STATE = "state.json"
ENGINE = "engine"
DIGESTS = "digests"

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was looked at.

    Args:
        folder: Its folder, merged over ranks.
        head: What rank 0 wrote: ``fit``, ``plan``, ``world_size``, ``cursor`` and more.
    """

    folder: Path
    head: Mapping[str, Any]

    def is_resized(self, fit_id: str) -> bool:
        """Return whether it is one of this fit that another number of workers wrote."""
        return self.head["fit"] == fit_id and self.head["world_size"] != world_size()


def write_state(folder: Path, fit_id: str, *, parts: FitParts, state: FitState) -> None:
    """Write this rank's part of a checkpoint, and last the digests of its files.

    Args:
        folder: An empty folder.
        fit_id: Fingerprint of the fit.
        parts: The objects of the fit.
        state: How far it is.
    """
    engine_folder = folder / ENGINE
    engine_folder.mkdir()
    parts.engine.save(engine_folder)
    if parts.average is not None:
        parts.average.save(folder)
    if rank() == 0:
        plain = {
            "fit": fit_id,
            "plan": parts.feed.plan.digest(),
            "world_size": world_size(),
            "cursor": state.cursor,
            "seconds": state.seconds,
            "history": state.history,
        }
        (folder / STATE).write_text(json.dumps(plain))
    digests = {str(one.relative_to(folder)): _digest(one) for one in _files(folder)}
    (folder / DIGESTS).mkdir()
    (folder / DIGESTS / f"{rank()}.json").write_text(json.dumps(digests))


def read_state(checkpoint: Checkpoint, fit_id: str, parts: FitParts) -> FitState:
    """Load a checkpoint into the parts of a fit, or start anew where it is not this fit's.

    Args:
        checkpoint: A checkpoint, see ``open_checkpoint``.
        fit_id: Fingerprint of the fit.
        parts: The objects of the fit.
    """
    folder, head = checkpoint.folder, checkpoint.head
    if head["fit"] != fit_id or head["plan"] != parts.feed.plan.digest():
        return FitState()
    is_same_size = head["world_size"] == world_size()
    if not is_same_size and not parts.engine.is_resizable:
        logger.warning(
            "the checkpoint of fit %s is of %d workers and cannot be loaded by %d; it starts anew",
            fit_id,
            head["world_size"],
            world_size(),
        )
        return FitState()
    parts.engine.load(folder / ENGINE, world_size=head["world_size"])
    if parts.average is not None:
        parts.average.restore(folder)
    if not is_same_size and rank() == 0:
        logger.warning(
            "fit %s goes on at step %d with %d workers in the place of %d",
            fit_id,
            head["cursor"],
            world_size(),
            head["world_size"],
        )
    return FitState(head["cursor"], head["seconds"], head["history"])


def open_checkpoint(folder: Path, fits: Collection[str] | None = None) -> Checkpoint:
    """Return a checkpoint whose files are those that were written; every rank must call it.

    Args:
        folder: Folder of the checkpoint, merged over ranks.
        fits: Fits that may go on from it; of another one the head alone is looked at. None looks
            at all files.

    Raises:
        DamagedCheckpointError: On all ranks, where a file is not what was written on any of them.
    """
    if found := _agreed(damage_of(folder, num_ranks=1, names=(STATE,))):
        raise DamagedCheckpointError(f"checkpoint {folder}: {found}")
    head = json.loads((folder / STATE).read_text())
    if fits is not None and head["fit"] not in fits:
        return Checkpoint(folder, head)
    if found := _agreed(damage_of(folder, num_ranks=head["world_size"])):
        raise DamagedCheckpointError(f"checkpoint {folder}: {found}", head["fit"], head["cursor"])
    return Checkpoint(folder, head)


def damage_of(folder: Path, *, num_ranks: int, names: Collection[str] = ()) -> str:
    """Return what is wrong with the files of a checkpoint, "" where they are those written.

    Args:
        folder: Folder of the checkpoint, merged over ranks.
        num_ranks: How many ranks wrote it.
        names: Files to look at; none given are all.
    """
    for number in range(num_ranks):
        listed = folder / DIGESTS / f"{number}.json"
        if not listed.exists():
            return f"{DIGESTS}/{number}.json is missing"
        try:
            digests = json.loads(listed.read_text())
        except ValueError:
            return f"{DIGESTS}/{number}.json cannot be read"
        for name in names or digests:
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                return f"{name} lies outside it"
            if not path.exists() or _digest(path) != digests.get(name):
                return f"{name} is missing or not the file that was written"
    return ""


def _agreed(damage: str) -> str:
    """Return the damage that the first of all ranks found, "" where none did."""
    return next((one for one in of_all_ranks(damage) if one), "")


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return sorted(one for one in folder.rglob("*") if one.is_file())


def _digest(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
