from dataclasses import replace

import numpy as np
import pytest
from label_fakes import make_world, source_spec, teacher_spec

from mke_ray.errors import ConfigError, MediaError
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.todo import retry_reasons, wants_retry
from mke_ray.labels.unreadable import unreadable_samples
from mke_ray.labels.verify import verify
from mke_ray.labels.worker import UnitWorker
from mke_ray.storage import open_root
from mke_ray.train.fits import revisions_of

IO = frozenset({"io"})


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def with_source(plan, num_samples, **more):
    """Return the plan of a pass over a source whose files are in another state."""
    return replace(plan, source=source_spec(num_samples, **more))


def statuses(plan, store):
    rows = (store.read(ref.unit).column("status").to_pylist() for ref in refs_of(plan))
    return [one for some in rows for one in some]


def logits(plan, teacher=0):
    tables = (plan.teachers[teacher].labels.read(ref.unit) for ref in refs_of(plan))
    return [row for one in tables for row in one.column("logits").to_pylist()]


def test_retry_reads_again_only_the_rows_that_a_store_did_not_give(root, tmp_path):
    log = tmp_path / "reads"
    broken = {1: "io", 2: "bad", 9: "io"}
    plan = make_world(root, 12, broken=broken)
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = with_source(plan, 12, broken={2: "bad"}, log=str(log))
    report = run_pass(replace(healed, retry=IO), refs_of(plan), LocalRunner())
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == ["1", "9"]
    assert (report.counts.ok, report.counts.bad, report.counts.retry) == (11, 1, 0)
    assert report.num_units_run == 2


def test_what_was_read_again_equals_a_pass_in_which_it_never_failed(root, tmp_path):
    plan = make_world(root, 12, broken={1: "io", 9: "io"})
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = replace(with_source(plan, 12), retry=IO)
    run_pass(healed, refs_of(plan), LocalRunner())
    never = make_world(open_root(str(tmp_path / "never")), 12)
    run_pass(never, refs_of(never), LocalRunner())
    for ref in refs_of(plan):
        assert plan.samples.read(ref.unit).equals(never.samples.read(ref.unit))
    assert logits(plan) == logits(never)
    for store in plan.stores:
        assert verify(store, plan.manifest).ok and verify(store, plan.manifest).num_orphans == 0


def test_rows_that_fail_again_stay_and_nothing_is_written(root):
    plan = make_world(root, 12, broken={1: "io"})
    run_pass(plan, refs_of(plan), LocalRunner())
    before = files_of(root)
    report = run_pass(replace(plan, retry=IO), refs_of(plan), LocalRunner())
    assert report.counts.retry == 1
    assert files_of(root) == before


def files_of(root):
    return [name for name in root.names() if not name.startswith("lease/")]


def test_bad_samples_are_read_again_by_their_reason(root):
    plan = make_world(root, 12, broken={1: "bad", 2: "gone"})
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = replace(with_source(plan, 12), retry=frozenset({"truncated"}))
    report = run_pass(healed, refs_of(plan), LocalRunner())
    assert report.counts.reasons == {"missing_file": 1}


def test_labels_of_older_samples_are_made_anew_by_the_next_pass(root):
    """A driver that dies after the samples were read again and before they were labelled."""
    plan = make_world(root, 8, broken={1: "io"})
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = with_source(plan, 8)
    samples_only = replace(healed, teachers=(), retry=IO)
    run_pass(samples_only, refs_of(plan), LocalRunner())
    assert "retry" in statuses(plan, plan.teachers[0].labels)
    report = run_pass(healed, refs_of(plan), LocalRunner())
    assert report.num_units_run == 1
    assert statuses(plan, plan.teachers[0].labels) == ["ok"] * 8
    assert None not in logits(plan)


def test_labels_of_older_samples_that_come_late_are_made_anew_by_the_same_pass(root):
    plan = make_world(root, 8, broken={1: "io"}, teachers=[])
    run_pass(plan, refs_of(plan), LocalRunner())
    taught = make_world(root, 8, broken={1: "io"})
    healed = replace(taught, source=source_spec(8), retry=IO)

    class Late:
        """A runner in which a worker of an earlier driver labels what it had read before."""

        def run(self, work, refs):
            for ref in refs:
                old = UnitWorker(taught)
                if work.teachers[0].labels.find(ref.unit) is None:
                    old.run(ref)
                    old_labels = work.teachers[0].labels.read(ref.unit)
                    yield UnitWorker(replace(work, teachers=())).run(ref)
                    commit_derived(work.teachers[0].labels, ref, old_labels, of_revision=0)
                else:
                    yield from LocalRunner().run(work, [ref])

    run_pass(healed, refs_of(plan), Late())
    assert None not in logits(taught)


def test_a_retry_after_the_store_of_the_source_was_away_goes_on(root):
    plan = make_world(root, 20, broken=dict.fromkeys(range(12), "io"))
    with pytest.raises(MediaError, match="retry=io"):
        run_pass(plan, refs_of(plan), LocalRunner())
    report = run_pass(replace(with_source(plan, 20), retry=IO), refs_of(plan), LocalRunner())
    assert report.counts.ok == 20
    assert list(unreadable_samples(plan.samples, plan.manifest, report.samples)) == []


def test_fits_follow_samples_that_were_read_again(root):
    plan = make_world(root, 12, broken={1: "io"}, splits=["unlabeled", "test"])
    assert revisions_of(plan.samples, ["unlabeled"]) == ""
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = replace(with_source(plan, 12, splits=["unlabeled", "test"]), retry=IO)
    assert revisions_of(plan.samples, ["unlabeled", "test"]) == ""
    run_pass(healed, refs_of(plan), LocalRunner())
    assert revisions_of(plan.samples, ["test"]) != ""
    assert revisions_of(plan.samples, ["unlabeled"]) == ""


def test_threads_and_a_second_teacher_see_the_same_samples(root):
    teachers = [teacher_spec(), teacher_spec(scale=2.0)]
    plan = make_world(root, 8, broken={3: "io"}, teachers=teachers)
    run_pass(plan, refs_of(plan), LocalRunner())
    run_pass(replace(with_source(plan, 8), retry=IO), refs_of(plan), LocalRunner())
    one, two = (np.array(logits(plan, number)) for number in range(2))
    assert np.array_equal(2 * one, two)


def test_a_late_worker_puts_no_other_samples_below_the_labels_of_the_first(root):
    """Two workers read the same samples: what the second reads again is not what was labelled."""
    plan = make_world(root, 4, broken={1: "io", 2: "io"})
    run_pass(plan, refs_of(plan), LocalRunner())
    (ref,) = refs_of(plan)
    late = UnitWorker(replace(with_source(plan, 4, broken={2: "io"}), retry=IO))
    record = plan.samples.record(ref.unit)
    first = UnitWorker(replace(with_source(plan, 4), retry=IO))
    read = late._storing._read_rows

    def read_late(*args):
        first.run(ref)
        return read(*args)

    late._storing._read_rows = read_late
    late.run(ref)
    assert plan.samples.record(ref.unit)["generation"] == record["generation"] + 1
    assert statuses(plan, plan.samples) == ["ok"] * 4
    labels = plan.teachers[0].labels
    assert verify(labels, plan.manifest, samples=plan.samples).ok and None not in logits(plan)


def test_what_is_read_again_goes_below_a_unit_that_moved_meanwhile(root):
    plan = make_world(root, 8, broken={1: "io"})
    report = run_pass(plan, refs_of(plan), LocalRunner())
    ref = next(ref for ref in refs_of(plan) if (report.samples.status(ref.unit) == 3).any())
    worker = UnitWorker(replace(with_source(plan, 8), retry=IO))
    read = worker._storing._read_rows

    def compact_first(*args):
        compact(
            CompactionPlan(plan.root, plan.stores),
            refs_of(plan),
            [report.samples, *report.labels],
            LocalRunner(),
            part_bytes=1 << 20,
        )
        return read(*args)

    worker._storing._read_rows = compact_first
    worker.run(ref)
    assert plan.samples.record(ref.unit)["generation"] == 2
    assert statuses(plan, plan.samples) == ["ok"] * 8


def test_verify_names_labels_of_older_samples(root):
    plan = make_world(root, 8, broken={1: "io"})
    run_pass(plan, refs_of(plan), LocalRunner())
    run_pass(replace(with_source(plan, 8), teachers=(), retry=IO), refs_of(plan), LocalRunner())
    labels = plan.teachers[0].labels
    found = verify(labels, plan.manifest, samples=plan.samples)
    assert [problem.kind for problem in found.problems] == ["stale"]
    assert verify(labels, plan.manifest).ok


def test_splits_may_be_left_as_they_are(root):
    splits = ["labelled", "unlabeled"]
    plan = make_world(root, 8, broken={2: "io", 3: "io"}, splits=splits)
    run_pass(plan, refs_of(plan), LocalRunner())
    healed = with_source(plan, 8, splits=splits)
    kept = replace(healed, retry=IO, unretried=frozenset({"labelled"}))
    report = run_pass(kept, refs_of(plan), LocalRunner())
    assert report.counts.retry == 1 and set(report.samples.revisions(splits).values()) == {1}


def test_one_of_several_reasons_is_enough(root):
    plan = make_world(root, 8, broken={1: "bad_x", 2: "bad"})
    index = run_pass(plan, refs_of(plan), LocalRunner()).samples
    units = [ref.unit for ref in refs_of(plan)]
    assert any(wants_retry(index, unit, {"no_sound"}) for unit in units)


@pytest.mark.parametrize("retry", ["i o", [3], ["io", ""], {"io": "x y"}])
def test_other_words_for_retry_are_refused(retry):
    if isinstance(retry, dict):
        retry = list(retry.values())
    with pytest.raises(ConfigError, match="retry="):
        retry_reasons(retry)


def test_reasons_of_retry_may_be_one_or_several():
    assert retry_reasons(None) == frozenset()
    assert retry_reasons("io") == IO
    assert retry_reasons(["io", "timeout"]) == {"io", "timeout"}
