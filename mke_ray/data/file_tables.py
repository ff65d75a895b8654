"""Samples that a table names: its rows with the sizes and versions of their files."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from mke_ray.batching import batched
from mke_ray.data.links import UnusableKeyError
from mke_ray.data.listing import ListedFile
from mke_ray.data.lookup import Lookup
from mke_ray.data.roles import parse_split
from mke_ray.data.sources import SourceRow
from mke_ray.data.table_rows import TableRow
from mke_ray.errors import ConfigError

_ROWS_AT_ONCE = 1024


def rows_of_table(
    rows: Iterable[TableRow],
    lookup: Lookup,
    *,
    table: str,
    names: Callable[[TableRow], Sequence[str]],
    labels: Callable[[TableRow, Sequence[ListedFile | None], str], tuple[int, ...] | None],
    version: Callable[[TableRow, Sequence[ListedFile | None]], tuple[int, str]],
) -> Iterator[SourceRow]:
    """Yield the samples of a table in its order.

    Args:
        rows: Rows of the table.
        lookup: Finds files, those of many rows at a time.
        table: Name of the table, for errors.
        names: Returns the keys of the files that are looked up for a row.
        labels: Returns the classes of a sample by its row and by these files, None for one that is
            not there; the last argument says where the row stands, for errors.
        version: Returns size and version of a sample in the same way.

    Raises:
        ConfigError: A class or a split is not what it should be, or a key leads elsewhere.
    """
    for some in batched(rows, _ROWS_AT_ONCE):
        for row in some:
            _check_names(lookup, names(row) or [row.uri], where=f"{table}, row {row.number}")
        found = lookup.find([name for row in some for name in names(row)])
        for row in some:
            where = f"{table}: {row.uri}"
            files = [found.get(name) for name in names(row)]
            truth = labels(row, files, where)
            size, etag = version(row, files)
            yield SourceRow(
                key=row.uri,
                size=size,
                etag=etag,
                start_s=row.start_s,
                end_s=row.end_s,
                group=row.group or row.uri,
                split=parse_split(row.split, truth, where=where),
                labels=truth,
                cursor=str(row.number),
            )


def _check_names(lookup: Lookup, names: Sequence[str], *, where: str) -> None:
    """Refuse a row that names a file where the source may not read.

    Raises:
        ConfigError: It names the row and the key.
    """
    for name in names:
        try:
            lookup.places.check(name)
        except UnusableKeyError as error:
            raise ConfigError(f"{where}: {error}") from None
