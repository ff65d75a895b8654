"""Tests of the manifest: units of one split, found again, and never of two minds."""

import os
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.data.manifest import META, Manifest, write_manifest
from mke_ray.data.sources import SourceRow
from mke_ray.errors import StoreError
from mke_ray.schema import LabelSpace, Split, sample_id, unit_id
from mke_ray.storage import Root, open_root

AB = LabelSpace(("a", "b"))
SPLITS = [split.value for split in Split]


@dataclass(frozen=True)
class ListedSource:
    """A source of rows that are given."""

    given: tuple[SourceRow, ...]
    version: int = 0
    label_space: LabelSpace = AB

    def identity(self) -> dict[str, Any]:
        return {"source": "listed", "version": self.version}

    def rows(self):
        return iter(self.given)


def row(number, split="unlabeled", **keys):
    row = SourceRow(f"clip-{number}.mp4", number, "e", None, None, "g", split, None)
    return replace(row, **keys)


def rows_of(manifest, splits=None):
    return [one for ref in manifest.unit_refs(splits) for one in manifest.read_unit(ref)]


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "manifest"))


def test_every_row_comes_back_once_with_all_it_had(root):
    given = (
        row(1, "test", labels=(1,), start_s=0.5, end_s=2.0, group="farm"),
        row(2),
        row(3, "test", labels=(0, 1)),
    )
    manifest = write_manifest(root, ListedSource(given), unit_size=2)
    found = {one.key: one for one in rows_of(manifest)}
    assert len(found) == 3
    for source in given:
        one = found[source.key]
        assert one.sample_id == sample_id(source.key, source.start_s, source.end_s)
        for name in ("size", "etag", "start_s", "end_s", "group", "split", "labels"):
            assert getattr(one, name) == getattr(source, name)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SPLITS), max_size=40), st.integers(1, 7), st.integers(1, 4))
def test_units_hold_one_split_and_are_full_but_for_the_last(
    tmp_path_factory, splits, unit_size, units_per_part
):
    root = open_root(str(tmp_path_factory.mktemp("manifest")))
    given = tuple(row(number, split) for number, split in enumerate(splits))
    manifest = write_manifest(
        root, ListedSource(given), unit_size=unit_size, units_per_part=units_per_part
    )
    for split in SPLITS:
        refs = list(manifest.unit_refs([split]))
        numbers = [number for number, one in enumerate(splits) if one == split]
        assert [ref.num_rows for ref in refs[:-1]] == [unit_size] * (len(refs) - 1)
        found = [one for ref in refs for one in manifest.read_unit(ref)]
        assert [one.size for one in found] == numbers
        assert {one.split for one in found} <= {split}
        assert manifest.meta["counts"][split] == len(numbers)
    refs = list(manifest.unit_refs())
    assert manifest.meta["num_units"] == len(refs) == len({ref.unit for ref in refs})
    for ref in refs:
        assert ref.unit == unit_id(one.sample_id for one in manifest.read_unit(ref))


def test_without_a_refresh_what_is_there_is_opened_and_the_source_not_read(root):
    write_manifest(root, ListedSource((row(1),)), unit_size=2)
    again = write_manifest(root, ListedSource((row(1), row(2))), unit_size=2, refresh=False)
    assert len(rows_of(again)) == 1


@pytest.mark.parametrize(
    ("source", "unit_size", "named"),
    [
        (ListedSource((row(1),), version=1), 2, "identity"),
        (ListedSource((row(1),), label_space=LabelSpace(("a", "c"))), 2, "label_space"),
        (ListedSource((row(1),)), 3, "unit_size"),
    ],
)
def test_another_source_is_refused_and_the_difference_named(root, source, unit_size, named):
    write_manifest(root, ListedSource((row(1),)), unit_size=2)
    with pytest.raises(StoreError, match=f"made from another source: {named}"):
        write_manifest(root, source, unit_size=unit_size)


def test_a_sample_that_occurs_twice_stops_the_manifest_and_names_its_key(root):
    given = (*(row(number) for number in range(50)), row(7, "test"))
    with pytest.raises(StoreError, match=r"occurs 2 times.*clip-7\.mp4"):
        write_manifest(root, ListedSource(given), unit_size=4)
    with pytest.raises(StoreError, match="no finished manifest"):
        Manifest.open(root)


def test_two_spans_of_one_file_are_two_samples(root):
    given = (row(1, start_s=0.0, end_s=1.0), row(1, start_s=1.0, end_s=2.0))
    assert len(rows_of(write_manifest(root, ListedSource(given), unit_size=4))) == 2


def test_an_interrupted_manifest_is_written_anew(root):
    source = ListedSource(tuple(row(number) for number in range(9)))
    write_manifest(root, source, unit_size=2, units_per_part=2)
    root.delete(META)
    root.write("part-00000-00001-0123456789ab.parquet", b"half a file")
    again = write_manifest(root, source, unit_size=2, units_per_part=2)
    assert [one.size for one in rows_of(again)] == list(range(9))


def test_a_manifest_reads_the_same_in_another_process(root):
    manifest = write_manifest(root, ListedSource((row(1), row(2))), unit_size=1)
    content = pickle.dumps((manifest, list(manifest.unit_refs())))
    assert len(content) < 2000
    copy, refs = pickle.loads(content)
    assert [copy.read_unit(ref) for ref in refs] == [manifest.read_unit(ref) for ref in refs]


def test_a_reference_to_another_unit_is_refused(root):
    manifest = write_manifest(root, ListedSource((row(1), row(2))), unit_size=1)
    first, second = manifest.unit_refs()
    with pytest.raises(StoreError, match="holds unit"):
        manifest.read_unit(replace(first, row_group=second.row_group))


def test_a_manifest_of_another_format_is_refused(root):
    write_manifest(root, ListedSource((row(1),)), unit_size=1)
    meta = root.read(META).replace(b'"format_version": 3', b'"format_version": 99')
    root.write(META, meta)
    with pytest.raises(StoreError, match="format version 99"):
        Manifest.open(root)


def test_a_unit_is_read_by_one_request_for_its_own_bytes(root, monkeypatch):
    manifest = write_manifest(
        root, ListedSource(tuple(row(number) for number in range(400))), unit_size=4
    )
    (part,) = manifest.parts()
    refs = list(manifest.unit_refs())
    asked, read_range = [], Root.read_range

    def noted(self, name, begin, end):
        asked.append((name, end - begin))
        return read_range(self, name, begin, end)

    monkeypatch.setattr(Root, "read_range", noted)
    found = [one.key for ref in refs for one in manifest.read_unit(ref)]
    assert sorted(found) == sorted(f"clip-{number}.mp4" for number in range(400))
    assert [name for name, _ in asked] == [part] * len(refs)
    assert sum(size for _, size in asked) < os.path.getsize(root.path(part))
