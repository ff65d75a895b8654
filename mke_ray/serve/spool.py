"""A folder for what was uploaded, which goes with its process however that ends."""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
import weakref

PREFIX = "mke-serve-"


class Spool:
    """A folder of this process, locked as long as the process lives.

    A process that is killed removes nothing, so that whoever makes a folder removes those of the
    dead: those that nobody locks. A process number would not do, since containers that share a
    disk do not see each other's processes.

    Attributes:
        folder: The folder; only this user reads it.
    """

    def __init__(self) -> None:
        _remove_dead()
        hidden = tempfile.mkdtemp(prefix=f".{PREFIX}")  # the others look for names without the dot
        lock = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a disk without locks, on which nothing is removed
            fcntl.flock(lock, fcntl.LOCK_SH)
        place, name = os.path.split(hidden)
        self.folder = os.path.join(place, name[1:])
        os.rename(hidden, self.folder)
        self._remove = weakref.finalize(self, _remove, self.folder, lock)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._remove()


def _remove(folder: str, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _remove_dead() -> None:
    """Remove folders of this user whose processes are gone."""
    for folder in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), f"{PREFIX}*")):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, no folder, or gone meanwhile
            continue
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # locked, so its process lives; or the disk has no such locks
            continue
        finally:
            os.close(lock)
