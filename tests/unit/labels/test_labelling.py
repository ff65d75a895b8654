from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_fakes import make_world, teacher_spec

from mke_ray.data.manifest import Mark
from mke_ray.errors import MediaError, StoreError
from mke_ray.labels import labelling, tally, too_many
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.lease import Lease
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unreadable import LIST_NAME, unreadable_samples
from mke_ray.labels.verify import verify
from mke_ray.labels.worker import UNITS_PER_CALL, UnitWorker
from mke_ray.storage import Root, open_root

BROKEN = {1: "bad", 2: "no_y", 3: "io", 6: "gone"}


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def refs_of(plan, splits=None):
    return list(plan.manifest.unit_refs(splits))


def rows_by_number(plan, store):
    """Return {number: row} over a whole store."""
    found = {}
    for ref in refs_of(plan):
        keys = [int(row.key) for row in plan.manifest.read_unit(ref)]
        for number, row in zip(keys, store.read(ref.unit).to_pylist(), strict=True):
            assert number not in found
            found[number] = row
    return found


def test_every_input_has_a_row_with_its_status(root):
    plan = make_world(root, 10, broken=BROKEN)
    report = run_pass(plan, refs_of(plan), LocalRunner())
    samples = rows_by_number(plan, plan.samples)
    assert sorted(samples) == list(range(10))
    assert {n: row["status"] for n, row in samples.items() if row["status"] != "ok"} == {
        1: "bad",
        2: "partial",
        3: "retry",
        6: "bad",
    }
    assert samples[1]["error"] == "truncated: sample 1"
    assert samples[1]["x"] is None and samples[1]["x_status"] == "truncated"
    assert samples[2]["y_status"] == "no_sound" and samples[2]["x_status"] == "ok"
    counts = report.counts
    assert (counts.ok, counts.partial, counts.bad, counts.retry) == (6, 1, 2, 1)
    assert counts.reasons == {"truncated": 1, "io": 1, "missing_file": 1}
    assert counts.partial_reasons == {"no_sound": 1}


def test_labels_are_the_teachers_logits_where_its_modality_is_there(root):
    plan = make_world(root, 10, broken=BROKEN)
    run_pass(plan, refs_of(plan), LocalRunner())
    labels = rows_by_number(plan, plan.teachers[0].labels)
    assert labels[4] == {**labels[4], "status": "ok", "logits": [4.0, 1.0, 2.0]}
    assert labels[2]["status"] == "ok" and labels[2]["logits"] == [2.0, 1.0, 2.0]
    assert (labels[1]["status"], labels[1]["logits"]) == ("bad", None)
    assert (labels[3]["status"], labels[3]["logits"]) == ("retry", None)


def test_a_teacher_of_the_missing_modality_gives_no_logits(root):
    plan = make_world(root, 4, broken={2: "no_y"}, teachers=[teacher_spec(modality="y")])
    run_pass(plan, refs_of(plan), LocalRunner())
    labels = rows_by_number(plan, plan.teachers[0].labels)
    assert (labels[2]["status"], labels[2]["logits"]) == ("partial", None)
    assert labels[3]["logits"] == [-3.0, 1.0, 2.0]


def test_a_teacher_sees_a_whole_unit_as_one_batch(root, tmp_path):
    log = tmp_path / "batches"
    plan = make_world(root, 10, broken={1: "bad"}, teachers=[teacher_spec(log=str(log))])
    run_pass(plan, refs_of(plan), LocalRunner())
    assert sorted(log.read_text().split()) == ["2", "3", "4"]


def test_a_finished_pass_does_nothing_and_never_touches_the_runner(root):
    plan = make_world(root, 10, broken=BROKEN)
    first = run_pass(plan, refs_of(plan), LocalRunner())
    files = list(root.names())

    class NoRunner:
        def run(self, plan, refs):
            pytest.fail("work was started")

    again = run_pass(plan, refs_of(plan), NoRunner())
    assert again.num_units_run == 0 and first.num_units_run == 3
    assert again.counts == first.counts
    assert list(root.names()) == files


def test_an_interrupted_pass_goes_on_where_it_stopped(root, tmp_path):
    log = tmp_path / "reads"
    plan = make_world(root, 12, log=str(log))

    class Interrupted:
        def run(self, plan, refs):
            yield from LocalRunner().run(plan, refs[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pass(plan, refs_of(plan), Interrupted())
    report = run_pass(plan, refs_of(plan), LocalRunner())
    assert report.num_units_run == 2
    assert len(log.read_text().splitlines()) == 12
    assert verify(plan.samples, plan.manifest).ok


def test_a_crash_between_attempt_and_commit_leaves_an_orphan_and_loses_nothing(root, monkeypatch):
    plan = make_world(root, 8)
    create = Root.create

    def crash(self, name, content):
        if name.startswith("commits/") and "/samples/" in self.uri:
            raise KeyboardInterrupt
        return create(self, name, content)

    monkeypatch.setattr(Root, "create", crash)
    with pytest.raises(KeyboardInterrupt):
        run_pass(plan, refs_of(plan), LocalRunner())
    monkeypatch.undo()
    assert len(list(plan.samples.root.names("attempts"))) == 1
    run_pass(plan, refs_of(plan), LocalRunner())
    report = verify(plan.samples, plan.manifest)
    assert report.ok and report.num_orphans == 1 and report.num_rows == 8


def test_a_crash_between_samples_and_labels_decodes_nothing_again(root, tmp_path, monkeypatch):
    log = tmp_path / "reads"
    plan = make_world(root, 8, log=str(log))
    monkeypatch.setattr(UnitWorker, "_label", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_pass(plan, refs_of(plan), LocalRunner())
    monkeypatch.undo()
    run_pass(plan, refs_of(plan), LocalRunner())
    assert len(log.read_text().splitlines()) == 8
    assert verify(plan.teachers[0].labels, plan.manifest).ok


def test_the_loser_of_a_unit_labels_what_the_winner_stored(root, monkeypatch):
    """The winner read the samples when their bytes were others: labels must follow its samples."""
    plan = make_world(root, 4)
    ref = refs_of(plan)[0]
    loser = UnitWorker(plan)
    decode = loser._storing._decode_unit

    def decode_late(*args):
        table, facts = decode(*args)
        shifted = table.set_column(
            table.column_names.index("x"), "x", [[[np.array([50.0, 0], "<f4").tobytes()]] * 4]
        ).cast(table.schema)
        assert plan.samples.commit(ref.unit, shifted, facts)
        return table, facts

    monkeypatch.setattr(loser._storing, "_decode_unit", decode_late)
    loser.run(ref)
    labels = plan.teachers[0].labels.read(ref.unit)
    assert labels.column("logits").to_pylist() == [[50.0, 1.0, 2.0]] * 4


def test_another_teacher_reads_samples_and_rewrites_nothing(root, tmp_path):
    log = tmp_path / "reads"
    plan = make_world(root, 8, log=str(log))
    run_pass(plan, refs_of(plan), LocalRunner())
    samples_before = list(plan.samples.root.names())
    other = make_world(root, 8, log=str(log), teachers=[teacher_spec(scale=2.0)])
    run_pass(other, refs_of(other), LocalRunner())
    assert other.teachers[0].labels.root.uri != plan.teachers[0].labels.root.uri
    assert rows_by_number(other, other.teachers[0].labels)[5]["logits"] == [10.0, 2.0, 4.0]
    assert rows_by_number(plan, plan.teachers[0].labels)[5]["logits"] == [5.0, 1.0, 2.0]
    assert list(plan.samples.root.names()) == samples_before
    assert len(log.read_text().splitlines()) == 8


def test_several_teachers_label_in_one_pass(root):
    plan = make_world(root, 6, teachers=[teacher_spec(), teacher_spec(modality="y", scale=3.0)])
    report = run_pass(plan, refs_of(plan), LocalRunner())
    assert len(report.labels) == 2
    assert rows_by_number(plan, plan.teachers[1].labels)[5]["logits"] == [-15.0, 3.0, 6.0]


def test_a_pass_without_a_teacher_stores_samples_and_a_later_one_labels_them(root, tmp_path):
    log = tmp_path / "reads"
    world = {"splits": ["labelled", "unlabeled"], "log": str(log)}
    decode_only = make_world(root, 12, teachers=[], **world)
    report = run_pass(decode_only, refs_of(decode_only, ["labelled"]), LocalRunner())
    assert report.labels == () and report.counts.samples == 6
    plan = make_world(root, 12, **world)
    report = run_pass(plan, refs_of(plan), LocalRunner())
    assert report.counts.samples == 12
    assert len(log.read_text().splitlines()) == 12
    assert set(report.samples.units("labelled")) == {r.unit for r in refs_of(plan, ["labelled"])}


def test_too_many_unreadable_samples_stop_the_pass_at_once_with_their_reasons(root, tmp_path):
    log = tmp_path / "reads"
    plan = make_world(root, 20, broken=dict.fromkeys(range(11), "bad"), log=str(log))
    for _ in range(2):
        with pytest.raises(MediaError, match=r"11 of 20 .*max_bad_fraction=0\.5.*truncated 11"):
            run_pass(plan, refs_of(plan), LocalRunner())
        assert len(log.read_text().splitlines()) == 12


def test_the_stop_names_five_unreadable_samples_and_lists_all_of_them_in_a_file(root):
    plan = make_world(root, 20, broken={0: "no_y", **dict.fromkeys(range(1, 12), "bad")})
    with pytest.raises(MediaError) as stop:
        run_pass(plan, refs_of(plan), LocalRunner())
    assert [row["key"] for row in bad_rows(root)] == [f"{number:05}" for number in range(1, 12)]
    named = [f"{number:05} (truncated: sample {number})" for number in range(1, 12)]
    assert [name in str(stop.value) for name in named] == [True] * 5 + [False] * 6
    assert root.child(LIST_NAME).uri in str(stop.value)
    run_pass(replace(plan, max_bad_fraction=1.0), refs_of(plan), LocalRunner())
    assert [row["status"] for row in bad_rows(root)] == ["bad"] * 11


def bad_rows(root):
    return pq.read_table(pa.BufferReader(root.read(LIST_NAME))).to_pylist()


def test_what_is_not_whole_is_listed_by_reason(root):
    plan = make_world(root, 10, broken=BROKEN)
    run_pass(plan, refs_of(plan), LocalRunner())
    listed = [(row["status"], row["reason"], row["key"]) for row in bad_rows(root)]
    assert listed == [
        ("bad", "missing_file", "00006"),
        ("bad", "truncated", "00001"),
        ("retry", "io", "00003"),
    ]
    assert bad_rows(root)[1]["error"] == "truncated: sample 1"
    assert bad_rows(root)[1]["group"] == "g1"


def test_a_store_that_fails_hides_nothing_of_the_stop(root, monkeypatch):
    def refuse(*_):
        raise OSError("the store does not answer")

    monkeypatch.setattr(too_many, "unreadable_of", refuse)
    plan = make_world(root, 20, broken=dict.fromkeys(range(11), "bad"))
    wanted = r"11 of 20 .*truncated 11\); they could not be listed \(the store does not answer\)"
    with pytest.raises(MediaError, match=wanted):
        run_pass(plan, refs_of(plan), LocalRunner())


def test_progress_says_how_fast_a_pass_goes_and_what_it_costs(root):
    plan, said = make_world(root, 20), []
    run_pass(
        plan,
        refs_of(plan),
        LocalRunner(),
        progress=lambda *call: said.append(call[3]),
        cost_per_hour=3600.0,
    )
    assert said[0] == ""
    assert all("samples/s" in one and "%" in one and "cost" in one for one in said[1:])


def test_progress_counts_what_was_there_before(root):
    plan = make_world(root, 12)
    run_pass(plan, refs_of(plan)[:1], LocalRunner())
    calls = []
    run_pass(plan, refs_of(plan), LocalRunner(), progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(4, 12), (8, 12), (12, 12)]
    assert calls[-1][2] == 0.0


class Reporting:
    """A runner whose units end at given times of a clock, each after 10 s of work."""

    def __init__(self, monkeypatch, ends_s):
        self._now_s, self._ends_s = 0.0, ends_s
        monkeypatch.setattr(tally, "time", SimpleNamespace(perf_counter=lambda: self._now_s))

    def run(self, plan, refs):
        done = LocalRunner().run(plan, refs)
        for end_s, report in zip(self._ends_s, done, strict=True):
            self._now_s = end_s
            report.seconds = {"decode": 10.0}
            yield report


def test_the_time_left_follows_the_rate_since_work_began_on_all_workers(root, monkeypatch):
    """Two workers that take 300 s to start: units end in pairs, the first of them says nothing."""
    plan, calls = make_world(root, 24), []
    runner = Reporting(monkeypatch, [310.0, 310.0, 320.0, 320.0, 330.0, 330.0])
    run_pass(plan, refs_of(plan), runner, progress=lambda *call: calls.append(call))
    assert [eta_s for _, _, eta_s, _ in calls] == [None, None, None, 20.0, 10.0, 6.0, 0.0]


def test_a_second_driver_is_kept_away_while_the_first_works(root):
    plan = make_world(root, 8)
    with Lease(plan.root).held("first"), pytest.raises(StoreError, match="'first'"):
        run_pass(plan, refs_of(plan), LocalRunner())
    assert plan.samples.committed() == set()
    with Lease(plan.root).held("mine") as lease:
        assert run_pass(plan, refs_of(plan), LocalRunner(), lease=lease).num_units_run == 2


def test_a_driver_that_lost_the_lease_stops_before_the_index(root):
    plan = make_world(root, 8)

    class Slow:
        def run(self, plan, refs):
            yield from LocalRunner().run(plan, refs)
            Lease(plan.root, stale_after_s=-1.0).acquire("second")

    with pytest.raises(StoreError, match="took over"):
        run_pass(plan, refs_of(plan), Slow())
    assert not [n for n in plan.samples.root.names(recursive=False) if n.startswith("index")]


def test_a_teacher_of_other_weights_on_the_worker_is_refused(root):
    plan = make_world(root, 4, teachers=[{"_target_": "label_fakes.ForgetfulTeacher"}])
    with pytest.raises(StoreError, match="same weights"):
        run_pass(plan, refs_of(plan), LocalRunner())


def test_a_teacher_of_other_classes_is_refused(root):
    plan = make_world(root, 4, teachers=[teacher_spec(num_classes=5)])
    with pytest.raises(StoreError, match="'zero', 'one', 'two'"):
        run_pass(plan, refs_of(plan), LocalRunner())


def test_logits_that_are_not_finite_are_refused(root):
    plan = make_world(root, 4, teachers=[teacher_spec(scale=float("nan"))])
    with pytest.raises(
        StoreError, match=r"not finite for \d of \d samples .*for example \d+: \[nan"
    ):
        run_pass(plan, refs_of(plan), LocalRunner())
    assert plan.teachers[0].labels.committed() == set()


def test_a_teacher_that_needs_more_than_is_stored_is_refused_before_any_work(root):
    with pytest.raises(StoreError, match="'z'"):
        make_world(root, 4, teachers=[teacher_spec(modality="z")])


def test_threads_change_nothing(root, tmp_path):
    import dataclasses

    plan = make_world(root, 10, broken=BROKEN)
    run_pass(plan, refs_of(plan), LocalRunner())
    other = make_world(open_root(str(tmp_path / "other")), 10, broken=BROKEN)
    run_pass(dataclasses.replace(other, num_threads=4), refs_of(other), LocalRunner())
    assert rows_by_number(plan, plan.samples) == rows_by_number(other, other.samples)


def test_unreadable_samples_are_listed_with_their_reasons(root):
    plan = make_world(root, 10, broken=BROKEN)
    report = run_pass(plan, refs_of(plan), LocalRunner())
    found = {
        int(s.key): (s.status, s.error)
        for s in unreadable_samples(plan.samples, plan.manifest, report.samples)
    }
    assert found == {
        1: ("bad", "truncated: sample 1"),
        2: ("partial", "no_sound"),
        3: ("retry", "io: TimeoutError: sample 3"),
        6: ("bad", "missing_file: 00006"),
    }


def test_a_sample_store_remembers_what_it_was_made_with(root):
    plan = make_world(root, 4)
    assert UnitStore.open(plan.samples.root).spec["decode"]["x"]["num_features"] == 2


def mark(plan, numbers, reason="deleted"):
    """Return the plan of the pass with some samples marked in the manifest."""
    import dataclasses

    marks = [
        Mark(row.sample_id, ref.unit, place, reason)
        for ref in refs_of(plan)
        for place, row in enumerate(plan.manifest.read_unit(ref))
        if int(row.key) in numbers
    ]
    return dataclasses.replace(plan, manifest=plan.manifest.add_marks(marks))


def test_a_marked_row_is_not_fetched_and_does_not_count(root, tmp_path):
    log = tmp_path / "reads"
    plan = mark(make_world(root, 10, log=str(log)), {1, 3, 5, 7, 8, 9})
    calls = []
    report = run_pass(
        plan, refs_of(plan), LocalRunner(), progress=lambda *call: calls.append(call[:2])
    )
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == ["0", "2", "4", "6"]
    rows = rows_by_number(plan, plan.samples)
    assert (rows[3]["status"], rows[3]["error"], rows[3]["x"]) == ("bad", "gone: deleted", None)
    assert rows[3]["x_status"] == "gone"
    assert (report.counts.samples, report.counts.bad, report.counts.reasons) == (4, 0, {})
    assert calls[-1] == (4, 4)
    assert verify(plan.samples, plan.manifest).ok


def test_a_broken_sample_that_is_marked_later_counts_no_more(root):
    plan = make_world(root, 10, broken=BROKEN)
    run_pass(plan, refs_of(plan), LocalRunner())
    marked = mark(plan, {0, 1, 2})
    report = run_pass(marked, refs_of(marked), LocalRunner())
    assert report.num_units_run == 0
    assert (report.counts.ok, report.counts.partial, report.counts.bad) == (5, 0, 1)
    assert "no_sound" not in report.counts.partial_reasons
    keys = [s.key for s in unreadable_samples(plan.samples, marked.manifest, report.samples)]
    assert keys == ["00003", "00006"]


def test_a_report_tells_fetching_from_decoding_and_counts_what_was_written(root, monkeypatch):
    from mke_ray.labels import storing

    plan = make_world(root, 4)
    monkeypatch.setattr(storing, "fetch_share", lambda rows: 0.25 * len(rows) / 4)
    ref = refs_of(plan)[0]
    report = UnitWorker(plan).run(ref)
    assert report.num_decoded == 4
    spent_s = report.seconds["fetch"] + report.seconds["decode"]
    assert report.seconds["fetch"] == pytest.approx(0.25 * spent_s) and spent_s > 0
    assert plan.samples.record(ref.unit)["seconds"] == pytest.approx(spent_s, abs=1e-4)
    files = [store.root for store in plan.stores]
    sizes = [len(one.read(n)) for one in files for n in one.names() if ref.unit in n]
    assert len(sizes) == 4 and report.num_bytes_written == sum(sizes)
    again = UnitWorker(plan).run(ref)
    assert (again.num_decoded, again.num_bytes_written, list(again.seconds)) == (0, 0, ["read"])


@pytest.mark.parametrize(("least", "per_call"), [(4, UNITS_PER_CALL), (5, 1)])
def test_very_many_units_are_handed_over_several_at_a_time(root, monkeypatch, least, per_call):
    monkeypatch.setattr(labelling, "_MANY_UNITS", least)
    given = []

    class Noting:
        def run(self, plan, refs):
            given.append((plan.units_per_call, len(refs)))
            yield from LocalRunner().run(plan, refs)

    plan = make_world(root, 16)
    run_pass(plan, refs_of(plan), Noting())
    assert given == [(per_call, 4)]
