"""Tests of forgetting: nothing of a sample is left, all else is, and it does not come back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from label_fakes import make_world
from left_behind import traces
from training_stores import fit_spec

from mke_ray.config_labels import LabelsConfig
from mke_ray.config_upkeep import ForgetConfig
from mke_ray.data.manifest import Manifest, evenly, write_manifest
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion.findings import FINDINGS_FOLDERS, kept
from mke_ray.expansion.forget import forget, forget_samples
from mke_ray.expansion.label_rules import LabelRules
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.lease import Lease
from mke_ray.labels.scrub import scrub_units
from mke_ray.labels.verify import verify
from mke_ray.labels.worker import UnitWorker
from mke_ray.schema import sample_id
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import FitStore, RowSelection

KEY = "00005"


@pytest.fixture
def plan(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 10, splits=["labelled", "unlabeled"])
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    plan.root.write("report/index.html", b"a picture of 00005")
    plan.root.write("doubles/doubles-1.parquet", b"00005 is a copy")
    return plan


def manifest_of(plan) -> Manifest:
    return Manifest.open(plan.root.child("manifest"))


def rows_of(plan, store):
    manifest = manifest_of(plan)
    return [
        (one, stored)
        for ref in manifest.unit_refs()
        for one, stored in zip(
            manifest.read_unit(ref), store.read(ref.unit).to_pylist(), strict=True
        )
    ]


def needles_of(plan):
    """Return bytes by which the sample is known: its key and its features as they are stored."""
    pieces = [stored["x"] for row, stored in rows_of(plan, plan.samples) if row.key == KEY]
    return [KEY.encode(), *pieces[0]]


def files_of(root):
    names = [name for name in root.names() if not name.startswith("lease/")]
    return {name: root.read(name) for name in names}


def test_statistics_in_which_a_sample_counts_go_and_are_made_of_the_others(plan):
    labels, keys = plan.teachers[0].labels, LabelsConfig(alignment="uniform")
    for folder in FINDINGS_FOLDERS:
        kept(plan.root.child(folder), [labels.name], lambda: {"n": 1})

    def ratio():
        manifest = manifest_of(plan)
        args = {"samples": plan.samples, "labels": labels}
        return LabelRules(plan.root, manifest, **args).configured(keys)["ratio"]

    before = ratio()
    done = forget_samples(plan.root, keys=[KEY])
    assert done.deleted == ("report", "doubles", *FINDINGS_FOLDERS)
    assert not [name for one in FINDINGS_FOLDERS for name in plan.root.names(one)]
    labels.write_index([ref.unit for ref in manifest_of(plan).unit_refs()])
    assert ratio() != before


def test_a_forgotten_sample_keeps_nothing_but_its_id_and_all_others_keep_everything(plan):
    before = dict(zip(range(10), rows_of(plan, plan.samples), strict=True))
    needles = needles_of(plan)
    assert traces(plan.root, needles) == {"manifest", "samples", "report", "doubles"}
    done = forget_samples(plan.root, keys=[KEY])
    assert (done.num_rows, done.num_units, done.deleted) == (1, 2, ("report", "doubles"))
    for store in (plan.samples, plan.teachers[0].labels):
        for number, (row, stored) in enumerate(rows_of(plan, store)):
            if row.sample_id != sample_id(KEY):
                assert row == before[number][0]
                assert stored["status"] == "ok"
                continue
            assert (row.key, row.group, row.etag, row.labels) == ("", "", "", None)
            assert row.mark == "forgotten"
            assert stored["status"] == "bad"
            held = {k: v for k, v in stored.items() if k not in ("sample_id", "status")}
            assert {v for v in held.values() if v is not None} <= {"forgotten"}
        assert verify(store, manifest_of(plan)).ok
    index = plan.samples.index()
    assert index.counts().reasons == {"forgotten": 1}
    assert traces(plan.root, needles) == set()


def test_what_was_forgotten_is_not_listed_again(plan):
    forget_samples(plan.root, keys=[KEY])
    manifest = manifest_of(plan)
    from label_fakes import FakeSource

    source = FakeSource(10, ["labelled", "unlabeled"])
    assert write_manifest(manifest.root, source, unit_size=4) == manifest
    again = run_pass(replace(plan, manifest=manifest), manifest.unit_refs(), LocalRunner())
    assert (again.num_units_run, again.counts.samples, again.counts.bad) == (0, 9, 0)


def test_forgetting_twice_changes_no_file(plan):
    forget_samples(plan.root, keys=[KEY])
    before = files_of(plan.root)
    assert forget_samples(plan.root, keys=[KEY]).num_rows == 0
    assert forget_samples(plan.root, sample_ids=[sample_id(KEY)]).num_units == 0
    assert files_of(plan.root) == before


def test_a_sample_is_forgotten_by_its_id(plan):
    assert forget_samples(plan.root, sample_ids=[sample_id(KEY)]).num_rows == 1
    assert [row.key for row, _ in rows_of(plan, plan.samples)].count("") == 1


@pytest.mark.parametrize("wrong", [{"keys": ["nothing"]}, {"sample_ids": [7]}])
def test_what_was_never_there_is_an_error_and_nothing_happens(plan, wrong):
    before = files_of(plan.root)
    with pytest.raises(ConfigError, match=r"nothing.*for example 00000|sample_ids=\[7\]"):
        forget_samples(plan.root, **wrong)
    with pytest.raises(ConfigError):
        forget_samples(plan.root, keys=[KEY, "nothing"])
    assert files_of(plan.root) == before


def test_nothing_named_is_an_error(plan):
    with pytest.raises(ConfigError, match="name what"):
        forget([ForgetConfig(root=plan.root.uri)])


def test_a_dry_run_says_what_it_would_do_and_does_nothing(plan, caplog):
    before = files_of(plan.root)
    with caplog.at_level("INFO"):
        forget([ForgetConfig(root=plan.root.uri, uri=KEY, dry_run=True)])
    assert "1 sample would be forgotten" in caplog.text
    assert files_of(plan.root) == before


def test_what_was_done_is_said_with_its_numbers(plan, caplog):
    with caplog.at_level("INFO"):
        forget([ForgetConfig(root=plan.root.uri, uri=KEY)])
        forget([ForgetConfig(root=plan.root.uri, uri=["00006", "00007"])])
    assert f"forgot 1 sample in {plan.root.uri} and wrote 2 units anew" in caplog.text
    assert "forgot 2 samples in" in caplog.text


def test_no_empty_folder_is_left_of_what_was_deleted(plan, tmp_path):
    plan.root.write("report/figures/arms.png", b"a picture of 00005")
    forget_samples(plan.root, keys=[KEY])
    folders = [one for one in (tmp_path / "run").rglob("*") if one.is_dir()]
    assert folders and [one for one in folders if not list(one.iterdir())] == []


def test_another_driver_keeps_forgetting_away(plan):
    with Lease(plan.root).held("train"), pytest.raises(StoreError, match="'train'"):
        forget_samples(plan.root, keys=[KEY])


def stopping(monkeypatch, stops_at):
    """Let the first call that changes the root and is not done be that of a number."""
    calls = 0

    def counted(method):
        def call(self, name, *content):
            nonlocal calls
            calls += "lease" not in self.uri
            if calls >= stops_at and "lease" not in self.uri:
                raise KeyboardInterrupt
            return method(self, name, *content)

        return call

    for name in ("write", "create", "delete"):
        monkeypatch.setattr(Root, name, counted(getattr(Root, name)))


@pytest.mark.parametrize("stops_at", range(1, 12))
def test_forgetting_that_was_cut_short_is_finished_by_the_next_try(plan, monkeypatch, stops_at):
    """Whatever write or deletion is the last: the next try leaves nothing."""
    needles = needles_of(plan)
    assert "samples" in traces(plan.root, needles)
    with monkeypatch.context() as patch:
        stopping(patch, stops_at)
        with pytest.raises(KeyboardInterrupt):
            forget_samples(plan.root, keys=[KEY])
    forget_samples(plan.root, keys=[KEY])
    assert traces(plan.root, needles) == set()
    for store in (plan.samples, plan.teachers[0].labels):
        report = verify(store, manifest_of(plan))
        assert report.ok and report.num_orphans == 0
        states = {row.sample_id: stored["status"] for row, stored in rows_of(plan, store)}
        assert states.pop(sample_id(KEY)) == "bad" and set(states.values()) == {"ok"}


def test_files_of_killed_workers_that_hold_the_sample_go_too(plan):
    unit = next(row.unit for row, _ in rows_of(plan, plan.samples) if row.key == KEY)
    content = plan.samples.root.read(plan.samples.record(unit)["file"])
    plan.samples.root.write(f"attempts/{unit}-dead.parquet", content)
    needles = needles_of(plan)
    forget_samples(plan.root, keys=[KEY])
    assert traces(plan.root, needles) == set()


def test_what_a_late_worker_brings_back_is_gone_after_the_next_pass(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 12)
    *others, last = plan.manifest.unit_refs()
    run_pass(plan, others, LocalRunner())
    late, row = UnitWorker(plan), plan.manifest.read_unit(last)[1]
    forget_samples(plan.root, keys=[row.key])
    late._storing._plan = replace(plan, manifest=Stale(plan.manifest, last, row))
    late.run(last)
    assert plan.samples.read(last.unit).column("x")[1].as_py() is not None
    now = replace(plan, manifest=manifest_of(plan))
    report = run_pass(now, now.manifest.unit_refs(), LocalRunner())
    assert report.num_units_run == 0
    assert plan.samples.read(last.unit).column("x")[1].as_py() is None
    assert plan.teachers[0].labels.read(last.unit).column("logits")[1].as_py() is None
    assert [verify(store, now.manifest).ok for store in plan.stores] == [True, True]


class Stale:
    """A manifest of which a worker had read a unit before a sample of it was forgotten."""

    def __init__(self, manifest, ref, row):
        self._manifest = manifest
        self._rows = {ref.unit: [*manifest.read_unit(ref)]}
        self._rows[ref.unit][1] = row

    def read_unit(self, ref):
        return self._rows[ref.unit]


def test_a_store_that_was_half_deleted_goes_too(plan):
    half = plan.root.child("samples", "half-deleted")
    half.write("attempts/unit-1.parquet", b"the sample")
    forget_samples(plan.root, keys=["00003"])
    assert list(half.names()) == []
    assert plan.samples.root.exists("spec.json")


def test_half_written_files_that_hold_the_sample_go_too(plan):
    run = Path(plan.root.path())
    for name in ("samples/.a.parquet.1.tmp", "manifest/.part-0.1.tmp", ".other.1.tmp"):
        (run / name).write_bytes(KEY.encode())
    forget_samples(plan.root, keys=[KEY])
    assert [path for path in run.rglob("*.tmp") if path.is_file()] == []


def test_what_a_killed_worker_left_of_a_unit_that_is_not_committed_goes_too(plan):
    """Deleting the record leaves what a worker leaves that is killed before it commits."""
    unit = next(row.unit for row, _ in rows_of(plan, plan.samples) if row.key == KEY)
    needles = needles_of(plan)
    for name in list(plan.samples.root.names("commits")):
        if unit in name:
            plan.samples.root.delete(name)
    assert plan.samples.find(unit) is None and "samples" in traces(plan.root, needles)
    forget_samples(plan.root, keys=[KEY])
    assert traces(plan.root, needles) == set()


def test_what_a_killed_listing_left_in_the_manifest_goes_too(plan):
    manifest = plan.manifest.root
    part = next(plan.manifest.parts())
    manifest.write("progress.json", b'{"open_rows": {"unlabeled": ["00005"]}}')
    manifest.write("part-00001-00000-dead.parquet", manifest.read(part))
    forget_samples(plan.root, keys=[KEY])
    assert traces(plan.root, [KEY.encode()]) == set()
    assert "part-00001-00000-dead.parquet" not in set(manifest.names())
    assert set(plan.manifest.parts()) <= set(manifest.names())


def test_each_generation_of_the_manifest_is_opened_once_to_find_the_networks(plan, monkeypatch):
    for seed in range(3):
        save_fit(plan, f"student {seed}", when=plan.manifest, seed=seed)
    for key in ("00001", "00002"):
        forget_samples(plan.root, keys=[key])
    opened, open_generation = [], Manifest.open_generation
    monkeypatch.setattr(
        Manifest,
        "open_generation",
        lambda root, one: (opened.append(one), open_generation(root, one))[1],
    )
    done = forget_samples(plan.root, keys=[KEY], is_dry_run=True)
    assert sorted(done.fits.values()) == ["student 0", "student 1", "student 2"]
    assert opened == [2, 0, 1, 2]


def test_a_unit_that_is_not_decoded_yet_is_left_out(plan):
    assert scrub_units(plan.samples, {"f" * 16: [0]}) == 0


def save_fit(plan, name, *, when, **changes):
    spec = fit_spec(name=name, **changes)
    spec = replace(spec, data=when.digest(spec.splits))
    facts = json.dumps({"spec": spec.to_dict()}).encode()
    FitStore(plan.root).save(spec.fingerprint(), {"fit.json": facts})
    return spec.fingerprint()


def test_the_networks_that_saw_the_sample_are_named(plan):
    """Number 5 is unlabeled: a student saw it, its teacher and what came after did not."""
    labelled = (RowSelection("labelled", "true"),)
    first = plan.manifest
    save_fit(plan, "teacher", when=first, rows=labelled)
    student = save_fit(plan, "student", when=first)
    save_fit(plan, "tuned", when=first, rows=labelled, init_from=student)
    done = forget_samples(plan.root, keys=[KEY])
    assert sorted(done.fits.values()) == ["student", "tuned"]
    save_fit(plan, "later", when=manifest_of(plan), seed=3)
    unlabeled = next(r.key for r, _ in rows_of(plan, plan.samples) if r.split == "unlabeled")
    assert sorted(forget_samples(plan.root, keys=[unlabeled]).fits.values()) == [
        "later",
        "student",
        "tuned",
    ]
    assert forget_samples(plan.root, keys=[KEY]).fits.keys() == done.fits.keys()


def test_a_network_that_saw_some_units_of_a_split_is_named_where_the_sample_is_in_these(plan):
    few = (RowSelection("unlabeled", "pseudo", most=1),)
    save_fit(plan, "pre-flight", when=plan.manifest, rows=few)
    refs = list(plan.manifest.unit_refs(["unlabeled"]))
    (seen,) = evenly(refs, 1)
    named = {
        ref.unit: forget_samples(
            plan.root, keys=[plan.manifest.read_unit(ref)[0].key], is_dry_run=True
        ).fits
        for ref in refs
    }
    assert len(refs) > 1
    assert {unit for unit, fits in named.items() if fits} == {seen.unit}


def test_a_root_without_a_run_stays_as_it_is(tmp_path):
    with pytest.raises(StoreError, match="holds no finished manifest"):
        forget([ForgetConfig(root=str(tmp_path / "typo"), uri="a.mp4")])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def compacted(plan):
    bring_into_parts(plan)
    return plan


def bring_into_parts(plan):
    refs = list(manifest_of(plan).unit_refs())
    indexes = [store.write_index([ref.unit for ref in refs]) for store in plan.stores]
    what = CompactionPlan(plan.root, plan.stores)
    compact(what, refs, indexes, LocalRunner(), part_bytes=1 << 16)


def test_of_a_sample_in_a_part_nothing_is_left_and_the_others_of_the_part_are_as_they_were(
    compacted,
):
    needles = needles_of(compacted)
    before = rows_of(compacted, compacted.samples)
    parts = set(compacted.samples.root.names("parts"))
    assert len(parts) == 2
    done = forget_samples(compacted.root, keys=[KEY])
    assert done.num_units == 2
    assert traces(compacted.root, needles) == set()
    assert len(parts & set(compacted.samples.root.names("parts"))) == 1
    for (row, stored), (_, old) in zip(rows_of(compacted, compacted.samples), before, strict=True):
        assert row.sample_id == sample_id(KEY) or stored == old
    for store in compacted.stores:
        report = verify(store, manifest_of(compacted))
        assert report.ok and report.num_orphans == 0
    files = files_of(compacted.root)
    forget_samples(compacted.root, keys=[KEY])
    assert files_of(compacted.root) == files
    bring_into_parts(compacted)
    assert traces(compacted.root, needles) == set()


@pytest.mark.parametrize("stops_at", range(1, 17, 2))
def test_forgetting_a_sample_in_a_part_that_was_cut_short_is_finished_by_the_next_try(
    compacted, monkeypatch, stops_at
):
    needles = needles_of(compacted)
    with monkeypatch.context() as patch:
        stopping(patch, stops_at)
        with pytest.raises(KeyboardInterrupt):
            forget_samples(compacted.root, keys=[KEY])
    forget_samples(compacted.root, keys=[KEY])
    assert traces(compacted.root, needles) == set()
    for store in compacted.stores:
        report = verify(store, manifest_of(compacted))
        assert report.ok and report.num_orphans == 0


@pytest.mark.parametrize("stops_at", [2, 3, 4, 6, 9])
def test_nothing_of_a_sample_is_left_of_a_compaction_that_was_cut_short(
    plan, monkeypatch, stops_at
):
    needles = needles_of(plan)
    with monkeypatch.context() as patch:
        stopping(patch, stops_at)
        with pytest.raises(KeyboardInterrupt):
            bring_into_parts(plan)
    forget_samples(plan.root, keys=[KEY])
    assert traces(plan.root, needles) == set()
    bring_into_parts(plan)
    assert traces(plan.root, needles) == set()
    assert all(verify(store, manifest_of(plan)).ok for store in plan.stores)
