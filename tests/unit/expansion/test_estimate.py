"""What a dry run says of the whole pass, from some samples."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from composed import composed
from label_fakes import DECODE, FakeSource, FakeTeacher

from mke_ray.data.sources import SourceRow
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion import estimate, probing, rehearsal
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.estimate import Each, Estimate, Workers, estimate_lines, means, workers_of
from mke_ray.expansion.own_teacher import answer_of
from mke_ray.expansion.probing import Census, Probed, census, probe
from mke_ray.expansion.refining_storage import stores_of_refining
from mke_ray.expansion.requests import Requests
from mke_ray.labels.probe import GATE, probe_part
from mke_ray.labels.rows import StoredRow
from mke_ray.schema import Status, decode_spec_from_dict

SPEC = decode_spec_from_dict(DECODE)


def row(split):
    return SourceRow("key", -1, "", None, None, "g", split, None)


def probed(split, *, fetch_s, spent_s, num_bytes):
    stored = StoredRow(
        Status.OK,
        None,
        {"x": [b"1" * num_bytes], "y": [b"22"]},
        {},
        num_bytes_read=10 * num_bytes,
        duration_s=6.0,
        num_bytes_needed=9 * num_bytes,
        fetch_s=fetch_s,
        spent_s=spent_s,
    )
    return Probed(row(split), stored)


def test_a_survey_counts_splits_and_draws_from_each():
    source = FakeSource(900, ["unlabeled", "unlabeled", "probe"])
    found = census(source, select_fraction=0.5)
    assert found.splits == {"unlabeled": 600, "probe": 300} and found.is_whole
    in_gate = census(source, select_fraction=1e-9).num_gate
    assert in_gate == 300 > found.num_gate > 0
    assert [one.split for one in found.in_turn()][:4] == ["unlabeled", "probe"] * 2
    drawn = [int(one.key) for one in found.drawn["unlabeled"]]
    assert len(set(drawn)) == probing.MAX_TRIES
    assert np.mean(drawn) == pytest.approx(450, abs=130)  # not only the first ones


def test_a_survey_counts_the_groups_of_the_gate_s_part():
    groups = [f"g{one % 20}" for one in range(100)]
    rows = [replace(row("probe" if one < 90 else "test"), group=groups[one]) for one in range(100)]
    source = SimpleNamespace(rows=lambda: iter(rows))
    found = census(source, select_fraction=0.5)
    in_gate = [one for one in groups[:90] if probe_part(one) == GATE]
    assert found.gate_groups == Counter(in_gate) and found.num_gate == len(in_gate)
    assert 0 < len(found.gate_groups) < 20


def test_a_survey_that_stops_says_so(monkeypatch):
    monkeypatch.setattr(probing, "MAX_COUNTED", 50)
    found = census(FakeSource(51), select_fraction=0.5)
    assert (found.num_samples, found.is_whole) == (50, False)
    assert census(FakeSource(49), select_fraction=0.5).is_whole


def test_samples_are_read_until_there_are_enough_or_it_takes_too_long(monkeypatch):
    source = FakeSource(40, broken={0: "bad", 1: "io", 2: "gone"})
    good, bad = probe(source, census(source, select_fraction=0.5).in_turn(), SPEC)
    assert len(good) == probing.NUM_PROBED
    errors = [one.stored.error for one in bad]
    assert errors[:2] == ["truncated: sample 0", "io: TimeoutError: sample 1"]
    monkeypatch.setattr(probing, "PROBE_S", 0.0)
    good, _ = probe(source, census(source, select_fraction=0.5).in_turn(), SPEC)
    assert len(good) == 1


def test_a_source_of_which_nothing_can_be_read_is_refused():
    source = FakeSource(60, broken=dict.fromkeys(range(60), "bad"))
    rows = census(source, select_fraction=0.5).in_turn()
    with pytest.raises(ConfigError, match=r"none of 50 samples .*truncated': 50.*sample \d+"):
        probe(source, rows, SPEC)
    with pytest.raises(ConfigError, match="lists no samples"):
        probe(source, iter(()), SPEC)


def test_means_weigh_splits_by_their_size_and_leave_out_the_first_time():
    some = [
        probed("unlabeled", fetch_s=9.0, spent_s=99.0, num_bytes=98),  # opens connections
        probed("test", fetch_s=1.0, spent_s=2.0, num_bytes=198),
        probed("unlabeled", fetch_s=2.0, spent_s=6.0, num_bytes=98),
    ]
    each = means(some, Counter(unlabeled=300, test=100, probe=50))
    assert each.fetch_s == pytest.approx(1.75) and each.decode_s == pytest.approx(3.25)
    assert each.stored_bytes == pytest.approx(125.0)
    assert each.read_bytes == pytest.approx(1230.0) and each.needed_bytes == pytest.approx(1107.0)
    assert each.media_s == 6.0
    alone = means(some[:1], Counter(unlabeled=300))
    assert (alone.fetch_s, alone.decode_s) == (9.0, 90.0)


def whole(**more):
    each = Each(0.5, 1.5, 2e6, 1.5e6, 5e4, 10.0)
    values = {"num_samples": 36_000, "each": each, "teacher_s": 0.5, "num_classes": 10}
    workers = Workers(2, 4, "labelling.max_actors")
    return Estimate(**{**values, "workers": workers, "cost_per_hour": 4.0, **more})


def test_the_whole_follows_from_the_means():
    one = whole()
    assert one.wall_s == 36_000 * (2.0 / 4 + 0.5) / 2
    assert one.decode_core_s == 54_000.0
    assert one.label_bytes == 36_000 * 4 * 10
    assert one.cost == 20.0
    assert whole(teacher_s=None).wall_s == 9000.0
    assert whole(cost_per_hour=None).cost is None
    assert whole(num_stores=3).label_bytes == 3 * one.label_bytes


def test_refining_adds_stores_of_answers_and_labels_for_every_round():
    splits = {"labelled": 50, "unlabeled": 1000, "probe": 100, "test": 200}

    def stores(*overrides):
        (job,) = composed("tracking=off", "labelling.unit_size=100", *overrides)
        return list(stores_of_refining(check_job(job), splits))

    answers, labels, *_, members, mean = stores("expansion.rounds=2", "expansion.members=4")
    assert len(stores("expansion.rounds=2", "expansion.members=4")) == 2 * 2 + 2
    assert (answers.num_rows, answers.num_units) == (1300, 13)
    assert (answers.column_bytes, labels.column_bytes) == ((3 * 4 * 10,), (4 * 10,))
    assert (members.num_rows, members.column_bytes) == (1000, (40,) * 4)
    assert (mean.num_rows, mean.column_bytes) == (1000, (40,))
    assert len(stores("expansion.rounds=2", "expansion.members=1")) == 2 * 2
    assert stores("objective=mke") == []
    dense = ["experiment=nyu_depth_v2_small", "source.root=s3://b", "expansion.rounds=1"]
    answers, labels, *_ = stores(*dense)
    assert labels.column_bytes == ((3 * 3 + 2) * 60 * 80,)
    assert answers.column_bytes == ((3 * 6 + 2) * 60 * 80,)


def test_of_two_pools_the_slower_one_takes_the_time():
    workers = Workers(2, 4, "labelling.max_actors", num_teachers=4)
    assert whole(workers=workers).wall_s == 36_000 * 2.0 / 4 / 2
    assert whole(workers=workers, teacher_s=2.0).wall_s == 36_000 * 2.0 / 4
    assert "2 actors of 4 threads (labelling.max_actors) and 4 of teachers" in "".join(
        estimate_lines(whole(workers=workers))
    )
    (job,) = composed("labelling=split", "labelling.teachers_pool.max_actors=3")
    assert workers_of(job, is_cluster=True).num_teachers == 3


def test_the_estimate_is_said_with_what_it_assumes():
    assert estimate_lines(whole(), least="at least") == [
        "  decode        at least 15.00 core-hours (1.5 s each), fetch 5.00 h (500 ms each)",
        "  teacher       at least 5.00 h (500 ms each)",
        "  wall time     at least 5:00:00 on 2 actors of 4 threads (labelling.max_actors); "
        "training not counted",
        "  to read       at least 72.0 GB (75% needed), 100 h of media",
        "  storage       at least 1.8 GB of samples (50.0 kB each), 1.4 MB of labels "
        "(4 bytes x 10 classes each)",
        "  cost          at least 20.00 (labelling.cost_per_hour x wall time)",
        estimate._ASSUMED,
    ]
    assert "1.5 MB of answers and refined labels, if all rounds are needed" in "".join(
        estimate_lines(whole(refining_bytes=1.5e6))
    )
    said = estimate_lines(whole(teacher_s=None, cost_per_hour=None))
    assert (
        "at least" not in "".join(said) and "not timed" in said[1] and "cost" not in "".join(said)
    )


@pytest.mark.parametrize(
    ("overrides", "is_cluster", "expected"),
    [
        (["labelling.runner=local", "labelling.num_cpus=1"], False, (1, 1)),
        (["labelling.max_actors=2", "labelling.num_cpus=1"], False, (2, 1)),
        (["labelling.max_actors=64", "labelling.num_cpus=2"], False, (4, 2)),
        (["labelling.max_actors=null", "labelling.num_cpus=4"], False, (2, 4)),
        (["labelling.max_actors=64", "labelling.num_cpus=2"], True, (64, 2)),
        (["labelling.max_actors=null", "labelling.num_cpus=2"], True, (1, 2)),
    ],
)
def test_the_actors_are_those_configured_and_on_a_laptop_no_more_than_its_cores(
    monkeypatch, overrides, is_cluster, expected
):
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 8)
    (job,) = composed(*overrides)
    workers = workers_of(job, is_cluster=is_cluster)
    assert (workers.num_actors, workers.num_threads) == expected


@pytest.mark.parametrize(
    ("num_probe", "num_gate", "num_groups", "said"),
    [
        (0, 0, 0, "no rows with split=probe"),
        (
            60,
            30,
            30,
            "30 of 60 probe samples are the gate's part, of 30 groups, fewer samples than",
        ),
        (60, 30, 30, "gate.min_samples=50"),
        (120, 60, 4, "60 of 120 probe samples are the gate's part, of 4 groups, fewer of like"),
        (120, 60, 4, "gate.min_groups=5"),
        (120, 60, 5, "60 of 120 probe samples are the gate's part, of 5 groups"),
    ],
)
def test_the_gate_is_said_to_have_too_few_samples_or_groups(num_probe, num_gate, num_groups, said):
    (job,) = composed()
    found = Census(Counter(unlabeled=9, probe=num_probe), num_gate)
    found.gate_groups.update(str(one % num_groups) for one in range(num_gate))
    text = " ".join(rehearsal.gate_lines(SimpleNamespace(job=job), found))
    assert said in text
    assert ("unverified" in text) == (num_probe > 0 and (num_gate < 50 or num_groups < 5))


def test_of_a_source_that_was_not_counted_whole_nothing_is_said_of_the_gate():
    (job,) = composed()
    found = Census(Counter(unlabeled=9), is_whole=False)
    assert rehearsal.gate_lines(SimpleNamespace(job=job), found) == []


def test_a_table_whose_splits_are_drawn_gets_a_larger_probe_by_its_own_key():
    (job,) = composed()
    job.source["splits"] = {"labelled": 10, "probe": 40, "unlabeled": "rest"}
    found = Census(Counter(unlabeled=9, probe=40), 10, is_whole=True)
    text = " ".join(rehearsal.gate_lines(SimpleNamespace(job=job), found))
    assert "draw more by source.splits.probe" in text


class Odd(FakeTeacher):
    def __init__(self, how):
        super().__init__()
        self._how = how

    def predict(self, arrays_BX):
        return self._how(arrays_BX)


def test_an_error_of_predict_is_one_line_with_its_place():
    here = __file__

    def wrong(arrays_BX):
        return np.zeros(3).reshape(2, 2)

    with pytest.raises(ConfigError) as error:
        answer_of(Odd(wrong), np.zeros((2, 5), np.float32))
    said = str(error.value)
    assert "\n" not in said
    assert "Odd.predict failed on an array of shape (2, 5) (float32): ValueError: cannot" in said
    line = wrong.__code__.co_firstlineno + 1
    assert f"({here}, line {line})" in said
    with pytest.raises(ConfigError, match=r"Odd\.predict failed"):
        answer_of(Odd(lambda arrays_BX: None), np.zeros((2, 5), np.float32))
    with pytest.raises(StoreError, match="mine"):
        answer_of(Odd(lambda arrays_BX: (_ for _ in ()).throw(StoreError("mine"))), np.zeros(2))


def test_what_a_store_bills_is_said_of_a_root_in_a_bucket_and_grows_with_units():
    one = replace(whole(), num_samples=6400)
    assert (one.num_units, one.requests) == (200, Requests(puts=800, gets=1400, lists=4))
    said = "\n".join(estimate_lines(one, is_local=False))
    assert "requests      800 that write, 1,400 that read, 4 that list, of 200 units" in said
    assert "requests" not in "\n".join(estimate_lines(one))
    twice = replace(one, num_samples=2 * 6400, num_stores=2).requests
    assert (twice.puts, twice.gets) == (2400, 4000)
