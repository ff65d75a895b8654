"""Checkpoints of a fit: what each rank writes, and how as many ranks, or others, read it again."""

import hashlib
import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mke_ray.errors import TrainingError
from mke_ray.train.engine import of_all_ranks, rank, world_size
from mke_ray.train.loop import FitParts, FitState

logger = logging.getLogger(__name__)

STATE = "state.json"
ENGINE = "engine"
DIGESTS = "digests"

_CHUNK_BYTES = 1 << 22


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


def read_state(folder: Path, fit_id: str, parts: FitParts) -> FitState:
    """Load a checkpoint into the parts of a fit, or start anew where it is not this fit's.

    Args:
        folder: Folder of the checkpoint, merged over ranks.
        fit_id: Fingerprint of the fit.
        parts: The objects of the fit.

    Raises:
        TrainingError: On all ranks, where a file is not the one that was written on any of them.
    """
    plain = read_head(folder)
    if plain["fit"] != fit_id or plain["plan"] != parts.feed.plan.digest():
        return FitState()
    is_same_size = plain["world_size"] == world_size()
    if not is_same_size and not parts.engine.is_resizable:
        logger.warning(
            "the checkpoint of fit %s is of %d workers and cannot be loaded by %d; it starts anew",
            fit_id,
            plain["world_size"],
            world_size(),
        )
        return FitState()
    _raise_together(damage_of(folder, num_ranks=plain["world_size"]), folder)
    parts.engine.load(folder / ENGINE, world_size=plain["world_size"])
    if parts.average is not None:
        parts.average.restore(folder)
    if not is_same_size and rank() == 0:
        logger.warning(
            "fit %s goes on at step %d with %d workers in the place of %d",
            fit_id,
            plain["cursor"],
            world_size(),
            plain["world_size"],
        )
    return FitState(plain["cursor"], plain["seconds"], plain["history"])


def read_head(folder: Path) -> dict[str, Any]:
    """Return what rank 0 wrote of a fit: ``fit``, ``plan``, ``world_size``, ``cursor`` and more.

    Raises:
        TrainingError: On all ranks, where it is not what was written on any of them.
    """
    damage = damage_of(folder, num_ranks=1, names=(STATE,))
    _raise_together(damage, folder)
    return json.loads((folder / STATE).read_text())


def is_of_other_size(folder: Path | None, fit_id: str) -> bool:
    """Return whether a checkpoint is one of this fit that another number of workers wrote.

    Args:
        folder: Folder of the checkpoint; None where there is none.
        fit_id: Fingerprint of the fit.
    """
    if folder is None:
        return False
    plain = read_head(folder)
    return plain["fit"] == fit_id and plain["world_size"] != world_size()


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
            if not path.exists() or _digest(path) != digests.get(name):
                return f"{name} is missing or not the file that was written"
    return ""


def _raise_together(damage: str, folder: Path) -> None:
    """Raise on all ranks where any of them found damage; every rank must call it."""
    found = next((one for one in of_all_ranks(damage) if one), None)
    if found is not None:
        raise TrainingError(
            f"checkpoint {folder}: {found}; delete the folder train/ of the root and start the job "
            "again: finished fits are kept, and this one starts anew"
        )


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
