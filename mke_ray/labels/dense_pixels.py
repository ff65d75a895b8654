"""Dense answers pixel by pixel: how stored ones become log-probabilities, and the other way."""

# N pixels of a sample, C classes, H height, W width.

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mke_ray.labels.dense import COLUMNS, DenseForm, Packed

PACKED_TYPE = pa.list_(pa.struct([pa.field(name, pa.binary()) for name in COLUMNS]))

_LEAST = 1e-7  # about the smallest share that float16 keeps


def form_of_answers(spec: Mapping[str, Any], labels: DenseForm) -> DenseForm:
    """Return how the answers of a store are packed, which have the size of some labels.

    Args:
        spec: Specification of the store.
        labels: The form of the labels.
    """
    return replace(labels, top_k=spec["packed"]["top_k"])


def as_stored(answers: Sequence[Packed | None] | None) -> list[dict[str, bytes] | None] | None:
    """Return the packed answers of some networks to a sample, as a row of ``PACKED_TYPE``."""
    if answers is None:
        return None
    return [None if one is None else dict(zip(COLUMNS, one, strict=True)) for one in answers]


def from_stored(row: Sequence[dict[str, bytes] | None] | None, num: int) -> list[Packed | None]:
    """Return the answers of ``num`` networks to a sample out of a row of ``PACKED_TYPE``."""
    if row is None:
        return [None] * num
    return [None if one is None else _pieces(one) for one in row]


def pixel_logs(packed: Packed | None, form: DenseForm) -> NDArray:
    """Return the log-probabilities of every pixel, row after row, float64 [N, C].

    Args:
        packed: A label or an answer; None gives NaN.
        form: How it is packed.
    """
    shape = (form.num_classes, form.height * form.width)
    if packed is None:
        return np.full(shape[::-1], np.nan)
    probability_CN = form.soft(packed).reshape(shape)
    return np.log(np.maximum(probability_CN.T.astype(np.float64), _LEAST))


def packed_pixels(logits_NC: NDArray, form: DenseForm) -> Packed | None:
    """Return a label of the logits of every pixel; None where one is not a number.

    Args:
        logits_NC: Logits [N, C], row after row.
        form: How to pack them.
    """
    if np.isnan(logits_NC).any():
        return None
    return form.pack(np.ascontiguousarray(logits_NC.T).reshape(form.logits_shape))


def _pieces(row: dict[str, bytes]) -> Packed:
    """Return the pieces of a label."""
    classes, log_probs, rest = (row[name] for name in COLUMNS)
    return classes, log_probs, rest
