"""What a pass knows of itself: every number of it, and what a restart remembers."""

from types import SimpleNamespace

import pytest
from label_fakes import make_world

from mke_ray.errors import MediaError, StoreError
from mke_ray.labels import pass_record, tally
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.rates import PassRates
from mke_ray.storage import Root, open_root

RECORDS = "progress"


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = SimpleNamespace(s=1000.0)
    for module in (tally, pass_record):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now.s))
    return now


class Timed:
    """A runner whose every unit takes 10 s of one worker; it may end with an error."""

    def __init__(self, clock, *, num_units=None, error=None):
        self._clock, self._num_units, self._error = clock, num_units, error

    def run(self, plan, refs):
        for report in LocalRunner().run(plan, refs[: self._num_units]):
            self._clock.s += 10.0
            report.seconds = {"fetch": 1.0, "decode": 7.0, "teacher": 2.0}
            report.num_bytes_read, report.num_bytes_needed = 4000, 3000
            report.num_bytes_written = 800
            yield report
        if self._error is not None:
            raise self._error


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def states_of(plan, runner, **more):
    states, calls = [], []
    report = run_pass(
        plan,
        refs_of(plan),
        runner,
        progress=lambda *call: calls.append(call),
        watchers=[lambda report, state: states.append(state)],
        cost_per_hour=360.0,
        **more,
    )
    return report, states, calls


def record_of(root):
    (name,) = root.names(RECORDS)
    return PassRates.from_json(root.read(name))


def test_a_watcher_sees_every_number_after_every_unit(root, clock):
    report, states, calls = states_of(make_world(root, 12), Timed(clock))
    assert [one.num_done for one in states] == [4, 8, 12]
    assert [one.rates.num_samples for one in states] == [4, 8, 12]
    assert [one.rates.work_s for one in states] == [10.0, 20.0, 30.0]
    assert [one.eta_s for one in states] == [None, 10.0, 0.0] == [call[2] for call in calls[1:]]
    assert [one.cost for one in states] == [1.0, 2.0, 3.0]
    assert [one.media_wanted_s for one in states] == [12.0, 12.0, 12.0]
    last = states[-1]
    assert last == report.state
    assert last.rates.seconds == {"fetch": 3.0, "decode": 21.0, "teacher": 6.0}
    assert (last.rates.num_bytes_read, last.rates.num_bytes_written) == (12000, 2400)
    assert states[0].num_bytes_to_come == 1600.0


def test_a_restart_knows_the_time_left_at_once_and_what_all_starts_took(root, clock):
    plan = make_world(root, 24)
    with pytest.raises(KeyboardInterrupt):
        states_of(plan, Timed(clock, num_units=2, error=KeyboardInterrupt()))
    assert record_of(root).num_samples == 8
    clock.s += 5000.0
    report, states, calls = states_of(plan, Timed(clock))
    assert calls[0][:3] == (8, 24, 40.0)
    assert [one.eta_s for one in states] == [30.0, 20.0, 10.0, 0.0]
    assert [one.cost for one in states] == [3.0, 4.0, 5.0, 6.0]
    assert report.state.rates.num_samples == 16
    total = report.state.total
    assert (total.num_samples, total.wall_s, total.num_starts) == (24, 60.0, 2)
    assert total == record_of(root)
    assert total.seconds["decode"] == pytest.approx(42.0)


class Stopped:
    """A runner that is ended when one unit of four was told of: the others are committed."""

    def __init__(self, clock):
        self._clock = clock

    def run(self, plan, refs):
        first, *_ = LocalRunner().run(plan, refs[:4])
        self._clock.s += 10.0
        first.seconds = {"decode": 10.0}
        yield first
        raise KeyboardInterrupt


def test_units_that_a_stopped_start_did_not_tell_of_are_in_no_rate(root, clock):
    plan = make_world(root, 24)
    with pytest.raises(KeyboardInterrupt):
        states_of(plan, Stopped(clock))
    report, states, calls = states_of(plan, Timed(clock))
    assert calls[0][:3] == (16, 24, None)  # four in 10 s would be four times too slow
    state = report.state
    assert (state.num_done, state.total.num_samples, state.num_untold) == (24, 12, 12)
    assert state.total.samples_per_s is not None and state.rate_in_all is None
    assert [one.num_untold for one in states] == [12, 12]


def test_a_finished_pass_still_knows_what_it_took(root, clock):
    plan = make_world(root, 12)
    states_of(plan, Timed(clock))
    report, states, _ = states_of(plan, Timed(clock))
    assert states == [] and report.num_units_run == 0
    assert (report.state.total.num_samples, report.state.total.wall_s) == (12, 30.0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seconds": {"decode": -1}}', b"\xff"])
def test_a_damaged_record_is_an_empty_one(root, clock, caplog, content):
    plan = make_world(root, 12)
    with pytest.raises(KeyboardInterrupt):
        states_of(plan, Timed(clock, num_units=1, error=KeyboardInterrupt()))
    (name,) = root.names(RECORDS)
    root.write(name, content)
    report, _, calls = states_of(plan, Timed(clock))
    assert calls[0][2] is None
    assert report.state.total.num_samples == 8 == record_of(root).num_samples
    assert "is damaged" in caplog.text


def test_a_record_is_written_now_and_then_and_at_the_end(root, clock, monkeypatch):
    written = []
    write = Root.write

    def note(self, name, content):
        if name.startswith(RECORDS):
            written.append(clock.s)
        write(self, name, content)

    monkeypatch.setattr(Root, "write", note)
    monkeypatch.setattr(pass_record, "SECONDS_BETWEEN_WRITES", 25.0)
    states_of(make_world(root, 28), Timed(clock))
    assert written == [1030.0, 1060.0, 1070.0]


def test_a_record_that_cannot_be_written_stops_nothing(root, clock, monkeypatch, caplog):
    write = Root.write

    def refuse(self, name, content):
        if name.startswith(RECORDS):
            raise OSError("no space left")
        write(self, name, content)

    monkeypatch.setattr(Root, "write", refuse)
    report, _, _ = states_of(make_world(root, 12), Timed(clock))
    assert report.num_units_run == 3
    assert caplog.text.count("cannot be written") == 1


def test_the_record_is_left_alone_where_the_stores_fail(root, clock, monkeypatch):
    monkeypatch.setattr(pass_record, "SECONDS_BETWEEN_WRITES", 1e6)
    plan = make_world(root, 12)
    with pytest.raises(StoreError):
        states_of(plan, Timed(clock, num_units=1, error=StoreError("another driver took over")))
    assert list(root.names(RECORDS)) == []
    with pytest.raises(MediaError):
        states_of(plan, Timed(clock, num_units=1, error=MediaError("bad", "too many")))
    assert record_of(root).num_samples == 4


def test_passes_that_fill_other_stores_have_records_of_their_own(root, clock):
    states_of(make_world(root, 4, teachers=[]), Timed(clock))
    report, _, _ = states_of(make_world(root, 4), Timed(clock))
    assert report.state.total.num_starts == 1
    assert len(list(root.names(RECORDS))) == 2
