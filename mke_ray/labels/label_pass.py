"""The one pass over a label store that gathers the statistics of its unlabeled samples."""

# B rows of a unit, N decisions, K decisions of a row, L alternatives of a decision, C classes.

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import ConfigError
from mke_ray.labels.decisions import decisions_of, decisions_of_pixels, num_alternatives
from mke_ray.labels.dense import DenseForm, packed_rows
from mke_ray.labels.derived import logits_of
from mke_ray.labels.label_rule import aligned
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unit_reading import read_in_order
from mke_ray.schema import LabelSpace, Split

_UNITS_AT_ONCE = 16  # of dense labels a unit is large


def statistics_of(
    manifest: Manifest,
    store: UnitStore,
    *,
    temperature: float,
    ratio_KL: NDArray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelStatistics:
    """Return the statistics of a teacher's decisions over all unlabeled samples.

    A few units are held at a time, whatever the size of the split, and added in their order, so
    that the same store gives the same numbers.

    Args:
        manifest: The samples.
        store: The teacher's labels.
        temperature: Divides the teacher's logits.
        ratio_KL: What probabilities are multiplied with, see ``alignment_ratio``.
        progress: Called with units done and units in all.

    Raises:
        ConfigError: The teacher labelled none of them.
    """
    space, index = manifest.label_space, store.read_index()
    form = DenseForm.of_spec(store.spec)

    def gathered(ref: UnitRef) -> LabelStatistics:
        table = store.read(ref.unit, location=index.location(ref.unit))
        found = LabelStatistics.empty(*num_alternatives(space.num_classes, space.kind))
        for decision_NKL in _decisions(table, space, form, temperature):
            found = found.merged(LabelStatistics.of(aligned(decision_NKL, ratio_KL)))
        return found

    total = LabelStatistics.empty(*num_alternatives(space.num_classes, space.kind))
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    done = None if progress is None else lambda number: progress(number, len(refs))
    for one in read_in_order(refs, gathered, units_at_once=_UNITS_AT_ONCE, progress=done):
        total = total.merged(one)
    if total.num == 0:
        raise ConfigError(
            "no unlabeled sample has a label of the teacher, so labels.weight and labels.alignment "
            "have nothing to go by; look at report/bad.parquet"
        )
    return total


def _decisions(
    table: pa.Table, space: LabelSpace, form: DenseForm | None, temperature: float
) -> Iterator[NDArray]:
    """Yield the decisions of a unit: all at once, or of dense labels sample by sample."""
    if form is not None:
        for packed in packed_rows(table):
            if packed is not None:
                yield decisions_of_pixels(form.soft(packed, temperature=temperature))
        return
    logits_BC = logits_of(table, "logits", space.num_classes)
    logits_BC = logits_BC[~np.isnan(logits_BC).any(axis=1)]
    yield decisions_of(logits_BC, temperature=temperature, kind=space.kind)
