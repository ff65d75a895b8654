"""What the pseudo-labels of a fit weigh on average, from some thousand of its rows."""

# R rows of a unit, N rows of it that are used, C classes, E entries of a plan.

import numpy as np

from mke_ray.labels.dense import COLUMNS, DenseForm
from mke_ray.train.blocks import UnitReader
from mke_ray.train.dense_targets import PixelWeights
from mke_ray.train.plan import RowPlan

_MAX_ROWS = 4096  # spread over all units, so that more would change little
_MAX_DENSE_ROWS = 256  # each has many pixels


def mean_label_weight(reader: UnitReader, plan: RowPlan, *, selection: int) -> float:
    """Return the mean weight of the labels of the rows of a selection, as the loss counts them.

    Units are taken evenly over all; nothing but labels is read, and every rank reads the same.

    Args:
        reader: The stores.
        plan: The rows of the fit.
        selection: Number of a selection with pseudo-labels.
    """
    if not (reader.has_sample_weights or reader.targets.weighs):
        return 1.0
    entry_E = np.flatnonzero(plan.selection_E == selection)
    most = _MAX_DENSE_ROWS if reader.targets.is_dense else _MAX_ROWS
    mean_rows = max(float(plan.num_rows_E[entry_E].mean()), 1.0)
    step = max(int(len(entry_E) * mean_rows / most), 1)
    weights = [
        _weights_of(reader, plan.unit(entry), plan.usable_rows(entry))
        for entry in entry_E[::step].tolist()
    ]
    return float(np.concatenate(weights).mean())


def _weights_of(reader: UnitReader, unit: str, row_N: np.ndarray) -> np.ndarray:
    """Return what the labels of some rows of a unit weigh [N]."""
    weight_N = reader.sample_weights(unit)[row_N].astype(np.float64)
    return weight_N * _rule_weights(reader, unit, row_N) if reader.targets.weighs else weight_N


def _rule_weights(reader: UnitReader, unit: str, row_N: np.ndarray) -> np.ndarray:
    """Return what the rule of the fit makes of rows that have a label [N], the mean of each."""
    assert reader.labels is not None and reader.label_index is not None  # there are pseudo-labels
    form, location = DenseForm.of_spec(reader.labels.spec), reader.label_index.location(unit)
    columns = [*(["logits"] if form is None else COLUMNS)]
    table = reader.labels.read(unit, location=location, columns=columns)
    if form is not None:
        weights = reader.targets.dense_weights(table, form)
        assert isinstance(weights, PixelWeights)
        return weights[row_N].mean(axis=(1, 2))
    logits_NC = np.asarray(table.column("logits").take(row_N).to_pylist(), np.float32)
    weight_NX = reader.targets.weights(logits_NC)
    return weight_NX.reshape(len(row_N), -1).mean(axis=1)
