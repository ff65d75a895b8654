"""What a source of samples is, and what it says of each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mke_ray.data.media import Decoded
from mke_ray.schema import DecodeSpec, LabelSpace, ManifestRow

__all__ = [
    "Decoded",
    "FetchesApart",
    "Noted",
    "Placed",
    "Previewed",
    "Progress",
    "Reader",
    "Source",
    "SourceRow",
]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One sample as its source names it.

    Args:
        key: Path relative to the root of the source, or an absolute URI.
        size: Size of the object in bytes, -1 where there is none.
        etag: Version of the object as its store names it, "" where unknown.
        start_s: Start of the span in seconds, None for the whole object.
        end_s: End of the span in seconds, None for the whole object.
        group: Who or what the sample comes from.
        split: Role of the sample.
        labels: Indices of the true classes; None where unknown.
        cursor: From where the source can go on after this row, "" where it cannot.
    """

    key: str
    size: int
    etag: str
    start_s: float | None
    end_s: float | None
    group: str
    split: str
    labels: tuple[int, ...] | None
    cursor: str = ""


class Reader(Protocol):
    """Fetches and decodes one sample; lives in a worker and holds what is costly to open."""

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample.

        Raises:
            MediaError: The sample is bad and will stay so.
            OSError: The store did not answer, after retries; worth another try later.
        """
        ...


@runtime_checkable
class FetchesApart(Protocol):
    """A reader that waits for its store within ``mke_ray.data.cpu_slots.waiting``.

    Its ``read`` is called in more threads than there are CPUs to decode on, so that the next
    samples are fetched while one is decoded. A reader without this attribute is called as ever.

    Attributes:
        fetches_apart: That it is there says so.
    """

    fetches_apart: bool


class Source(Protocol):
    """Where samples come from. Cheap to construct; nothing is opened before a method is called."""

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return plain data that may not change under one root.

        It says what the source is (kind, classes, name of the table, spans), neither where it lies
        nor what is in it: those are compared row by row.
        """
        ...

    def prepare(self, progress: Progress | None = None) -> None:
        """Make the samples if the source makes its own; does nothing when they are there."""
        ...

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield every sample, streamed, in an order that is always the same.

        Args:
            after: Cursor of the row to go on behind, None for all rows. A source whose rows have
                no cursor yields them all.
        """
        ...

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what decodes samples to a specification."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A source that says where it lies, so that a listing goes on only at the same place."""

    def place(self) -> str:
        """Return where the samples lie and the version of their table, without secrets."""
        ...


@runtime_checkable
class Previewed(Protocol):
    """A source that makes its own samples, and can make a few elsewhere for a rehearsal."""

    def preview(self, scratch: str) -> Source:
        """Return the same source with few samples, made in a scratch folder."""
        ...


@runtime_checkable
class Noted(Protocol):
    """A source that has something to say of its samples; the report says it too."""

    def notes(self) -> list[str]:
        """Return what a person should know, a sentence each."""
        ...
