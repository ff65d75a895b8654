"""Tests of parts: unit files one after the other that are one Parquet file too."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.errors import StoreError
from mke_ray.labels.files import table_to_bytes
from mke_ray.labels.part_files import UnitFooter, joined
from mke_ray.schema import samples_schema

SCHEMA = samples_schema(["video"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "sample_id": st.integers(-(2**63), 2**63 - 1),
            "status": st.sampled_from(["ok", "bad"]),
            "error": st.none() | st.text(max_size=8),
            "video": st.none() | st.lists(st.binary(max_size=40), max_size=3),
            "video_status": st.just("ok"),
            "video_signature": st.none() | st.binary(max_size=8),
        }
    ),
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=20))
def test_a_part_is_a_parquet_file_of_a_row_group_per_unit_and_holds_every_file_as_it_was(units):
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in units if rows]
    if not tables:
        return
    files = [table_to_bytes(table) for table in tables]
    part = joined(files)
    assert part.startswith(b"".join(files))
    file = pq.ParquetFile(pa.BufferReader(part))
    assert file.schema_arrow.equals(SCHEMA)
    assert file.metadata.num_row_groups == len(tables)
    assert file.metadata.num_rows == sum(table.num_rows for table in tables)
    for number, table in enumerate(tables):
        assert file.read_row_group(number).equals(table)
    assert file.read().equals(pa.concat_tables(tables))


def test_files_of_other_writers_with_dictionaries_and_page_indexes_are_joined_too():
    tables = [pa.table({"name": ["a", "b", "a"] * 50, "x": range(i, i + 150)}) for i in range(17)]
    files = []
    for table in tables:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, write_page_index=True, data_page_size=64, version="1.0")
        files.append(buffer.getvalue())
    part = pq.ParquetFile(pa.BufferReader(joined(files)))
    for number, table in enumerate(tables):
        assert part.read_row_group(number).equals(table)
        assert part.metadata.row_group(number).column(0).dictionary_page_offset > 0
    statistics = part.metadata.row_group(16).column(1).statistics
    assert (statistics.min, statistics.max) == (16, 165)


def test_the_row_group_of_a_unit_file_is_one_range_from_its_first_page_to_its_footer():
    table = pa.Table.from_pylist(
        [{"sample_id": 1, "status": "ok", "video": [b"x" * 999], "video_status": "ok"}], SCHEMA
    )
    content = table_to_bytes(table)
    group = pq.read_metadata(pa.BufferReader(content)).row_group(0)
    end = 4
    for number in range(group.num_columns):
        column = group.column(number)
        assert column.data_page_offset == end
        end += column.total_compressed_size
    footer_bytes = int.from_bytes(content[-8:-4], "little")
    assert end == len(content) - 8 - footer_bytes


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1" + b"\xff" * 8 + b"PAR1"])
def test_what_is_no_unit_file_is_refused(content):
    with pytest.raises(StoreError, match="expected a Parquet file"):
        UnitFooter.parse(content)


def test_a_file_of_several_row_groups_is_refused():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": range(4)}), buffer, row_group_size=2)
    with pytest.raises(StoreError, match="one row group, found 2"):
        joined([buffer.getvalue()])
