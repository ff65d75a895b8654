"""The samples of a run that are not whole, and why: one by one, and as a table of the run."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.batching import batched
from mke_ray.data.ahead import map_ahead
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.files import status_columns
from mke_ray.labels.index import NUM_USABLE_CODES, STATUS_CODES, Index, Location
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Status

LIST_NAME = "report/bad.parquet"

_NUM_THREADS = 16
_ROWS_AT_ONCE = 4096
_SORTED_BY = ("status", "reason", "split", "key")  # bad comes before retry
_FIRST_CODE = NUM_USABLE_CODES
_SCHEMA = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class UnreadableSample:
    """A sample that is ``partial``, ``bad`` or must be tried again.

    Args:
        status: ``partial``, ``bad`` or ``retry``.
        reason: Why, in a word per modality that is missing.
        key: Key in the source.
        split: Role of the sample.
        group: Who or what it comes from.
        sample_id: Its id.
        error: Why, for a person.
    """

    status: str
    reason: str
    key: str
    split: str
    group: str
    sample_id: int
    error: str


def write_unreadable(plan: LabelPlan, index: Index) -> None:
    """Write the table of the samples of a run that gave nothing, sorted by reason.

    How many lack a modality alone is counted, not listed: that may be all of them.

    Args:
        plan: The plan of the pass that stored them.
        index: Index of the sample store.
    """
    write_list(plan, unreadable_samples(plan.samples, plan.manifest, index, least=_FIRST_CODE))


def write_list(plan: LabelPlan, samples: Iterable[UnreadableSample]) -> None:
    """Write some samples as that table, in memory as columns and not one by one."""
    blocks = [
        pa.Table.from_pylist(list(map(asdict, some)), schema=_SCHEMA)
        for some in batched(samples, _ROWS_AT_ONCE)
    ]
    table = pa.concat_tables([_SCHEMA.empty_table(), *blocks])
    sink = io.BytesIO()
    pq.write_table(table.sort_by([(name, "ascending") for name in _SORTED_BY]), sink)
    plan.root.write(LIST_NAME, sink.getvalue())


def unreadable_samples(
    samples: UnitStore, manifest: Manifest, index: Index, *, least: int = 1
) -> Iterator[UnreadableSample]:
    """Yield every sample in use that is not whole, with the reason, in the manifest's order.

    Only units that hold such samples are read, and of these only columns beside the media.

    Args:
        samples: The sample store.
        manifest: Its manifest.
        index: Index of the units that count.
        least: Least status code of those wanted: 1 partial, 2 bad, 3 retry.
    """
    wanted = (
        ref
        for ref in manifest.unit_refs()
        if ref.unit in index and (index.status(ref.unit) >= least).any()
    )
    found = map_ahead(
        lambda ref: unreadable_of(samples, manifest, ref, index.location(ref.unit)),
        wanted,
        num_threads=_NUM_THREADS,
    )
    for some in found:
        yield from (one for one in some if STATUS_CODES.index(Status(one.status)) >= least)


def unreadable_of(
    samples: UnitStore, manifest: Manifest, ref: UnitRef, location: Location
) -> list[UnreadableSample]:
    """Return every sample in use of one unit that is not whole, with the reason."""
    states = status_columns(samples.schema.names)
    columns = ["sample_id", "status", "error", *states]
    table = samples.read_small_columns(ref.unit, location, columns)
    not_whole = []
    for row, found in zip(manifest.read_unit(ref), table.to_pylist(), strict=True):
        if found["status"] != Status.OK and not row.mark:
            reason = ", ".join(sorted({found[name] for name in states} - {"ok"}))
            not_whole.append(
                UnreadableSample(
                    status=found["status"],
                    reason=reason,
                    key=row.key,
                    split=row.split,
                    group=row.group,
                    sample_id=row.sample_id,
                    error=found["error"] or reason,
                )
            )
    return not_whole
