"""Which data a run has seen, and its scores on test, as comparisons of runs need them."""

# N samples.

from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest
from mke_ray.data.manifest.parts import row_digest
from mke_ray.evaluation import TEACHER, Evaluation
from mke_ray.schema import Split, fingerprint

_WHERE = (
    "root",
    "table",
    "made",
    "places",
    "storage_options",
    "endpoint_url",
    "region",
    "anonymous",
)
_DRAW = "data_seed"


def data_drawn(job: JobConfig) -> dict[str, Any]:
    """Return how the data of a run are made or listed, and which draw of it they are."""
    source = {name: one for name, one in job.source.items() if name not in (*_WHERE, _DRAW)}
    return {"source": fingerprint(source), _DRAW: job.source.get(_DRAW)}


def scores_on_test(evaluation: Evaluation, manifest: Manifest) -> pa.Table:
    """Return the scores of single test samples, a column for every arm and seed.

    Beside them stand ``sample_id``, ``group``, ``digest`` (of the size and the true labels of the
    row, so that samples of two runs are the same where both are equal), and ``version``: of the row
    as its source names it where it has no size, else 0. It tells rows of drawn tables apart.

    Args:
        evaluation: What was measured.
        manifest: The samples.
    """
    rows = {
        row.sample_id: (
            row_digest(row.size, row.labels),
            row_digest(row.etag) if row.size < 0 else 0,
        )
        for ref in manifest.unit_refs([Split.TEST])
        for row in manifest.read_unit(ref)
    }
    part = evaluation.test
    told_N2 = np.array([rows[one] for one in part.sample_id_N.tolist()], np.uint64).reshape(-1, 2)
    columns = {
        "sample_id": pa.array(part.sample_id_N, pa.int64()),
        "group": pa.array(part.group_N.tolist(), pa.string()),
        "digest": pa.array(told_N2[:, 0], pa.uint64()),
        "version": pa.array(told_N2[:, 1], pa.uint64()),
    }
    for arm, fits in evaluation.columns.items():
        seeds = [0] if arm == TEACHER else list(evaluation.arms[arm].seeds)
        for seed, fit in zip(seeds, fits, strict=True):
            columns[f"{arm}/{seed}"] = pa.array(part.scores[fit], pa.float32())
    return pa.table(columns)
