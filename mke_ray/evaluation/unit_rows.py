"""Columns of a unit out of any store, compared with the manifest, and parts of the probe."""

# B samples of a unit.

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import ConfigError
from mke_ray.evaluation.plan import EvaluationPlan
from mke_ray.evaluation.results import Flow
from mke_ray.labels.index import Index
from mke_ray.labels.probe import probe_part
from mke_ray.labels.same_rows import check_rows
from mke_ray.labels.store import UnitStore
from mke_ray.schema import ManifestRow, Status

USABLE = (Status.OK, Status.PARTIAL)


def read_columns(
    store: UnitStore, index: Index, ref: UnitRef, rows: Sequence[ManifestRow], columns: list[str]
) -> pa.Table:
    """Return columns of a unit, after a comparison of its rows with the manifest's.

    Raises:
        StoreError: The store holds other rows.
    """
    table = store.read(ref.unit, location=index.location(ref.unit), columns=["sample_id", *columns])
    check_rows(table, store.root.uri, ref, rows)
    return table


def usable_rows(students: pa.Table) -> np.ndarray:
    """Return which rows of a table of predictions could be read [B]."""
    return np.isin(students.column("status").to_pylist(), [str(one) for one in USABLE])


def parts_of(groups: Sequence[str], plan: EvaluationPlan) -> np.ndarray:
    """Return the part of the probe that each group belongs to [B]."""
    parts = [
        probe_part(group, seed=plan.probe_seed, select_fraction=plan.select_fraction)
        for group in groups
    ]
    return np.array(parts, dtype=object)


def mean_flow(flows: Mapping[str, Flow], columns: Sequence[str]) -> Flow | None:
    """Return what an arm did to the teacher's answers, the mean over its seeds.

    Args:
        flows: Flow of every column; the teacher has none.
        columns: Columns of the arm.
    """
    mine = [flows[column] for column in columns if column in flows]
    if not mine or not mine[0].num:
        return None
    return Flow(
        mine[0].num,
        mine[0].num_wrong,
        float(np.mean([one.num_corrected for one in mine])),
        float(np.mean([one.num_corrupted for one in mine])),
    )


def check_tested(num_test: int) -> None:
    """Refuse to evaluate without a test set.

    Raises:
        ConfigError: It is empty.
    """
    if num_test == 0:
        raise ConfigError(
            "the test split has no readable sample with a true label; add labelled rows with "
            "split=test to the source"
        )
