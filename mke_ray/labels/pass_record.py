"""What all starts of a pass took, kept in a small file of the run, so that a restart knows it."""

import logging
import time
from collections.abc import Sequence

from mke_ray.labels.rates import PassRates
from mke_ray.labels.store import UnitStore
from mke_ray.schema import fingerprint
from mke_ray.storage import Root

FOLDER = "progress"
SECONDS_BETWEEN_WRITES = 10.0

logger = logging.getLogger(__name__)


class PassRecord:
    """The record of a pass; a file that is not there or damaged is an empty one.

    Args:
        root: Root of the run.
        stores: What the pass fills, which is what it is known by.
    """

    def __init__(self, root: Root, stores: Sequence[UnitStore]) -> None:
        self._root = root
        self._name = f"{FOLDER}/label-{_name_of(root, stores)}.json"
        self._last_write_s = time.perf_counter()
        self._is_failed = False
        self.before = self._read()

    def keep(self, rates: PassRates, *, now: bool = False) -> None:
        """Write what this start and those before it took, if the last time is a while ago.

        Args:
            rates: What this start took.
            now: Write it however long ago the last time is.
        """
        if not now and time.perf_counter() - self._last_write_s < SECONDS_BETWEEN_WRITES:
            return
        try:
            self._root.write(self._name, self.before.plus(rates).to_json().encode())
        except OSError as error:
            self._say_once(error)
        self._last_write_s = time.perf_counter()

    def _read(self) -> PassRates:
        """Return what the starts before this one took."""
        try:
            return PassRates.from_json(self._root.read(self._name))
        except FileNotFoundError:
            return PassRates()
        except ValueError as error:
            logger.warning(
                "%s is damaged (%s): time and cost are counted from this start on",
                self._root.child(self._name).uri,
                error,
            )
            return PassRates()

    def _say_once(self, error: OSError) -> None:
        """Say that the record cannot be written: a restart will know less, nothing else."""
        if not self._is_failed:
            self._is_failed = True
            logger.warning(
                "%s cannot be written (%s): a restart will count from its own start",
                self._root.child(self._name).uri,
                error,
            )


def _name_of(root: Root, stores: Sequence[UnitStore]) -> str:
    """Return the fingerprint of some stores, wherever the root lies."""
    return fingerprint({"stores": [one.root.uri.removeprefix(root.uri) for one in stores]})
