import json

import pyarrow as pa
import pytest
from label_fakes import make_world

from mke_ray.labels.files import table_to_bytes
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root


@pytest.fixture
def plan(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 12, broken={1: "bad"})
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


@pytest.fixture
def unit(plan):
    return next(plan.manifest.unit_refs()).unit


def rewrite(store, unit, table):
    """Replace the rows of a unit as a faulty program would: file, digest and record agree."""
    import hashlib

    record = store.record(unit)
    content = table_to_bytes(table)
    store.root.write(record["file"], content)
    record |= {"num_rows": table.num_rows, "digest": hashlib.sha256(content).hexdigest()}
    store.root.write(f"commits/{unit[:2]}/{unit}.json", json.dumps(record).encode())


def kinds(store, plan):
    return [(problem.unit, problem.kind) for problem in verify(store, plan.manifest).problems]


def test_a_whole_store_has_no_problem(plan):
    for store in plan.stores:
        report = verify(store, plan.manifest)
        assert report.ok and (report.num_units, report.num_rows, report.num_orphans) == (3, 12, 0)


def test_a_missing_row_is_found(plan, unit):
    rewrite(plan.samples, unit, plan.samples.read(unit).slice(1))
    assert (unit, "rows") in kinds(plan.samples, plan)


def test_a_doubled_row_is_found(plan, unit):
    table = plan.samples.read(unit)
    rewrite(plan.samples, unit, pa.concat_tables([table, table.slice(0, 1)]))
    assert (unit, "rows") in kinds(plan.samples, plan)
    rewrite(plan.samples, unit, table.take([0, 1, 1, 3]))
    assert (unit, "rows") in kinds(plan.samples, plan)


def test_swapped_rows_are_found(plan, unit):
    store = plan.teachers[0].labels
    rewrite(store, unit, store.read(unit).take([0, 1, 3, 2]))
    assert kinds(store, plan) == [(unit, "rows")]


def test_two_units_at_one_place_are_found(plan, unit):
    other = list(plan.manifest.unit_refs())[1].unit
    record = plan.samples.record(unit) | {"unit": other}
    plan.samples.root.write(f"commits/{other[:2]}/{other}.json", json.dumps(record).encode())
    for name in list(plan.samples.root.names(recursive=False)):
        if name.startswith("index"):
            plan.samples.root.delete(name)
    assert (max(unit, other), "shared") in kinds(plan.samples, plan)


def test_a_missing_unit_and_a_foreign_one_are_found(plan, unit):
    plan.samples.root.delete(f"commits/{unit[:2]}/{unit}.json")
    plan.samples.commit("f" * 16, plan.samples.read(list(plan.manifest.unit_refs())[1].unit))
    found = kinds(plan.samples, plan)
    assert (unit, "missing") in found and ("f" * 16, "extra") in found


def test_a_changed_file_is_found(plan, unit):
    file = plan.samples.record(unit)["file"]
    content = bytearray(plan.samples.root.read(file))
    content[60] ^= 1
    plan.samples.root.write(file, bytes(content))
    assert kinds(plan.samples, plan) == [(unit, "damaged")]


def test_an_index_that_says_something_else_is_found(plan, unit):
    table = plan.samples.read(unit)
    flipped = table.set_column(1, table.schema.field("status"), [["bad"] * 4])
    rewrite(plan.samples, unit, flipped)
    assert kinds(plan.samples, plan) == [(unit, "index")]
