"""The SQLite file of MLflow for a run in a bucket: fetched at the start, stored at the end."""

import contextlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mke_ray.storage import Root
from mke_ray.tracking import DATABASE_NAME

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def fetched_database(kept: Root) -> Iterator[str]:
    """Lend a local folder with the database that earlier starts left, and store it at the end.

    SQLite cannot write to an object store. The file is small, and one driver works on a root at a
    time, so that a copy for the time of the run is enough.

    Args:
        kept: Folder of the bucket in which the file is kept between starts.
    """
    logger.info(
        "MLflow records to %s/%s, stored when the run ends; tracking.uri (or MLFLOW_TRACKING_URI) "
        "names a server instead",
        kept.uri,
        DATABASE_NAME,
    )
    with tempfile.TemporaryDirectory(prefix="mke_ray_mlflow_") as folder:
        path = Path(folder, DATABASE_NAME)
        with contextlib.suppress(FileNotFoundError):
            path.write_bytes(kept.read(DATABASE_NAME))
        try:
            yield folder
        finally:
            _store(path, kept)


def _store(path: Path, kept: Root) -> None:
    """Store the database; where that fails, the run ends as it would have ended."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(os.fspath(path))) as database:
            kept.write(DATABASE_NAME, database.serialize())
    except (OSError, sqlite3.Error) as error:
        logger.warning("%s/%s could not be stored: %s", kept.uri, DATABASE_NAME, error)


@contextlib.contextmanager
def folder_here(folder: Root) -> Iterator[str]:
    """Yield the path of a folder on this machine: its own, or that of a copy for a block.

    Args:
        folder: A folder of a run, with a few small files.
    """
    if folder.is_local:
        yield folder.path()
        return
    with tempfile.TemporaryDirectory(prefix="mke_ray_copy_") as scratch:
        for name in folder.names():
            path = os.path.join(scratch, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(folder.read(name))
        yield scratch
