"""Checkpoints of a fit: what each rank writes, and how as many ranks, or others, read it again."""

import hashlib
import json
import logging
import uuid
from pathlib import Path
from typing import Any

from mke_ray.errors import StoreError
from mke_ray.train.engine import rank, world_size
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
            "id": uuid.uuid4().hex,
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
        StoreError: A file of the checkpoint is not the one that was written.
    """
    plain = _read_plain(folder)
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
    check_files(folder)
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


def is_of_other_size(folder: Path | None, fit_id: str) -> bool:
    """Return whether a checkpoint is one of this fit that another number of workers wrote.

    Args:
        folder: Folder of the checkpoint; None where there is none.
        fit_id: Fingerprint of the fit.
    """
    if folder is None:
        return False
    plain = _read_plain(folder)
    return plain["fit"] == fit_id and plain["world_size"] != world_size()


def check_files(folder: Path) -> None:
    """Refuse a checkpoint of which a file is missing or is not the one that its rank wrote.

    Raises:
        StoreError: It names the file.
    """
    for listed in sorted((folder / DIGESTS).glob("*.json")):
        for name, digest in json.loads(listed.read_text()).items():
            if not (folder / name).exists() or _digest(folder / name) != digest:
                raise StoreError(
                    f"checkpoint {folder}: {name} is missing or not the file that was written; "
                    "delete this checkpoint (or the folder train/ of the root, then the fit starts "
                    "anew) and start the job again"
                )


def _read_plain(folder: Path) -> dict[str, Any]:
    """Return what rank 0 wrote of a fit."""
    return json.loads((folder / STATE).read_text())


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
