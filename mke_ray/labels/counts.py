"""How many samples ended in each status, rows left out that the manifest marks."""

# B samples of a unit.

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.files import status_columns
from mke_ray.labels.index import STATUS_CODES, Index, counts_of
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Status, StatusCounts

_NUM_READ_THREADS = 16


def count_rows(samples: pa.Table, marked_B: np.ndarray | None = None) -> StatusCounts:
    """Count the statuses of the samples of a unit, and the reasons of what is not ok.

    Args:
        samples: Rows of a sample store; columns of media are not needed.
        marked_B: Which of them do not count [B], None where all do.
    """
    table = samples if marked_B is None else samples.filter(pa.array(~marked_B))
    status = Counter(table.column("status").to_pylist())
    ok, partial, bad, retry = (status[str(one)] for one in STATUS_CODES)
    return StatusCounts(ok, partial, bad, retry, **reasons_of(table))


def reasons_of(samples: pa.Table) -> dict[str, dict[str, int]]:
    """Count why samples are not whole, as the fields of ``StatusCounts``.

    Returns:
        ``reasons`` of those that cannot be read, ``partial_reasons`` of those that lack a
        modality.
    """
    columns = status_columns(samples.column_names)
    by_row = zip(*(samples.column(name).to_pylist() for name in columns), strict=True)
    counted: dict[str, Counter[str]] = {"reasons": Counter(), "partial_reasons": Counter()}
    for status, row in zip(samples.column("status").to_pylist(), by_row, strict=True):
        if reason := ", ".join(dict.fromkeys(one for one in row if one != Status.OK)):
            counted["partial_reasons" if status == Status.PARTIAL else "reasons"][reason] += 1
    return {name: dict(number) for name, number in counted.items()}


def counts_in_use(samples: UnitStore, manifest: Manifest, index: Index) -> StatusCounts:
    """Return how many samples in use ended in each status, with the reasons.

    The index says what became of a marked row. Why it is not ok says its unit, of which the
    columns beside the media are read; units whose marked rows are all ok are not read.

    Args:
        samples: The sample store.
        manifest: The manifest with the marks.
        index: Index of the units that count.
    """
    total, reading = index.counts(), []
    for unit, marked_B in marked_rows(manifest, index.units()):
        code_B = index.status(unit)[marked_B]
        total.take_away(counts_of(code_B.tobytes(), {}))
        if code_B.any():
            reading.append((unit, marked_B))
    with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
        for reasons in pool.map(lambda one: _reasons_of_marked(samples, index, *one), reading):
            total.take_away(StatusCounts(0, 0, 0, 0, **reasons))
    return total


def _reasons_of_marked(
    samples: UnitStore, index: Index, unit: str, marked_B: np.ndarray
) -> dict[str, dict[str, int]]:
    """Count why the marked rows of a unit are not whole."""
    columns = status_columns(samples.schema.names)
    table = samples.read_small_columns(unit, index.location(unit), ["status", *columns])
    return reasons_of(table.filter(pa.array(marked_B)))


def num_in_use(manifest: Manifest, refs: Iterable[UnitRef]) -> int:
    """Return how many rows of some units are not marked."""
    num_rows = {ref.unit: ref.num_rows for ref in refs}
    num_marked = sum(int(marked_B.sum()) for _, marked_B in marked_rows(manifest, num_rows))
    return sum(num_rows.values()) - num_marked


def marked_rows(manifest: Manifest, units: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield those of some units in which rows are marked, and which rows these are, bool [B]."""
    marks = manifest.mark_table()
    for unit in units:
        marked_B = marks.mask(unit)
        if marked_B is not None:
            yield unit, marked_B
