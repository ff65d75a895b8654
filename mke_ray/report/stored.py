"""The content of a report as a file, from which its page can be made again, or be compared."""

import base64
import dataclasses
import io
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.errors import StoreError
from mke_ray.evaluation.diagnosis import Diagnosis
from mke_ray.evaluation.results import PartScores
from mke_ray.report.content import ReportContent
from mke_ray.storage import Root

CONTENT_NAME = "content.json"
SCORES_NAME = "test_scores.parquet"

_VERSION = 1
_NO_SCORES = PartScores(np.zeros(0, np.int64), np.zeros(0, object), {})
_NAMES = {"Diagnosis": Diagnosis}


@dataclass(frozen=True, slots=True, eq=False)
class StoredRun:
    """A finished run as its report has it.

    Args:
        uri: Root of the run.
        content: What its page says.
        scores: Scores of single test samples by ``arm/seed``, beside ``sample_id``, ``group`` and
            ``digest``.
    """

    uri: str
    content: ReportContent
    scores: pa.Table


def store_content(folder: Root, content: ReportContent, scores: pa.Table) -> None:
    """Write what a report says, and the scores of single test samples.

    Args:
        folder: Folder of the report.
        content: What it says; scores of single samples in it are left out.
        scores: Scores of single test samples.
    """
    buffer = io.BytesIO()
    pq.write_table(scores, buffer, compression="zstd")
    folder.write(SCORES_NAME, buffer.getvalue())
    plain = {"version": _VERSION, "content": to_plain(content)}
    folder.write(CONTENT_NAME, json.dumps(plain, allow_nan=False).encode())


def stored_run(root: Root) -> StoredRun:
    """Read what the report of a run says.

    Raises:
        StoreError: The run has no report, or one of another version.
    """
    folder = root.child("report")
    try:
        plain = json.loads(folder.read(CONTENT_NAME))
        table = pq.read_table(io.BytesIO(folder.read(SCORES_NAME)))
    except FileNotFoundError:
        has_older = folder.exists("metrics.json")
        found = "a report of an older version" if has_older else "no finished report"
        raise StoreError(
            f"{root.uri} holds {found}; bring the run to its end: python jobs/expand.py "
            f"root={root.uri}, with the settings that it was made with"
        ) from None
    if plain.get("version") != _VERSION:
        raise StoreError(
            f"{folder.uri}/{CONTENT_NAME} is of version {plain.get('version')}, this is version "
            f"{_VERSION}; start jobs/expand.py on that root again for a new report"
        )
    return StoredRun(root.uri, from_plain(ReportContent, plain["content"]), table)


def to_plain(value: Any) -> Any:
    """Return plain data that ``from_plain`` reads back; numbers that are not finite are None."""
    if isinstance(value, PartScores):
        return None
    if dataclasses.is_dataclass(value):
        return {one.name: to_plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    """Return what JSON can hold: bytes as text, a number that is not finite as None."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def from_plain(kind: Any, plain: Any) -> Any:
    """Return the value of a type that ``to_plain`` made plain.

    Args:
        kind: The type, with those of its parts.
        plain: The plain data. A number that was not finite is NaN, unless it may be None.
    """
    if kind is Any:
        return plain
    if kind is PartScores:
        return _NO_SCORES
    if dataclasses.is_dataclass(kind):
        return _dataclass_of(typing.cast(type, kind), plain)
    return _scalar_of(kind, plain) if get_origin(kind) is None else _generic_of(kind, plain)


def _scalar_of(kind: type, plain: Any) -> Any:
    """Return bytes, a number, a text or a member of an enumeration."""
    if kind is bytes:
        return base64.b64decode(plain)
    if kind is float:
        return math.nan if plain is None else float(plain)
    return plain if isinstance(plain, kind) else kind(plain)


def _dataclass_of(kind: type, plain: Mapping[str, Any]) -> Any:
    """Return an object of a dataclass; fields that are not known any more are left out."""
    hints = typing.get_type_hints(kind, globalns=None, localns=_NAMES)
    known = {one.name for one in dataclasses.fields(kind)}
    return kind(
        **{name: from_plain(hints[name], one) for name, one in plain.items() if name in known}
    )


def _generic_of(kind: Any, plain: Any) -> Any:
    """Return a value of a union, a tuple, a sequence or a mapping."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        chosen = [one for one in parts if one is not type(None)]
        return None if plain is None else from_plain(chosen[0], plain)
    if origin is tuple and parts[-1] is not Ellipsis:
        return tuple(from_plain(part, one) for part, one in zip(parts, plain, strict=True))
    if origin is tuple or origin is Sequence:
        return tuple(from_plain(parts[0], one) for one in plain)
    return {from_plain(parts[0], name): from_plain(parts[1], one) for name, one in plain.items()}
