import json
import os
import pickle
import re
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mke_ray.errors import StoreError
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA, samples_schema
from mke_ray.storage import Root, open_root

SCHEMA = samples_schema(["video"])
UNITS = [f"{number:016x}" for number in (7, 3, 11, 5)]


def table_of(first_id, *, status=("ok", "bad"), schema=SCHEMA):
    return pa.table(
        {
            "sample_id": [first_id, first_id + 1],
            "status": list(status),
            "error": [None, "truncated: cut"],
            "video": [[b"frame" * 100, b"frame2"], None],
            "video_status": ["ok", "truncated"],
            "video_signature": [b"signed", None],
        },
        schema=schema,
    )


@pytest.fixture
def store(tmp_path):
    root = open_root(str(tmp_path / "samples"))
    return UnitStore.open_or_create(root, spec={"decode": {"a": 1}}, schema=SCHEMA)


def fill(store, units=UNITS):
    for number, unit in enumerate(units):
        assert store.commit(
            unit, table_of(10 * number), {"split": "test", "reasons": {"truncated": 1}}
        )


def test_what_is_committed_is_read_back(store):
    fill(store)
    assert store.committed() == set(UNITS)
    assert store.read(UNITS[1], check_digest=True).equals(table_of(10))
    assert store.read(UNITS[1], columns=["status"]).column_names == ["status"]


def test_the_second_commit_of_a_unit_loses_and_leaves_no_file(store):
    assert store.commit(UNITS[0], table_of(1))
    assert not store.commit(UNITS[0], table_of(100))
    assert store.read(UNITS[0]).equals(table_of(1))
    assert len(list(store.root.names("attempts"))) == 1


def test_of_many_writers_of_a_unit_exactly_one_wins(store):
    barrier = threading.Barrier(8)
    wins = []

    def write(number):
        barrier.wait()
        if store.commit(UNITS[0], table_of(number)):
            wins.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.read(UNITS[0]).equals(table_of(wins[0]))


def test_a_commit_that_was_repeated_after_a_lost_answer_is_a_win(store, monkeypatch):
    create = Root.create
    monkeypatch.setattr(Root, "create", lambda *args: create(*args) and False)
    assert store.commit(UNITS[0], table_of(1))
    monkeypatch.undo()
    assert store.read(UNITS[0]).equals(table_of(1))


def test_a_unit_that_is_not_committed_is_an_error_that_names_it(store):
    assert store.find(UNITS[0]) is None
    with pytest.raises(StoreError, match=UNITS[0]):
        store.read(UNITS[0])


def test_a_store_made_from_something_else_is_refused_with_both_named(store):
    with pytest.raises(StoreError, match=r"found \{'a': 1\}, wanted \{'a': 2\}"):
        UnitStore.open_or_create(store.root, spec={"decode": {"a": 2}}, schema=SCHEMA)
    with pytest.raises(StoreError, match="logits"):
        UnitStore.open_or_create(store.root, spec={"decode": {"a": 1}}, schema=LABELS_SCHEMA)


def test_a_folder_without_a_store_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="holds no store"):
        UnitStore.open(open_root(str(tmp_path)))


def test_a_newer_format_is_refused(store):
    plain = json.loads(store.root.read("spec.json"))
    store.root.write("spec.json", json.dumps(plain | {"format_version": 99}).encode())
    with pytest.raises(StoreError, match="format version 99"):
        UnitStore.open(store.root)


def test_a_store_opens_with_its_spec_and_schema_and_pickles(store):
    fill(store)
    again = pickle.loads(pickle.dumps(UnitStore.open(store.root)))
    assert again.spec == {"decode": {"a": 1}}
    assert again.schema.equals(SCHEMA)
    assert again.read(UNITS[2]).equals(table_of(20))


def test_a_table_of_other_columns_is_refused(store):
    with pytest.raises(StoreError, match="logits"):
        store.commit(
            UNITS[0],
            pa.table({"sample_id": [1], "status": ["ok"], "logits": [[1.0]]}, schema=LABELS_SCHEMA),
        )


def test_a_damaged_file_is_found_by_its_digest(store):
    fill(store)
    file = store.record(UNITS[0])["file"]
    other = store.root.read(store.record(UNITS[1])["file"])
    store.root.write(file, other)
    assert store.read(UNITS[0]).num_rows == 2
    with pytest.raises(StoreError, match="SHA-256"):
        store.read(UNITS[0], check_digest=True)
    store.root.write(file, b"not parquet")
    with pytest.raises(StoreError, match="damaged"):
        store.read(UNITS[0])
    store.root.delete(file)
    with pytest.raises(StoreError, match="is missing"):
        store.read(UNITS[0])


def test_media_are_stored_as_they_are_and_the_rest_is_compressed(store):
    fill(store)
    content = store.root.read(store.record(UNITS[0])["file"])
    group = pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(0)
    codecs = {group.column(i).path_in_schema: group.column(i).compression for i in range(5)}
    assert codecs["video.list.element"] == "UNCOMPRESSED"
    assert codecs["sample_id"] == "ZSTD"


def test_the_index_knows_status_and_presence_of_every_row(store):
    fill(store)
    index = store.index()
    assert index.units() == sorted(UNITS) and len(index) == 4
    assert index.units("test") == sorted(UNITS) and index.units("probe") == []
    assert index.status(UNITS[0]).tolist() == [0, 2]
    assert index.usable(UNITS[0]).tolist() == [True, False]
    assert index.present(UNITS[0], "video").tolist() == [True, False]
    assert index.num_rows(UNITS[0]) == 2 and index.split(UNITS[0]) == "test"
    assert index.modalities == ("video",)
    counts = index.counts()
    assert (counts.ok, counts.bad, counts.reasons) == (4, 4, {"truncated": 4})
    with pytest.raises(StoreError, match="audio"):
        index.present(UNITS[0], "audio")
    with pytest.raises(StoreError, match="not in the store"):
        index.location("f" * 16)


def test_the_index_file_gives_what_the_commit_records_give(store):
    fill(store)
    before = store.index()
    store.write_index(UNITS)
    assert list(store.root.names(recursive=False)) == ["index-000000.parquet", "spec.json"]
    assert store.index().table.equals(before.table)
    assert pickle.loads(pickle.dumps(before)).table.equals(before.table)


def test_a_finished_index_is_read_without_any_commit_record(store, monkeypatch):
    fill(store)
    store.write_index(UNITS)
    monkeypatch.setattr(UnitStore, "record", lambda *_: pytest.fail("read a commit record"))
    index = store.index()
    assert store.read(UNITS[0], location=index.location(UNITS[0])).equals(table_of(0))


def test_a_reader_lists_neither_the_records_nor_the_attempts(store, monkeypatch):
    fill(store)
    written = store.write_index(UNITS)
    store.commit("f" * 16, table_of(50))
    listed = []
    names = Root.names

    def noted(root, below="", **more):
        listed.append((below, more))
        return names(root, below, **more)

    monkeypatch.setattr(Root, "names", noted)
    assert store.read_index().table.equals(written.table)
    assert listed == [("", {"recursive": False})]


def test_a_store_without_a_finished_pass_has_no_index_to_read(store):
    fill(store)
    with pytest.raises(StoreError, match=r"no index.* start the pass again"):
        store.read_index()


def test_units_committed_after_the_index_are_in_the_next_generation(store):
    fill(store, UNITS[:2])
    store.write_index(UNITS[:2])
    for unit in UNITS[2:]:
        store.commit(unit, table_of(50))
    assert set(store.index().units()) == set(UNITS)
    assert store.write_index(UNITS).units() == sorted(UNITS)
    assert store.write_index(UNITS[:2]).units() == sorted(UNITS[:2])
    names = list(store.root.names(recursive=False))
    assert names == ["index-000000.parquet", "index-000001.parquet", "spec.json"]


def test_a_driver_that_slept_writes_no_index_older_than_the_one_it_finds(store, monkeypatch):
    fill(store)
    create = Root.create

    def supersede_first(root, name, content):
        monkeypatch.undo()
        store.supersede(UNITS[0], table_of(0, status=("bad", "bad")), of=store.record(UNITS[0]))
        store.write_index(UNITS)
        return create(root, name, content)

    monkeypatch.setattr(Root, "create", supersede_first)
    store.write_index(UNITS)
    index = store.read_index()
    assert index.table.equals(store.index().table)
    assert store.read(UNITS[0], location=index.location(UNITS[0])).num_rows == 2
    names = list(store.root.names(recursive=False))
    assert names == ["index-000000.parquet", "spec.json"]


def test_an_index_of_units_that_are_missing_is_refused_with_their_number(store):
    fill(store, UNITS[:3])
    with pytest.raises(StoreError, match="1 of 4 units are not committed"):
        store.write_index(UNITS)
    assert list(store.root.names(recursive=False)) == ["spec.json"]


def test_a_store_of_other_columns_needs_no_status(tmp_path):
    schema = pa.schema(
        [pa.field("sample_id", pa.int64(), nullable=False), pa.field("p", pa.float32())]
    )
    store = UnitStore.open_or_create(open_root(str(tmp_path)), spec={}, schema=schema)
    store.commit(UNITS[0], pa.table({"sample_id": [1, 2], "p": [0.5, None]}, schema=schema))
    assert store.index().usable(UNITS[0]).tolist() == [True, True]


def test_a_table_that_takes_the_place_of_another_is_the_one_that_counts(store):
    fill(store)
    store.write_index(UNITS)
    old = store.record(UNITS[1])
    assert store.supersede(
        UNITS[1],
        table_of(10, status=("bad", "bad")),
        {"reasons": {"gone": 2}},
        of=store.record(UNITS[1]),
    )
    new = store.record(UNITS[1])
    assert (new["generation"], new["split"], new["reasons"]) == (1, "test", {"gone": 2})
    assert store.read(UNITS[1], check_digest=True).column("status").to_pylist() == ["bad", "bad"]
    assert store.find(UNITS[1]).file == new["file"] != old["file"]
    assert old["file"] not in set(store.root.names("attempts"))
    assert store.committed() == set(UNITS)
    for index in (store.index(), store.write_index(UNITS), store.index()):
        assert index.status(UNITS[1]).tolist() == [2, 2]
        assert index.location(UNITS[1]) == store.find(UNITS[1])
        assert len(index) == 4
    assert len([n for n in store.root.names(recursive=False) if n.startswith("index")]) == 2


def test_a_late_worker_cannot_bring_a_superseded_table_back(store):
    fill(store)
    store.supersede(UNITS[0], table_of(0, status=("bad", "bad")), of=store.record(UNITS[0]))
    assert not store.commit(UNITS[0], table_of(0))
    assert store.read(UNITS[0]).column("status").to_pylist() == ["bad", "bad"]
    assert len(list(store.root.names("attempts"))) == 4


def test_of_two_that_supersede_a_unit_at_the_same_time_one_wins(store, monkeypatch):
    fill(store)
    record = store.record(UNITS[0])
    store.supersede(UNITS[0], table_of(0, status=("bad", "bad")), of=store.record(UNITS[0]))
    assert not store.supersede(UNITS[0], table_of(0, status=("ok", "ok")), of=record)
    assert store.read(UNITS[0]).column("status").to_pylist() == ["bad", "bad"]
    assert len(list(store.root.names("attempts"))) == 4


def test_what_killed_workers_left_of_a_unit_is_swept_and_nothing_else(store):
    fill(store)
    for unit in UNITS[:2]:
        store.root.write(f"attempts/{unit}-dead.parquet", b"half a file")
    assert store.sweep([UNITS[0], UNITS[3]]) == 1
    left = set(store.root.names("attempts"))
    assert left == {store.record(u)["file"] for u in UNITS} | {f"attempts/{UNITS[1]}-dead.parquet"}


def test_files_that_are_half_written_are_swept_of_the_units_and_where_they_are_old(store):
    folder = Path(store.root.path())
    fill(store)
    left = [f"attempts/.{unit}-dead.parquet.12.tmp" for unit in UNITS[:2]]
    left += [".index-000000.parquet.12.tmp", ".index-000000.parquet.34.tmp"]
    for name in left:
        (folder / name).write_bytes(b"half a file")
    os.utime(folder / left[2], (0, 0))
    assert store.sweep([UNITS[0]]) == 2
    assert [(folder / name).exists() for name in left] == [False, True, False, True]


def damaged(store, unit):
    """Damage the file of a unit and return the records that the error tells to delete."""
    store.root.write(store.record(unit)["file"], b"not parquet")
    with pytest.raises(StoreError, match="damaged") as error:
        store.read(unit, location=store.index().location(unit))
    return re.findall(r"commits/\S+\.json", str(error.value))


def lost(store, unit):
    """Delete the file of a unit and return the records that the error tells to delete."""
    location = store.index().location(unit)
    store.root.delete(location.file)
    with pytest.raises(StoreError, match="is missing; delete") as error:
        store.read_small_columns(unit, location, ["sample_id"])
    return re.findall(r"commits/\S+\.json", str(error.value))


@pytest.mark.parametrize("break_file", [lost, damaged])
@pytest.mark.parametrize("is_superseded", [False, True])
def test_a_unit_is_made_anew_once_the_records_are_deleted_that_the_error_names(
    store, break_file, is_superseded
):
    fill(store)
    if is_superseded:
        store.supersede(UNITS[1], table_of(10, status=("bad", "bad")), of=store.record(UNITS[1]))
    store.write_index(UNITS)
    records = break_file(store, UNITS[1])
    assert len(records) == 1 + is_superseded
    for name in records:
        assert store.root.exists(name)
        store.root.delete(name)
    assert UNITS[1] not in store.index() and len(store.index()) == 3
    assert store.commit(UNITS[1], table_of(10, status=("ok", "partial")), {"split": "test"})
    for index in (store.index(), store.write_index(UNITS), store.index()):
        assert index.status(UNITS[1]).tolist() == [0, 1]
        assert store.read(UNITS[1], location=index.location(UNITS[1])).num_rows == 2
        assert len(index) == 4


def test_a_store_that_does_not_answer_is_not_taken_for_a_lost_file(store, monkeypatch):
    def no_answer(*_args, **_more):
        raise TimeoutError("no answer")

    fill(store)
    location = store.index().location(UNITS[0])
    monkeypatch.setattr(Root, "read", no_answer)
    monkeypatch.setattr(Root, "filesystem", no_answer)
    with pytest.raises(TimeoutError):
        store.read_small_columns(UNITS[0], location, ["sample_id"])


def test_columns_beside_the_media_are_read_without_the_file_as_a_whole(store, monkeypatch):
    fill(store)
    location = store.index().location(UNITS[0])
    monkeypatch.setattr(Root, "read", lambda *_: pytest.fail("read a whole file"))
    table = store.read_small_columns(UNITS[0], location, ["sample_id", "video_status"])
    assert table.to_pydict() == {"sample_id": [0, 1], "video_status": ["ok", "truncated"]}


def test_a_worker_whose_attempt_was_swept_does_not_commit_it(store, monkeypatch):
    create = Root.create

    def sweep_first(root, name, content):
        monkeypatch.undo()
        assert store.sweep([UNITS[0]]) == 1
        return create(root, name, content)

    monkeypatch.setattr(Root, "create", sweep_first)
    with pytest.raises(StoreError, match=f"unit {UNITS[0]} was deleted before.*again"):
        store.commit(UNITS[0], table_of(1))
    assert store.committed() == set()
    assert store.commit(UNITS[0], table_of(1))


def test_of_a_unit_that_is_not_committed_everything_is_swept(store):
    store.root.write(f"attempts/{UNITS[0]}-dead.parquet", b"half a file")
    assert store.sweep([UNITS[0]]) == 1
    assert list(store.root.names("attempts")) == []
