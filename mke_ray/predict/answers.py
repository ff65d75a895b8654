"""The answers of a student as people read them: one row per sample, from the stores of a pass."""

# B samples of a unit, C classes, M modalities, H height, W width.

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mke_ray.data.codec import encode_modality
from mke_ray.labels.dense import DenseForm, Packed, packed_rows
from mke_ray.labels.sample_reader import PRESENT
from mke_ray.models.probabilities import probabilities
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, MaskSpec

ANSWERS_VERSION = 2
CHOSEN_FROM = 0.5  # of many classes those at least so likely

_MOST_ROWS, _LEAST_ROWS = 1 << 16, 1 << 7
_MOST_NUMBERS = 1 << 26  # probabilities or pixels of a file


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the rows of answers say.

    Args:
        label_space: The classes.
        modalities: What the student reads.
        temperature: Temperature of the student.
        student: Fingerprint of the student.
        root: Root of the source, "" where keys are not below one.
        is_explained: Whether the part of each modality is told.
        dense: How dense answers are packed; None of others.
    """

    label_space: LabelSpace
    modalities: tuple[str, ...]
    temperature: float
    student: str
    root: str = ""
    is_explained: bool = False
    dense: DenseForm | None = None

    @property
    def rows_per_file(self) -> int:
        """Rows of a file, so that a worker holds some tens to hundreds of megabytes of one."""
        if self.dense is not None:
            return max(_LEAST_ROWS, 4 * _MOST_NUMBERS // (self.dense.height * self.dense.width))
        return min(_MOST_ROWS, max(_LEAST_ROWS, _MOST_NUMBERS // self.label_space.num_classes))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the answers, with classes and temperature as metadata."""
        of_each = pa.struct([pa.field(name, pa.float32()) for name in self.modalities])
        more = {"contribution": of_each, "changed_without": of_each} if self.is_explained else {}
        columns = {**_COLUMNS, **_SAID[self.label_space.kind], **more}
        fields = [pa.field(name, kind) for name, kind in columns.items()]
        return pa.schema(fields, metadata={"mke_ray": json.dumps(self.to_dict())})

    def to_dict(self) -> dict[str, Any]:
        """Return what a reader of the answers has to know."""
        return {
            "answers_version": ANSWERS_VERSION,
            **self.label_space.to_dict(),
            "modalities": list(self.modalities),
            "temperature": self.temperature,
            "student": self.student,
        }


_COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.int64(),
    "key": pa.string(),
    "uri": pa.string(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "group": pa.string(),
    "split": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "error": pa.string(),
    "missing": pa.list_(pa.string()),
}
_SAID: dict[LabelKind, dict[str, pa.DataType]] = {
    LabelKind.SINGLE: {
        "answer": pa.string(),
        "probability": pa.float32(),
        "probabilities": pa.list_(pa.float32()),
    },
    LabelKind.MULTI: {
        "answers": pa.list_(pa.string()),
        "probabilities": pa.list_(pa.float32()),
    },
    LabelKind.DENSE: {
        "class_map": pa.binary(),
        "probability": pa.float32(),
        "shares": pa.list_(pa.float32()),
    },
}


def answers_of(
    form: AnswerForm,
    rows: Sequence[ManifestRow],
    samples: pa.Table,
    said: pa.Table,
    explained: pa.Table | None = None,
) -> pa.Table:
    """Return the answers for the samples of a unit that are in use.

    Args:
        form: What they say.
        rows: The samples as the manifest has them.
        samples: What became of each, without media.
        said: The student's logits.
        explained: The part of each modality; None where it is not told.
    """
    answers = _dense_answers(form, said) if form.dense else _plain_answers(form, said)
    parts = _parts(form, explained) if explained is not None else [{}] * len(rows)
    found = zip(rows, samples.to_pylist(), answers, parts, strict=True)
    table = [
        {**_sample(form, row, stored), **(answer or {}), **part}
        for row, stored, answer, part in found
        if not row.mark
    ]
    return pa.Table.from_pylist(table, schema=form.schema)


def uri_of(root: str, key: str) -> str:
    """Return the full URI of a sample whose key is below the root of its source."""
    if not root or "://" in key or key.startswith("/"):
        return key
    return posixpath.join(root, key)


def _sample(form: AnswerForm, row: ManifestRow, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says of its sample."""
    states = {name: stored[f"{name}_status"] for name in form.modalities}
    lacking = {name: why for name, why in states.items() if why != PRESENT}
    return {
        "sample_id": row.sample_id,
        "key": row.key,
        "uri": uri_of(form.root, row.key),
        "start_s": row.start_s,
        "end_s": row.end_s,
        "group": row.group,
        "split": row.split,
        "status": stored["status"],
        "reason": ", ".join(dict.fromkeys(lacking.values())) or None,
        "error": stored["error"],
        "missing": sorted(lacking),
    }


def _plain_answers(form: AnswerForm, said: pa.Table) -> list[dict[str, Any] | None]:
    """Return the answer of each sample, None where the student gave none."""
    logits = said.column("logits").to_pylist()
    kind, classes = form.label_space.kind, form.label_space.classes
    there = [place for place, one in enumerate(logits) if one is not None]
    answers: list[dict[str, Any] | None] = [None] * len(logits)
    if there:
        logits_BC = torch.tensor([logits[place] for place in there])
        found_BC = probabilities(logits_BC, kind, form.temperature)
        for place, probability_C in zip(there, found_BC, strict=True):
            answers[place] = _answer(probability_C, kind, classes)
    return answers


def _answer(probability_C: Tensor, kind: LabelKind, classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns of an answer."""
    listed = probability_C.tolist()
    if kind == LabelKind.MULTI:
        chosen = [name for name, one in zip(classes, listed, strict=True) if one >= CHOSEN_FROM]
        return {"answers": chosen, "probabilities": listed}
    top = int(probability_C.argmax())
    return {"answer": classes[top], "probability": listed[top], "probabilities": listed}


def _dense_answers(form: AnswerForm, said: pa.Table) -> list[dict[str, Any] | None]:
    """Return the class map of each sample, None where the student gave none."""
    return [None if one is None else _class_map(form, one) for one in packed_rows(said)]


def _class_map(form: AnswerForm, packed: Packed) -> dict[str, Any]:
    """Return the columns of a class map: a PNG, and how likely and how large classes are."""
    dense = form.dense
    assert dense is not None  # the caller looked
    probability_CHW = dense.soft(packed, temperature=form.temperature)
    class_HW = dense.hard(packed[0])
    share_C = np.bincount(class_HW.reshape(-1), minlength=dense.num_classes) / class_HW.size
    (png,) = encode_modality(class_HW, MaskSpec(dense.height, dense.width))
    return {
        "class_map": png,
        "probability": float(probability_CHW.max(axis=0).mean()),
        "shares": share_C.tolist(),
    }


def _parts(form: AnswerForm, explained: pa.Table) -> list[dict[str, Any]]:
    """Return the part of each modality in each answer."""
    num = len(form.modalities)
    names = form.modalities

    def one(numbers: Sequence[float] | None) -> dict[str, Any]:
        if numbers is None:
            return {"contribution": None, "changed_without": None}
        return {
            "contribution": dict(zip(names, numbers[:num], strict=True)),
            "changed_without": dict(zip(names, numbers[num:], strict=True)),
        }

    return [one(numbers) for numbers in explained.column("logits").to_pylist()]
