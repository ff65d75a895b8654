"""Rows that a test writes down, and the source that lists them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.sources import SourceRow
from mke_ray.schema import FeatureSpec, LabelSpace

SPACE = LabelSpace(("zero", "one", "two"))
DECODE = {"a": FeatureSpec(3), "b": FeatureSpec(2)}
STATUSES = {"partial": "partial", "bad": "bad"}


@dataclass
class ListSource:
    """Rows that a test writes down."""

    listed: list[SourceRow]
    label_space: LabelSpace = field(default_factory=lambda: SPACE)

    def identity(self) -> dict[str, Any]:
        return {"source": "list", "num": len(self.listed)}

    def prepare(self, progress=None) -> None:
        pass

    def rows(self) -> Iterator[SourceRow]:
        yield from self.listed

    def reader(self, spec):
        raise NotImplementedError


def source_row(split, number, labels, group=None, kind="ok"):
    key = f"{split}/{number}/{kind}"
    return SourceRow(key, -1, "", None, None, group or f"{split}{number}", split, labels)


def kind_of(row) -> str:
    return row.key.split("/")[2]
