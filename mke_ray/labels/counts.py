"""How many samples ended in each status, rows left out that the manifest marks."""

# B samples of a unit.

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.files import STATUS_SUFFIX
from mke_ray.labels.index import STATUS_CODES, Index
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Status, StatusCounts


def count_rows(samples: pa.Table, marked_B: np.ndarray | None = None) -> StatusCounts:
    """Count the statuses of the samples of a unit, and the reasons of what is not ok.

    Args:
        samples: Rows of a sample store; columns of media are not needed.
        marked_B: Which of them do not count [B], None where all do.
    """
    table = samples if marked_B is None else samples.filter(pa.array(~marked_B))
    status = Counter(table.column("status").to_pylist())
    ok, partial, bad, retry = (status[str(one)] for one in STATUS_CODES)
    return StatusCounts(ok, partial, bad, retry, reasons_of(table))


def reasons_of(samples: pa.Table) -> dict[str, int]:
    """Count why samples lack a modality or all of them."""
    columns = [name for name in samples.column_names if name.endswith(STATUS_SUFFIX)]
    by_row = zip(*(samples.column(name).to_pylist() for name in columns), strict=True)
    reasons = (", ".join(dict.fromkeys(one for one in row if one != Status.OK)) for row in by_row)
    return dict(Counter(reason for reason in reasons if reason))


def counts_in_use(samples: UnitStore, manifest: Manifest, index: Index) -> StatusCounts:
    """Return how many samples in use ended in each status, with the reasons.

    Args:
        samples: The sample store; only units with a mark are read, without their media.
        manifest: The manifest with the marks.
        index: Index of the units that count.
    """
    total, marks = index.counts(), manifest.mark_table()
    wanted = ["status", *(n for n in samples.schema.names if n.endswith(STATUS_SUFFIX))]
    for unit in sorted(marks.units()):
        marked_B = marks.mask(unit) if unit in index else None
        if marked_B is not None:
            table = samples.read(unit, location=index.location(unit), columns=wanted)
            total.take_away(count_rows(table, ~marked_B))
    return total


def num_in_use(manifest: Manifest, refs: Iterable[UnitRef]) -> int:
    """Return how many rows of some units are not marked."""
    marks, total = manifest.mark_table(), 0
    units = marks.units()
    for ref in refs:
        marked_B = marks.mask(ref.unit) if ref.unit in units else None
        total += ref.num_rows - (0 if marked_B is None else int(marked_B.sum()))
    return total
