"""Tests of compaction: units lie in parts, are what they were, and nothing is lost or doubled."""

import json
import os
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_fakes import make_world

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import StoreError
from mke_ray.labels import compaction, layout
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.file_names import commit_name, is_part
from mke_ray.labels.index import Index
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.layout import plan_parts
from mke_ray.labels.lease import Lease
from mke_ray.labels.moving import move_units
from mke_ray.labels.verify import verify
from mke_ray.schema import samples_schema
from mke_ray.storage import Root, open_root

SPLITS = ["labelled", "unlabeled"]
SCHEMA = samples_schema(["video"])


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch):
    """Nothing here loses its power, so nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def plan(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 48, splits=SPLITS, broken={3: "bad"})
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


def bytes_of_units(store, num_units):
    """Return the size of a part that holds so many units of about the same size."""
    sizes = [len(store.root.read(name)) for name in store.root.names("attempts")]
    return int(max(sizes, default=2000) * num_units)


def compacted(plan, *, num_units=4, runner=None, **more):
    refs = list(plan.manifest.unit_refs())
    indexes = [store.write_index([ref.unit for ref in refs]) for store in plan.stores]
    part_bytes = bytes_of_units(plan.samples, num_units)
    return compact(
        CompactionPlan(plan.root, plan.stores),
        refs,
        indexes,
        runner or LocalRunner(),
        part_bytes=part_bytes,
        **more,
    )


def content_of(plan):
    return [
        {ref.unit: store.read(ref.unit, check_digest=True) for ref in plan.manifest.unit_refs()}
        for store in plan.stores
    ]


def files_of(root):
    return {name: root.read(name) for name in root.names() if not name.startswith("lease/")}


def assert_whole(plan, *, units_in_parts=True):
    for store in plan.stores:
        report = verify(store, plan.manifest)
        assert report.ok, report.problems
        assert report.num_orphans == 0
        places = {is_part(file) for _, _, file in store.index().entries()}
        assert units_in_parts is None or places == {units_in_parts}
        assert not store.root.exists("compacting")


def test_units_lie_in_parts_of_their_split_in_the_order_of_the_manifest(plan):
    before = content_of(plan)
    records = [[store.record(r.unit) for r in plan.manifest.unit_refs()] for store in plan.stores]
    samples, labels = compacted(plan)
    assert content_of(plan) == before
    assert_whole(plan)
    assert list(plan.samples.root.names("attempts")) == []
    assert samples.table.equals(plan.samples.read_index().table)
    assert labels.table.equals(plan.teachers[0].labels.read_index().table)
    for split in SPLITS:
        places = [samples.location(ref.unit) for ref in plan.manifest.unit_refs([split])]
        assert [place.row_group for place in places] == [0, 1, 2, 3, 0, 1]
        assert len({place.file for place in places}) == 2
        assert not {p.file for p in places} & {
            samples.location(r.unit).file for r in plan.manifest.unit_refs(set(SPLITS) - {split})
        }
    for store, old_ones in zip(plan.stores, records, strict=True):
        for old in old_ones:
            new = store.record(old["unit"])
            assert new["generation"] == old["generation"] + 1
            place = ("generation", "file", "row_group", "offset", "part_bytes")
            assert {k: v for k, v in new.items() if k not in place} == {
                k: v for k, v in old.items() if k not in place
            }


def test_a_part_is_a_parquet_file_whose_row_groups_are_the_units(plan):
    samples, _ = compacted(plan)
    place = samples.location(plan.samples.index().units()[5])
    part = pq.ParquetFile(pa.BufferReader(plan.samples.root.read(place.file)))
    unit = next(u for u in samples.units() if samples.location(u) == place)
    assert part.read_row_group(place.row_group).equals(plan.samples.read(unit))


def test_a_finished_compaction_that_is_started_again_does_nothing_and_lists_nothing(
    plan, monkeypatch
):
    indexes = compacted(plan)
    before = files_of(plan.root)
    part_bytes = bytes_of_units(plan.samples, 4)
    refs = list(plan.manifest.unit_refs())
    monkeypatch.setattr(Root, "names", lambda *_, **__: pytest.fail("listed"))
    monkeypatch.setattr(Root, "read", lambda *_, **__: pytest.fail("read"))
    again = compact(
        CompactionPlan(plan.root, plan.stores), refs, indexes, LocalRunner(), part_bytes=part_bytes
    )
    assert again == indexes
    monkeypatch.undo()
    assert files_of(plan.root) == before


class _Died(BaseException):
    """The process is gone."""


def dying(monkeypatch, *, at):
    """Let the process die at one call that changes the store, before it is done."""
    calls = 0

    def counted(method):
        def call(self, name, *content):
            nonlocal calls
            calls += "lease" not in self.uri
            if calls < at or "lease" in self.uri:
                return method(self, name, *content)
            raise _Died

        return call

    for name in ("write", "create", "delete"):
        monkeypatch.setattr(Root, name, counted(getattr(Root, name)))


def test_a_compaction_that_dies_anywhere_is_finished_by_the_next(tmp_path, monkeypatch):
    """It dies at the first call that changes a store, then at the second, and so on."""
    plan = make_world(open_root(str(tmp_path / "run")), 8, splits=["unlabeled"])
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    content, at, died = content_of(plan), 0, True
    shutil.copytree(tmp_path / "run", tmp_path / "kept")
    while died:
        at += 1
        with monkeypatch.context() as patch:
            dying(patch, at=at)
            try:
                compacted(plan)
                died = False
            except _Died:
                assert content_of(plan) == content
        compacted(plan)
        assert content_of(plan) == content
        for store in plan.stores:
            report = verify(store, plan.manifest)
            assert report.ok and report.num_orphans == 0
            assert not store.root.exists("compacting")
        files = files_of(plan.root)
        compacted(plan)
        assert files_of(plan.root) == files
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "kept", tmp_path / "run")
    assert at > 14


def test_a_worker_that_tries_a_part_again_after_it_was_killed_doubles_nothing(plan, monkeypatch):
    store, content = plan.samples, content_of(plan)
    units = dict.fromkeys(store.index().units("unlabeled"), 0)
    for at in (3, 5, 8):
        with monkeypatch.context() as patch:
            dying(patch, at=at)
            with pytest.raises(_Died):
                move_units(store, units)
        assert content_of(plan) == content
    move_units(store, units)
    assert content_of(plan) == content
    move_units(store, units)
    compacted(plan)
    assert content_of(plan) == content
    assert_whole(plan, units_in_parts=None)


def test_units_that_somebody_else_changes_at_the_same_time_stay_as_that_one_left_them(
    plan, monkeypatch
):
    store = plan.samples
    units = store.index().units("unlabeled")
    write, changed = Root.write, units[2]
    table = store.read(changed)
    other = table.set_column(1, table.schema.field(1), pa.array(["retry"] * table.num_rows))

    def write_late(root, name, content):
        write(root, name, content)
        if is_part(name) and store.record(changed)["generation"] == 0:
            assert store.supersede(changed, other, of=store.record(changed))

    monkeypatch.setattr(Root, "write", write_late)
    move_units(store, dict.fromkeys(units, 0))
    monkeypatch.undo()
    assert store.read(changed).equals(other)
    (part,) = store.root.names("parts")
    assert [u for u in units if store.find(u).file == part] == [u for u in units if u != changed]
    stored = pq.ParquetFile(pa.BufferReader(store.root.read(part))).read()
    assert not set(table.column("sample_id").to_pylist()) & set(
        stored.column("sample_id").to_pylist()
    )
    compacted(plan)
    assert_whole(plan, units_in_parts=None)


def test_a_part_that_was_swept_before_it_was_claimed_is_written_again(plan, monkeypatch):
    store = plan.samples
    content = content_of(plan)
    write, swept = Root.write, []

    def write_and_sweep(root, name, content):
        write(root, name, content)
        if is_part(name) and not swept:
            swept.append(store.sweep([]))

    monkeypatch.setattr(Root, "write", write_and_sweep)
    move_units(store, dict.fromkeys(store.index().units("unlabeled"), 0))
    assert swept == [1]
    assert content_of(plan) == content


def test_of_a_unit_whose_part_is_gone_the_old_file_is_kept(plan):
    store = plan.samples
    unit = store.index().units()[0]
    old = store.record(unit)
    store.root.write(
        commit_name(unit, 1),
        json.dumps(
            {**old, "generation": 1, "file": f"parts/{unit}-gone.parquet", "offset": 0}
        ).encode(),
    )
    from mke_ray.labels.sweeping import delete_unnamed_attempts

    assert delete_unnamed_attempts(store.root, store.index()) == []
    assert store.root.exists(old["file"])


def test_a_damaged_unit_stops_the_compaction_and_is_not_carried_along(plan):
    unit = plan.samples.index().units()[3]
    plan.samples.root.write(plan.samples.record(unit)["file"], b"something else")
    with pytest.raises(StoreError, match=rf"unit {unit}: its SHA-256 differs; delete commits/"):
        compacted(plan)


def test_new_units_join_the_small_part_and_large_parts_stay(plan):
    compacted(plan, num_units=4)
    store = plan.samples
    large = {store.find(ref.unit).file for ref in list(plan.manifest.unit_refs(["labelled"]))[:4]}
    small = {store.find(ref.unit).file for ref in list(plan.manifest.unit_refs(["labelled"]))[4:]}
    unit = next(plan.manifest.unit_refs(["labelled"])).unit
    last = list(plan.manifest.unit_refs(["labelled"]))[5].unit
    store.supersede(last, store.read(last), of=store.record(last))
    compacted(plan, num_units=5)
    assert {store.find(unit).file} == large
    assert not set(store.root.names("parts")) & small
    assert_whole(plan)


def test_a_part_that_is_mostly_dead_is_compacted_again(plan):
    compacted(plan, num_units=6)
    store = plan.samples
    units = [ref.unit for ref in plan.manifest.unit_refs(["unlabeled"])]
    part = store.find(units[0]).file
    for unit in units[:4]:
        store.supersede(unit, store.read(unit), of=store.record(unit))
    assert store.root.exists(part)
    compacted(plan, num_units=2)
    assert not store.root.exists(part)
    assert_whole(plan, units_in_parts=None)


def test_large_units_stay_in_files_of_their_own(plan):
    compacted(plan, num_units=0.1)
    assert_whole(plan, units_in_parts=False)


def test_another_driver_keeps_compaction_away(plan):
    with Lease(plan.root).held("train"), pytest.raises(StoreError, match="'train'"):
        compacted(plan)


def test_many_parts_are_written_by_the_runner_and_progress_is_shown(plan, monkeypatch):
    monkeypatch.setattr(compaction, "_FEW_PARTS", 3)
    ran, calls = [], []

    class Noted:
        def run(self, plan, refs):
            ran.extend(refs)
            return LocalRunner().run(plan, refs)

    compacted(plan, runner=Noted(), progress=lambda *call: calls.append(call[:2]))
    assert len(ran) > 3 and calls[-1] == (24, 24)
    assert_whole(plan)


def test_an_index_of_an_earlier_version_is_read_and_brought_up_to_date(plan):
    store = plan.samples
    new = store.read_index()
    old = Index.from_bytes(new.to_bytes()).table.drop_columns(
        ["offset", "num_bytes", "part_bytes", "digest"]
    )
    names = [n for n in store.root.names(recursive=False) if n.startswith("index")]
    for name in names:
        store.root.write(name, Index(old).to_bytes())
    unit = new.units()[0]
    index = store.read_index()
    assert index.location(unit) == new.location(unit) == store.find(unit)
    assert index.content_id(unit) == new.location(unit).file != new.content_id(unit)
    content = content_of(plan)
    compacted(plan, num_units=0.1)
    assert store.read_index().table.equals(new.table)
    store.root.write(max(store.root.names(recursive=False)), Index(old).to_bytes())
    compacted(plan)
    assert content_of(plan) == content
    assert_whole(plan)


def test_the_signature_of_a_unit_is_known_by_its_content_wherever_it_lies(plan):
    before = plan.samples.index()
    compacted(plan)
    after = plan.samples.index()
    for unit in before.units():
        assert before.location(unit) != after.location(unit)
        assert before.content_id(unit) == after.content_id(unit)


@pytest.mark.parametrize("columns", [None, ["sample_id", "status"]])
def test_a_unit_in_a_part_is_read_by_its_range_alone(plan, monkeypatch, columns):
    content = content_of(plan)[0]
    compacted(plan)
    index, fetched = plan.samples.read_index(), []
    read_range = Root.read_range

    def counted(root, name, begin, end):
        fetched.append(end - begin)
        return read_range(root, name, begin, end)

    monkeypatch.setattr(Root, "read", lambda *_: pytest.fail("read a whole file"))
    monkeypatch.setattr(Root, "read_range", counted)
    for unit in index.units():
        table = plan.samples.read(unit, location=index.location(unit), columns=columns)
        assert table.equals(content[unit] if columns is None else content[unit].select(columns))
        assert fetched.pop() == index.location(unit).num_bytes and not fetched
    table = plan.samples.read_small_columns(unit, index.location(unit), ["sample_id", "status"])
    assert table.equals(content[unit].select(["sample_id", "status"])) and not fetched


def test_the_digest_of_a_unit_in_a_part_is_that_of_its_range(plan):
    compacted(plan)
    unit = plan.samples.index().units()[0]
    place = plan.samples.find(unit)
    content = bytearray(plan.samples.root.read(place.file))
    content[place.offset + 10] ^= 1
    plan.samples.root.write(place.file, bytes(content))
    with pytest.raises(StoreError, match="SHA-256"):
        plan.samples.read(unit, check_digest=True)
    for other in set(plan.samples.index().units()) - {unit}:
        plan.samples.read(other, check_digest=True)
    assert {one.kind for one in verify(plan.samples, plan.manifest).problems} == {"damaged"}


def test_a_reader_of_an_older_index_is_told_what_happened_and_what_to_do(plan):
    old = plan.samples.index()
    compacted(plan)
    unit = old.units()[0]
    for read in (
        lambda: plan.samples.read(unit, location=old.location(unit)),
        lambda: plan.samples.read_small_columns(unit, old.location(unit), ["status"]),
    ):
        with pytest.raises(StoreError, match=r"moved to parts/.*start the job again"):
            read()


def test_a_part_of_killed_workers_is_counted_and_a_shared_range_is_found(plan):
    compacted(plan)
    store = plan.samples
    store.root.write(f"parts/{'0' * 16}-dead.parquet", b"half")
    assert verify(store, plan.manifest).num_orphans == 1
    assert store.sweep([]) == 1
    one, other = store.index().units("unlabeled")[:2]
    record = {**store.record(one), "unit": other, "generation": 2}
    store.root.write(commit_name(other, 2), json.dumps(record).encode())
    kinds = {problem.kind for problem in verify(store, plan.manifest).problems}
    assert "shared" in kinds and "rows" in kinds


def sizes_index(sizes, files, part_bytes):
    records = [
        {
            "unit": f"{number:016x}",
            "generation": 0,
            "file": file,
            "row_group": 0,
            "num_rows": 1,
            "num_bytes": size,
            "part_bytes": part_bytes.get(file, 0),
        }
        for number, (size, file) in enumerate(zip(sizes, files, strict=True))
    ]
    return Index.from_records(records), [
        UnitRef(one["unit"], "", 0, "ab"[number % 3 > 1], 1) for number, one in enumerate(records)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=30),
    st.integers(20, 100),
    st.lists(st.sampled_from([0, 1, 3]), min_size=5, max_size=5),
)
def test_whatever_lies_where_planned_parts_are_full_and_planning_twice_plans_nothing_new(
    units, wanted, dead
):
    """A unit lies in file 0 (one of its own) or in one of five parts, some of which hold more."""
    sizes = [size for size, _ in units]
    files = [f"parts/{n}" if n else f"attempts/{i}" for i, (_, n) in enumerate(units)]
    live = Counter()
    for size, file in zip(sizes, files, strict=True):
        live[file] += size if is_part(file) else 0
    totals = {file: size * (1 + dead[int(file[-1]) - 1]) for file, size in live.items() if size}
    index, refs = sizes_index(sizes, files, totals)
    planned = list(plan_parts(index, refs, part_bytes=wanted))
    moved = [unit for part in planned for unit in part.units]
    assert len(set(moved)) == len(moved)
    splits = {ref.unit: ref.split for ref in refs}
    for number, part in enumerate(planned):
        assert part.units == sorted(part.units)
        assert len({splits[unit] for unit in part.units}) == 1
        assert part.num_bytes <= wanted or len(part.units) == 1
        for unit in part.units:
            files[int(unit, 16)] = f"parts/new-{number}"
        totals[f"parts/new-{number}"] = part.num_bytes
    again, _ = sizes_index(sizes, files, totals)
    assert list(plan_parts(again, refs, part_bytes=wanted)) == []
    num_small = 0
    for file in {file for file in files if is_part(file)}:
        of_part = [size for size, one in zip(sizes, files, strict=True) if one == file]
        assert sum(of_part) * 2 >= totals[file]
        num_small += sum(of_part) * 2 < wanted
    assert num_small <= len(set(splits.values()))


def test_a_part_holds_a_bounded_number_of_units(monkeypatch):
    monkeypatch.setattr(layout, "MAX_UNITS", 4)
    index, refs = sizes_index([1] * 20, [f"attempts/{i}" for i in range(20)], {})
    planned = list(plan_parts(index, refs, part_bytes=1000))
    assert max(len(part.units) for part in planned) == 4
    files = {unit: f"parts/{n}" for n, part in enumerate(planned) for unit in part.units}
    totals = {f"parts/{n}": part.num_bytes for n, part in enumerate(planned)}
    again, _ = sizes_index([1] * 20, [files[ref.unit] for ref in refs], totals)
    assert list(plan_parts(again, refs, part_bytes=1000)) == []
