"""Tests of what the feed does ahead of the loop: threads, fetched units, bounds, failing stores."""

import itertools
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_feed import COUNTS, MIXED, PSEUDO, same
from training_stores import fit_spec, make_run

from mke_ray.data.codec import encode_modality
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.probe import ProbeDivision
from mke_ray.schema import FrameCodec, VideoSpec
from mke_ray.storage import Root, open_root
from mke_ray.train import copying, unit_block
from mke_ray.train.assemble import Workplace, assemble, open_reader
from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.feed import Feed
from mke_ray.train.feeding import Ahead, Feeding, check_feeding
from mke_ray.train.fetching import UnitsAhead
from mke_ray.train.fits import FitStore
from mke_ray.train.kept import Kept
from mke_ray.train.launch import run_fits
from mke_ray.train.making import ThreadSource
from mke_ray.train.plan import RowPlan
from mke_ray.train.unit_block import raw_frames
from mke_ray.train.usable import usable_entries
from mke_ray.train.waiting import FeedTimes, feed_facts, warn_of_waiting


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, COUNTS)
    return root


def make_feed(root, *, rows=PSEUDO, cache_bytes=1 << 20, ahead=None, rank=0, world_size=1):
    spec = fit_spec(rows=rows)
    reader = open_reader(spec, root, cache_bytes=cache_bytes)
    entries = usable_entries(reader, rows, ProbeDivision())
    plan = RowPlan(entries, global_batch=16, window_units=3)
    return Feed(reader, plan, selections=rows, ahead=ahead, rank=rank, world_size=world_size)


@pytest.mark.parametrize("cache_bytes", [1, 4000, 1 << 20])
@pytest.mark.parametrize("num_threads", [2, 5])
def test_order_and_bits_of_batches_do_not_depend_on_threads(root, num_threads, cache_bytes):
    one = make_feed(root, rows=MIXED)
    some = make_feed(root, rows=MIXED, cache_bytes=cache_bytes, ahead=Ahead(num_threads))
    stop = 2 * one.batches_per_epoch + 1
    pairs = list(zip(one.batches(3, stop), some.batches(3, stop), strict=True))
    assert [b.cursor for _, b in pairs] == list(range(3, stop))
    assert all(same(a.batch, b.batch) and a.share == b.share for a, b in pairs)


def test_different_units_are_decoded_at_the_same_time(root, monkeypatch):
    meeting, decode = threading.Barrier(2, timeout=20), unit_block.decode_modality

    def met(*arguments):
        if threading.current_thread() in first:
            first.remove(threading.current_thread())
            meeting.wait()  # breaks where one thread keeps the other out
        return decode(*arguments)

    monkeypatch.setattr(unit_block, "decode_modality", met)
    reader = make_feed(root).maker.reader
    units = reader.sample_index.units("unlabeled")[:2]
    first = [
        threading.Thread(target=reader.rows, args=(unit, np.arange(4)), kwargs={"targets": "none"})
        for unit in units
    ]
    threads = list(first)
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert not meeting.broken and not first


def test_units_are_fetched_before_their_batch_is_wanted(root):
    feed = make_feed(root, cache_bytes=1 << 20)
    wanted = {unit for cursor in range(4) for unit, _ in feed.maker.units(cursor)}
    ahead = UnitsAhead(feed.maker, 0, 4, num_threads=2, most_batches=9)
    _wait_until(lambda: all(map(feed.maker.reader.holds, wanted)))
    ahead.close()
    assert feed.times.seconds["fetch_s"] > 0 and feed.times.seconds["decode_s"] == 0


def test_no_more_is_fetched_ahead_than_a_quarter_of_the_memory(root):
    feed = make_feed(root)
    size = feed.maker.reader.fetch(feed.maker.units(0)[0][0], "pseudo")
    few = make_feed(root, cache_bytes=4 * 3 * size)
    ahead = UnitsAhead(few.maker, 0, 20, num_threads=1, most_batches=20)
    _wait_until(lambda: len(few.maker.reader._blocks.values()) >= 2)
    time.sleep(0.2)
    held = len(few.maker.reader._blocks.values())
    ahead.reached(19)
    _wait_until(lambda: len(few.maker.reader._blocks.values()) > held)
    ahead.close()
    assert held <= 3


def test_what_is_kept_stays_within_bounds_with_many_threads():
    made, biggest = [], []
    kept = Kept(lambda key: made.append(key) or np.zeros(int(key) + 1, np.int8), len, 20)

    def use(start):
        for number in range(200):
            with kept.using(str((start + number) % 9)) as value:
                assert len(value) == (start + number) % 9 + 1
            biggest.append(kept.size)

    threads = [threading.Thread(target=use, args=(start,)) for start in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(biggest) == 800 and max(biggest) <= 20
    assert kept.size == sum(map(len, kept.values()))


def test_a_value_that_cannot_be_made_leaves_no_trace():
    kept = Kept(_fail, len, 20)
    for _ in range(2):
        with pytest.raises(StoreError), kept.using("a"):
            pass
    assert "a" not in kept and kept.size == 0


def test_what_using_a_value_raises_is_of_that_thread_alone_and_the_value_stays():
    made, begun, raised = [], threading.Event(), []
    kept = Kept(lambda key: made.append(key) or key, len, 20)

    def spoil():
        with pytest.raises(ValueError, match="row"), kept.using("a"):
            begun.set()
            _wait_until(waits.is_alive)
            time.sleep(0.1)
            raise ValueError("row")

    def wait():
        begun.wait(10)
        with kept.using("a") as value:
            raised.append(value)

    spoils, waits = threading.Thread(target=spoil), threading.Thread(target=wait)
    spoils.start()
    waits.start()
    spoils.join()
    waits.join()
    assert (made, raised, kept.size) == (["a"], ["a"], 1)


def test_what_completing_a_value_raises_is_of_all_that_wait_for_it():
    made = []
    kept = Kept(lambda key: made.append(key) or key, len, 20)
    with pytest.raises(StoreError), kept.using("a", _fail):
        pass
    assert "a" not in kept and kept.size == 0
    with kept.using("a"):
        assert made == ["a", "a"]


def test_batches_ahead_are_bounded_in_number_and_bytes():
    assert Ahead(1).depth(10) == 2 and Ahead(3).depth(10) == 4
    assert Ahead(3, prefetch_batches=8, prefetch_bytes=50).depth(10) == 5
    assert Ahead(3, prefetch_batches=8, prefetch_bytes=5).depth(10) == 1
    assert Ahead(3, prefetch_batches=8).depth(0) == 3  # until one has told its size


def test_a_feed_holds_no_more_batches_than_their_bytes_allow(root):
    size = make_feed(root).item(0).batch.num_bytes
    made = []
    feed = make_feed(root, ahead=Ahead(3, prefetch_batches=9, prefetch_bytes=2 * size))
    item = feed.maker.item
    feed.maker.item = lambda cursor: made.append(cursor) or item(cursor)
    batches = feed.batches(0, 30)
    next(itertools.islice(batches, 4, None))
    time.sleep(0.2)
    batches.close()
    assert len(made) <= 5 + 2  # five were taken


def test_a_store_that_does_not_answer_is_asked_again_and_then_named(root, monkeypatch):
    feed = make_feed(root)
    calls, read = [], Root.read
    samples = feed.maker.reader.samples

    def busy(self, name):
        if "samples" in self.uri:
            calls.append(name)
            raise OSError("busy")
        return read(self, name)

    monkeypatch.setattr(Root, "read", busy)
    with pytest.raises(StoreError, match=r"storage\.patience_s") as error:
        next(iter(feed.batches(0, 3)))
    assert samples.root.uri in str(error.value)
    assert any(unit in str(error.value) for unit, _ in feed.maker.units(0))


@pytest.mark.parametrize("start", [0, 3])
def test_a_dead_store_is_waited_for_once(root, monkeypatch, start):
    import mke_ray.storage

    patience_s = 4.0
    feed = make_feed(replace(root, patience_s=patience_s), ahead=Ahead(2, prefetch_batches=6))
    dead, read = threading.Event(), mke_ray.storage.read_file

    def dies(filesystem, path):
        if dead.is_set():
            raise ConnectionError("gone")
        return read(filesystem, path)

    monkeypatch.setattr(mke_ray.storage, "read_file", dies)
    feed.maker.reader.bound_memory(1)
    batches = feed.batches(0, 60)
    for _ in range(start):
        next(batches)
    dead.set()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"storage\.patience_s"):
        list(batches)
    assert time.monotonic() - began < 2 * patience_s


def test_a_batch_before_the_one_that_failed_raises_its_error(root):
    source = ThreadSource(make_feed(root).maker, Ahead(2))
    gone = StoreError("gone")
    with pytest.raises(StoreError, match="gone"):  # made after it was known that another failed
        source._item(3, [gone])
    failed = []
    source._maker.item = _fail
    with pytest.raises(StoreError):
        source._item(4, failed)
    assert [type(one) for one in failed] == [StoreError]


def test_units_are_fetched_ahead_again_when_the_store_is_back(root, monkeypatch):
    feed = make_feed(root)
    fetch, fails = feed.maker.reader.fetch, [True]
    fetched = []

    def shaky(unit, targets):
        if fails:
            fails.clear()
            raise StoreError("gone")
        fetched.append(unit)
        return fetch(unit, targets)

    feed.maker.reader.fetch = shaky
    ahead = UnitsAhead(feed.maker, 0, 9, num_threads=1, most_batches=9)
    _wait_until(lambda: not fails)
    time.sleep(0.2)
    assert not fetched
    ahead.reached(0)
    _wait_until(lambda: len(fetched) > 2)
    ahead.close()


def test_an_interruption_of_the_store_costs_time_only(root, monkeypatch):
    import mke_ray.storage

    wanted = list(make_feed(root).batches(0, 3))
    read, failed = mke_ray.storage.read_file, set()

    def shaky(filesystem, path):
        if len(failed) < 2 and path not in failed:
            failed.add(path)
            raise ConnectionError("gone for a moment")
        return read(filesystem, path)

    feed = make_feed(root, ahead=Ahead(2))
    monkeypatch.setattr(mke_ray.storage, "read_file", shaky)
    got = list(feed.batches(0, 3))
    assert failed and all(same(a.batch, b.batch) for a, b in zip(wanted, got, strict=True))


def _video(codec="raw", rows=3):
    spec = VideoSpec(2, 4, 6, codec=FrameCodec(codec))
    frames = [np.full((2, 4, 6, 3), 10 * n + 1, np.uint8) for n in range(rows)]
    return spec, frames, [encode_modality(one, spec) for one in frames]


def _column(pieces):
    return pa.chunked_array([pa.array(pieces, pa.list_(pa.binary()))])


def test_raw_frames_are_used_where_they_were_read():
    spec, frames, pieces = _video(rows=4)
    column = _column(pieces)
    assert np.array_equal(raw_frames(column, spec), np.stack(frames))
    assert np.array_equal(raw_frames(column.slice(1, 2), spec), np.stack(frames[1:3]))
    behind_another = _column([pieces[0][:1], *pieces]).slice(1, 4)
    assert np.array_equal(raw_frames(behind_another, spec), np.stack(frames))


def test_frames_that_are_not_all_as_specified_are_decoded_one_by_one():
    spec, _, pieces = _video()
    assert raw_frames(_column([*pieces, None]), spec) is None
    assert raw_frames(_column([*pieces, pieces[0][:1]]), spec) is None
    assert raw_frames(_column([*pieces, [b"short", pieces[0][1]]]), spec) is None
    coded, _, others = _video("png")
    assert raw_frames(_column(others), coded) is None


def test_times_are_summed_over_threads_and_told_by_part():
    times = FeedTimes()
    times.add("fetch_s", 1.0)
    before = dict(times.seconds)
    threads = [threading.Thread(target=times.add, args=("decode_s", 0.5)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    times.add("wait_s", 2.0)
    facts = feed_facts(times.since(before), 20.0)
    assert facts == {
        "fetch_s": 0.0, "decode_s": 4.0, "gather_s": 0.0,
        "wait_s": 2.0, "look_wait_s": 0.0, "wait_share": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "key"), [("fetch_s", "cache_bytes"), ("decode_s", "feed_threads")]
)
def test_a_fit_that_waited_says_once_which_key_to_change(part, key, caplog):
    seconds = {"fetch_s": 1.0, "decode_s": 1.0, "gather_s": 0.5, "wait_s": 11.0, part: 30.0}
    with caplog.at_level(logging.WARNING):
        assert warn_of_waiting("one", seconds, 100.0)
        assert not warn_of_waiting("two", seconds, 120.0)
        assert not warn_of_waiting("three", {**seconds, "wait_s": 4.0}, 4.0)
    assert len(caplog.records) == 1
    assert f"scaling.{key}" in caplog.text and "11%" in caplog.text


def test_a_finished_fit_tells_where_its_feed_spent_the_time(root):
    spec = fit_spec(seed=9)
    run_fits([spec], root=root, launch="local", scaling={}, engine={"type": "torch"})
    facts = FitStore(root).facts(spec.fingerprint())
    assert facts["start_s"] > 0
    facts = facts["feed"]
    assert facts["gather_s"] > 0 and facts["wait_s"] > 0 and 0 <= facts["wait_share"] < 1


def test_waiting_in_looks_at_the_probe_is_no_waiting_for_the_next_batch(root, monkeypatch):
    item = BatchMaker.item

    def slow(self, cursor):
        if not self.plan.shuffle:  # the probe's
            time.sleep(2.0)
        return item(self, cursor)

    monkeypatch.setattr(BatchMaker, "item", slow)
    spec = fit_spec(seed=10, validate_every_steps=6)
    run_fits([spec], root=root, launch="local", scaling={}, engine={"type": "torch"})
    facts = FitStore(root).facts(spec.fingerprint())["feed"]
    assert facts["look_wait_s"] > 1.9
    assert facts["wait_s"] < 1.9


def test_a_fit_is_fed_as_its_workplace_says(root):
    feeding = Feeding(ahead=Ahead(3, prefetch_batches=5))
    parts = assemble(fit_spec(), Workplace(root, {"type": "torch"}, feeding=feeding))
    assert parts.feed.ahead == feeding.ahead


@pytest.mark.parametrize(
    "wrong",
    [
        {"feed": "fast"},
        {"feed_threads": 0},
        {"prefetch_batches": 0},
        {"feed_cpus": 0},
        {"feed_timeout_s": 0},
    ],
)
def test_settings_of_the_feed_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"scaling.{next(iter(wrong))}"):
        Feeding.from_scaling(wrong)


def test_as_many_threads_as_a_worker_has_cpus_are_the_default():
    assert Feeding.from_scaling({"cpus_per_worker": 3.0}).ahead.num_threads == 3
    assert Feeding.from_scaling({"cpus_per_worker": 0.5}).ahead.num_threads == 1
    assert Feeding.from_scaling({"cpus_per_worker": 3, "feed_threads": 2}).ahead.num_threads == 2


def test_a_pool_of_tasks_is_for_the_trainer_alone():
    check_feeding({"feed": "ray", "launch": "trainer"})
    with pytest.raises(ConfigError, match=r"scaling\.launch=trainer"):
        check_feeding({"feed": "ray", "launch": "tasks"})


def test_batches_are_pinned_and_copied_ahead_for_a_gpu_alone(root):
    assert copying.is_copied_ahead(torch.device("cuda", 0))
    assert not copying.is_copied_ahead(torch.device("cpu"))
    batch = make_feed(root).item(0).batch
    assert copying.pinned(batch, torch.device("cpu")) is batch


def test_each_batch_is_begun_before_the_one_before_it_is_used():
    told = []
    items = copying.one_ahead(
        range(3), lambda n: told.append(("begin", n)) or n, lambda n: told.append(("use", n)) or n
    )
    assert list(items) == [0, 1, 2]
    assert told == [
        ("begin", 0), ("begin", 1), ("use", 0), ("begin", 2), ("use", 1), ("use", 2),
    ]  # fmt: skip


def test_a_changed_batch_keeps_all_its_parts(root):
    item = make_feed(root).item(1)
    twin = item.batch.map(torch.clone)
    assert same(item.batch, twin) and replace(item, batch=twin).cursor == 1
    assert isinstance(item, FeedItem)
    assert item.batch.num_bytes == sum(one.nbytes for one in item.batch.tensors())


def _wait_until(is_so, seconds=20.0):
    deadline_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def _fail(_key):
    raise StoreError("damaged")
