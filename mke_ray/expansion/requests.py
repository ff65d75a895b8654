"""Requests that a run makes to the object store that its root lies in, by what a store bills.

How many a unit takes was counted at the clients (``benchmarks/scale_requests.py``); a test on a
real S3 server counts them again.
"""

import math
from dataclasses import dataclass

NAMES_PER_LIST = 1000
UNITS_PER_MANIFEST_PART = 1024

_PUTS_OF_UNIT = 2  # its file and its commit record, in each store
_LOOKS_OF_UNIT = 3  # for its record, for its file, and again for its record when all is indexed
_NAMES_OF_UNIT = 2


@dataclass(frozen=True, slots=True)
class Requests:
    """How many requests of each kind.

    Args:
        puts: That write, conditional ones among them.
        gets: That read or look (HEAD).
        lists: That list, with up to 1,000 names each; billed as those that write.
    """

    puts: int = 0
    gets: int = 0
    lists: int = 0

    def __add__(self, other: "Requests") -> "Requests":
        """Return the requests of both."""
        return Requests(self.puts + other.puts, self.gets + other.gets, self.lists + other.lists)


def listing_requests(num_keys: int, num_units: int) -> Requests:
    """Return what listing a source and writing its manifest takes."""
    parts = math.ceil(num_units / UNITS_PER_MANIFEST_PART)
    return Requests(puts=2 * parts, lists=math.ceil(num_keys / NAMES_PER_LIST))


def pass_requests(num_units: int, *, num_stores: int) -> Requests:
    """Return what a labelling pass takes of the root, without what its source is asked for.

    Args:
        num_units: Units of the pass.
        num_stores: The sample store and those of the labels.
    """
    lists = 2 * _pages(num_units) * num_stores  # when it begins and when it ends
    return Requests(
        puts=_PUTS_OF_UNIT * num_stores * num_units,
        gets=(_LOOKS_OF_UNIT * num_stores + 1) * num_units,  # and its rows of the manifest
        lists=lists,
    )


def compaction_requests(num_units: int, num_parts: int, *, num_stores: int) -> Requests:
    """Return what bringing all units into parts takes; what it deletes is not billed.

    Args:
        num_units: Units of each store.
        num_parts: Parts of all stores.
        num_stores: How many stores.
    """
    return Requests(
        puts=num_units * num_stores + num_parts,
        gets=_LOOKS_OF_UNIT * num_stores * num_units + num_parts,
        lists=4 * _pages(num_units) * num_stores,
    )


def epoch_requests(num_units: int, *, num_stores: int) -> Requests:
    """Return what one rank or feed takes that reads all units once, none of them from its cache."""
    return Requests(gets=num_stores * num_units)


def _pages(num_units: int) -> int:
    """Return how many requests list what a pass leaves of some units."""
    return math.ceil(_NAMES_OF_UNIT * num_units / NAMES_PER_LIST)
