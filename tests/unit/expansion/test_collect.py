"""Tests of collecting: what nobody refers to goes after its time, and nothing else does."""

import json
import os
import time
from pathlib import Path

import pytest
from label_fakes import make_world, teacher_spec
from training_stores import fit_spec

from mke_ray.config_upkeep import CollectConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion import references as references_module
from mke_ray.expansion.collect import collect, collect_root
from mke_ray.expansion.findings import FINDINGS_FOLDERS, STATISTICS_FOLDER, kept
from mke_ray.expansion.references import refer, references
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.lease import Lease
from mke_ray.labels.verify import verify
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import FitStore

DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def plan(tmp_path):
    """A root with samples, labels of two teachers, two fits and a report, a hundred days old."""
    teachers = [teacher_spec(), teacher_spec(scale=2.0)]
    plan = make_world(open_root(str(tmp_path / "run")), 8, teachers=teachers)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    for seed in range(2):
        spec = fit_spec(name=f"student {seed}", seed=seed)
        facts = json.dumps({"spec": spec.to_dict()}).encode()
        FitStore(plan.root).save(spec.fingerprint(), {"fit.json": facts})
    for name in ("student/weights.safetensors", "report/index.html", "gate/gate.json"):
        plan.root.write(name, b"kept")
    grow_old(plan.root, days=100)
    return plan


def grow_old(root, *, days):
    for path in Path(root.path()).rglob("*"):
        os.utime(path, (time.time() - days * DAY_S,) * 2)


def at(monkeypatch, *, days_ago):
    now_s = time.time() - days_ago * DAY_S
    monkeypatch.setattr(references_module.time, "time", lambda: now_s)


def folders(plan):
    names = {"/".join(name.split("/")[:2]) for name in plan.root.names() if "/" in name}
    return {one for one in names if one.split("/")[0] in ("samples", "labels", "fits")}


def stores_of(plan, number):
    labels = plan.teachers[number].labels.root.uri.rsplit("/", 1)[1]
    samples = plan.samples.root.uri.rsplit("/", 1)[1]
    fit = fit_spec(name="", seed=number).fingerprint()
    return [f"samples/{samples}", f"labels/{labels}", f"fits/{fit}"]


def referred(plan, monkeypatch, **days_ago):
    """Let jobs refer to the stores of the first and the second teacher some days ago."""
    for job, days in days_ago.items():
        with monkeypatch.context() as patch:
            at(patch, days_ago=days)
            refer(plan.root, job, stores_of(plan, ["first", "second"].index(job)))


def files_of(root):
    return {name: root.read(name) for name in root.names() if not name.startswith("lease/")}


def test_what_only_an_old_reference_names_goes_and_all_else_stays(plan, monkeypatch):
    referred(plan, monkeypatch, first=40, second=10)
    before, gone = files_of(plan.root), tuple(stores_of(plan, 0)[1:])
    found = collect_root(plan.root, ttl_days=30)
    assert {one.name for one in found.deleted} == set(gone)
    old = {name for name in before if b'"first"' in before[name]}
    after = files_of(plan.root)
    assert after == {
        name: content
        for name, content in before.items()
        if not name.startswith(gone) and name not in old
    }
    assert verify(plan.samples, plan.manifest).ok
    assert verify(plan.teachers[1].labels, plan.manifest).ok
    assert not Path(plan.teachers[0].labels.root.path()).exists()


def test_the_stores_of_the_newest_reference_stay_however_old_it_is(plan, monkeypatch):
    referred(plan, monkeypatch, first=90, second=80)
    collect_root(plan.root, ttl_days=30)
    assert folders(plan) == set(stores_of(plan, 1))


def test_a_store_that_was_written_of_late_stays(plan, monkeypatch):
    referred(plan, monkeypatch, first=40, second=10)
    os.utime(plan.teachers[0].labels.root.path("spec.json"))
    found = collect_root(plan.root, ttl_days=30)
    assert not {one.name for one in found.deleted} & set(stores_of(plan, 0)[:2])


def test_of_a_root_without_references_nothing_goes_unless_that_is_accepted(plan, caplog):
    before = files_of(plan.root)
    with caplog.at_level("INFO"):
        collect([CollectConfig(root=plan.root.uri)])
    assert files_of(plan.root) == before
    assert "no job ever referred to it; accept_unknown=true" in caplog.text
    collect_root(plan.root, ttl_days=30, accept_unknown=True)
    assert folders(plan) == set()
    assert {"student", "report", "gate", "manifest"} <= {
        name.split("/")[0] for name in plan.root.names()
    }


def test_a_dry_run_says_what_would_go_and_does_nothing(plan, monkeypatch, caplog):
    referred(plan, monkeypatch, first=40, second=10)
    before, leases = files_of(plan.root), list(plan.root.names("lease"))
    with caplog.at_level("INFO"):
        collect([CollectConfig(root=plan.root.uri, dry_run=True)])
    assert files_of(plan.root) == before
    assert list(plan.root.names("lease")) == leases
    said = [line for line in caplog.messages if stores_of(plan, 0)[1] in line]
    assert "would be deleted" in said[0] and "referred to by first" in said[0]
    assert "last used 40.0 days ago" in said[0]
    assert "would free" in caplog.messages[-1] and "of 2 stores" in caplog.messages[-1]


class _Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("num_done", [1, 2, 3, 5])
def test_a_deletion_that_was_cut_short_leaves_nothing_that_looks_whole(plan, monkeypatch, num_done):
    referred(plan, monkeypatch, first=40, second=10)
    delete, calls = Root.delete, []

    def counted(root, name):
        if "lease" not in root.uri:
            calls.append(name)
            if len(calls) > num_done:
                raise _Died
        delete(root, name)

    with monkeypatch.context() as patch:
        patch.setattr(Root, "delete", counted)
        with pytest.raises(_Died):
            collect_root(plan.root, ttl_days=30)
    store = plan.teachers[0].labels
    if not store.root.exists("spec.json") and list(store.root.names("commits")):
        with pytest.raises(StoreError, match=r"cut short; run jobs/collect\.py"):
            type(store).open_or_create(store.root, spec=store.spec, schema=store.schema)
        assert not store.root.exists("spec.json")
    else:
        assert not list(store.root.names()) or verify(store, plan.manifest).ok
    collect_root(plan.root, ttl_days=30)
    assert folders(plan) == set(stores_of(plan, 1))
    assert not list(store.root.names())


def test_files_of_killed_workers_go_and_those_of_a_unit_at_work_stay(plan, monkeypatch):
    referred(plan, monkeypatch, first=1, second=1)
    unit = next(plan.manifest.unit_refs()).unit
    for name in (f"attempts/{unit}-dead", f"attempts/{'f' * 16}-old", f"parts/{unit}-dead"):
        plan.samples.root.write(f"{name}.parquet", b"half a file")
    grow_old(plan.root, days=100)
    plan.samples.root.write(f"attempts/{'e' * 16}-new.parquet", b"half a file")
    assert collect_root(plan.root, ttl_days=30, is_dry_run=True).num_swept == 4
    assert collect_root(plan.root, ttl_days=30).num_swept == 3
    report = verify(plan.samples, plan.manifest)
    assert report.ok and report.num_orphans == 1


def test_indexes_that_a_newer_one_replaces_go_once_they_are_old(plan, monkeypatch):
    referred(plan, monkeypatch, first=1, second=1)
    store = plan.samples
    for number in (1, 2):
        store.root.write(f"index-{number:06d}.parquet", store.root.read("index-000000.parquet"))
    grow_old(plan.root, days=100)
    os.utime(store.root.path("index-000001.parquet"))
    assert collect_root(plan.root, ttl_days=30).num_swept == 1
    left = [name for name in store.root.names(recursive=False) if name.startswith("index-")]
    assert sorted(left) == ["index-000001.parquet", "index-000002.parquet"]
    assert len(store.read_index()) == len(list(plan.manifest.unit_refs()))


def test_findings_about_labels_go_with_them_and_those_of_an_earlier_version_stay(plan, monkeypatch):
    referred(plan, monkeypatch, first=40, second=10)
    for number in (0, 1):
        labels = stores_of(plan, number)[1].removeprefix("labels/")
        for folder in FINDINGS_FOLDERS:
            assert kept(plan.root.child(folder), [labels, "x"], lambda: {"n": 1}) == {"n": 1}
    plan.root.write(f"{STATISTICS_FOLDER}/old.json", b'{"n": 2}')
    assert len(list(plan.root.names(STATISTICS_FOLDER))) == 3
    assert collect_root(plan.root, ttl_days=30, is_dry_run=True).num_swept == 2
    assert len(list(plan.root.names(STATISTICS_FOLDER))) == 3
    assert collect_root(plan.root, ttl_days=30).num_swept == 2
    left = json.loads(plan.root.read(next(iter(plan.root.names("refine")))))
    assert left == {"of_labels": stores_of(plan, 1)[1].removeprefix("labels/"), "n": 1}
    assert f"{STATISTICS_FOLDER}/old.json" in set(plan.root.names(STATISTICS_FOLDER))
    again = kept(plan.root.child("refine"), [left["of_labels"], "x"], lambda: {"n": 3})
    assert again == {"n": 1}


def test_another_driver_keeps_collecting_away(plan):
    with Lease(plan.root).held("train"), pytest.raises(StoreError, match="'train'"):
        collect_root(plan.root, ttl_days=30)


def test_a_root_without_a_run_and_a_negative_time_are_refused(plan, tmp_path):
    with pytest.raises(StoreError, match="no finished manifest"):
        collect([CollectConfig(root=str(tmp_path / "typo"))])
    with pytest.raises(ConfigError, match="ttl_days=-1"):
        collect_root(plan.root, ttl_days=-1)


def test_a_reference_holds_all_that_a_job_used_and_replaces_its_smaller_ones(tmp_path, monkeypatch):
    root = open_root(str(tmp_path))
    refer(root, "job", ["samples/a"])
    refer(root, "job", ["samples/a", "labels/b"])
    refer(root, "other", ["samples/c"])
    assert sorted(one.stores for _, one in references(root)) == [
        ("labels/b", "samples/a"),
        ("samples/c",),
    ]
    before = files_of(root)
    refer(root, "job", ["samples/a"])
    assert files_of(root) == before
    later_s = time.time() + 7200
    monkeypatch.setattr(references_module.time, "time", lambda: later_s)
    refer(root, "job", ["labels/b", "samples/a"])
    assert {one.job: one.used_s for _, one in references(root)}["job"] == later_s


def test_a_store_that_is_begun_anew_where_another_was_deleted_is_fine(plan):
    labels = plan.teachers[0].labels
    collect_root(plan.root, ttl_days=30, accept_unknown=True)
    again = type(labels).open_or_create(labels.root, spec=labels.spec, schema=labels.schema)
    assert again.committed() == set()
