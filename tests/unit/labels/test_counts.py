import pytest
from label_fakes import make_world

from mke_ray.data.manifest import Mark
from mke_ray.labels.counts import counts_in_use, num_in_use
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.store import UnitStore
from mke_ray.storage import open_root


@pytest.fixture
def plan(tmp_path):
    root = open_root(str(tmp_path / "run"))
    plan = make_world(root, 12, broken={"1": "bad", "5": "no_y", "6": "bad"})
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


def marked(plan, numbers):
    rows = [
        Mark(row.sample_id, ref.unit, number, "deleted")
        for ref in plan.manifest.unit_refs()
        for number, row in enumerate(plan.manifest.read_unit(ref))
        if int(row.key) in numbers
    ]
    return plan.manifest.add_marks(rows)


def test_marked_rows_count_neither_by_their_status_nor_by_their_reason(plan):
    manifest = marked(plan, {0, 1, 5})
    counts = counts_in_use(plan.samples, manifest, plan.samples.index())
    assert (counts.ok, counts.partial, counts.bad) == (8, 0, 1)
    assert (counts.reasons, counts.partial_reasons) == ({"truncated": 1}, {})
    assert num_in_use(manifest, plan.manifest.unit_refs()) == 9


def test_no_file_is_read_for_marked_rows_that_are_whole(plan, monkeypatch):
    manifest, index = marked(plan, {0, 2, 8}), plan.samples.index()
    for name in ("read", "read_small_columns"):
        monkeypatch.setattr(UnitStore, name, lambda *_args, **_more: pytest.fail("read a file"))
    counts = counts_in_use(plan.samples, manifest, index)
    assert (counts.ok, counts.partial, counts.bad) == (6, 1, 2)


def test_no_whole_file_is_read_for_the_reasons(plan, monkeypatch):
    manifest, index = marked(plan, {1, 6}), plan.samples.index()
    monkeypatch.setattr(UnitStore, "read", lambda *_args, **_more: pytest.fail("read a file"))
    counts = counts_in_use(plan.samples, manifest, index)
    assert (counts.reasons, counts.partial_reasons) == ({}, {"no_sound": 1})
