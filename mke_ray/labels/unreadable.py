"""The samples of a run that are not whole, and why: one by one, and as a table of the run."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.ahead import map_ahead
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.files import STATUS_SUFFIX
from mke_ray.labels.index import Index, Location
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Status

LIST_NAME = "report/bad.parquet"

_NUM_THREADS = 16
_ORDER = (Status.BAD, Status.RETRY, Status.PARTIAL)
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
    """Write the table of the samples of a run that are not whole, sorted by reason.

    Args:
        plan: The plan of the pass that stored them.
        index: Index of the sample store.
    """
    write_list(plan, unreadable_samples(plan.samples, plan.manifest, index))


def write_list(plan: LabelPlan, samples: Iterable[UnreadableSample]) -> None:
    """Write some samples as that table."""
    ranked = sorted(samples, key=_rank)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(map(asdict, ranked)), schema=_SCHEMA), sink)
    plan.root.write(LIST_NAME, sink.getvalue())


def _rank(sample: UnreadableSample) -> tuple[int, str, str, str]:
    """Return what the table is sorted by."""
    return _ORDER.index(Status(sample.status)), sample.reason, sample.split, sample.key


def unreadable_samples(
    samples: UnitStore, manifest: Manifest, index: Index
) -> Iterator[UnreadableSample]:
    """Yield every sample in use that is not whole, with the reason, in the manifest's order.

    Only units that hold such samples are read, and of these only columns beside the media.
    """
    wanted = (
        ref for ref in manifest.unit_refs() if ref.unit in index and index.status(ref.unit).any()
    )
    found = map_ahead(
        lambda ref: unreadable_of(samples, manifest, ref, index.location(ref.unit)),
        wanted,
        num_threads=_NUM_THREADS,
    )
    for some in found:
        yield from some


def unreadable_of(
    samples: UnitStore, manifest: Manifest, ref: UnitRef, location: Location
) -> list[UnreadableSample]:
    """Return every sample in use of one unit that is not whole, with the reason."""
    states = [name for name in samples.schema.names if name.endswith(STATUS_SUFFIX)]
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
