"""The plan carried out by tasks of Ray Data: bit for bit the batches that threads make."""

import itertools
import time
from dataclasses import replace

import pytest
import ray
import torch
from ray.util import placement_group, remove_placement_group
from training_faults import SpoiltWeight
from training_stores import SAMPLES, fit_spec, make_run

from mke_ray.errors import ConfigError, StoreError, TrainingError
from mke_ray.labels.label_rule import LabelRule
from mke_ray.labels.probe import ProbeDivision
from mke_ray.storage import open_root
from mke_ray.train import ray_feed
from mke_ray.train.assemble import open_reader
from mke_ray.train.feed import Feed
from mke_ray.train.feeding import Ahead
from mke_ray.train.fits import FitStore, RowSelection
from mke_ray.train.launch import run_fits
from mke_ray.train.plan import RowPlan
from mke_ray.train.ray_feed import RaySource
from mke_ray.train.usable import usable_entries

ROWS = (
    RowSelection("unlabeled", "pseudo"),
    RowSelection("labelled", "true", modalities=("a",), weight=0.25),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    return root


@pytest.fixture
def taken(ray_session):
    """Takes CPUs of the cluster, so that some are left; gives them back."""
    groups = []

    def take(num_left):
        num_cpus = int(ray.cluster_resources()["CPU"]) - num_left
        groups.append(placement_group([{"CPU": num_cpus}]))
        ray.get(groups[-1].ready(), timeout=60)

    yield take
    for one in groups:
        remove_placement_group(one)


def make_feed(root, rank, world_size, window_units=3, global_batch=16):
    reader = open_reader(fit_spec(rows=ROWS), root, cache_bytes=1 << 20)
    entries = usable_entries(reader, ROWS, ProbeDivision())
    plan = RowPlan(entries, global_batch=global_batch, window_units=window_units)
    return Feed(reader, plan, selections=ROWS, rank=rank, world_size=world_size)


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 2), (1, 2)])
def test_batches_of_the_pool_are_those_of_threads_to_the_bit(ray_session, root, rank, world_size):
    here, there = (make_feed(root, rank, world_size) for _ in range(2))
    there.source = RaySource(there.maker, 2, Ahead())
    assert here.plan.num_rows % 16 and there.maker.batches_per_window > 1
    start, stop = 3, 2 * here.batches_per_epoch + 1  # from the middle of an epoch on
    pairs = list(zip(here.batches(start, stop), there.batches(start, stop), strict=True))
    assert [b.cursor for _, b in pairs] == list(range(start, stop))
    for a, b in pairs:
        assert (a.share, a.num_global, a.batch.epoch) == (b.share, b.num_global, b.batch.epoch)
        twins = list(zip(a.batch.tensors(), b.batch.tensors(), strict=True))
        assert len(twins) >= 7 and all(torch.equal(one, other) for one, other in twins)
        assert all(one.dtype == other.dtype for one, other in twins)
        assert list(a.batch.arrays) == list(b.batch.arrays)
    assert there.times.seconds["decode_s"] > 0 and there.times.seconds["wait_s"] > 0


def test_a_pool_that_is_left_early_goes_away_and_an_error_of_it_is_raised(ray_session, root):
    feed = make_feed(root, 0, 1)
    feed.source = RaySource(feed.maker, 1, Ahead())
    batches = feed.batches(0, 500)
    assert next(batches).cursor == 0
    batches.close()
    broken = make_feed(root, 0, 1)
    broken.source = RaySource(broken.maker, 1, Ahead())
    broken.maker.reader.labels = None
    with pytest.raises(ConfigError, match="need a label store"):
        next(broken.batches(0, 3))


@pytest.mark.parametrize("num_early", [2, 99])
def test_an_execution_that_ends_early_without_an_error_is_begun_anew_or_given_up(
    ray_session, root, monkeypatch, num_early
):
    tables, executions = ray_feed._tables, []

    def cut_short(dataset):
        executions.append(dataset)
        num = 1 if len(executions) == 1 else 0
        yield from itertools.islice(tables(dataset), num if len(executions) <= num_early else None)

    monkeypatch.setattr(ray_feed, "_tables", cut_short)
    monkeypatch.setattr(ray_feed, "_CHUNKS_AT_ONCE", 1)  # of several, each could be the early one
    feed = make_feed(root, 0, 1)
    feed.source = RaySource(feed.maker, 1, Ahead())
    batches = feed.batches(0, 3 * feed.maker.batches_per_window)
    if num_early == 99:
        with pytest.raises(TrainingError, match=r"lost batch 1 3 times, .* ended before batch 1"):
            list(batches)
    else:
        assert [one.cursor for one in batches] == list(range(3 * feed.maker.batches_per_window))


def _gone(path):
    path.unlink()


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(("harm", "found"), [(_gone, "is missing"), (_cut_short, "is damaged")])
def test_a_unit_that_the_pool_cannot_read_is_named_with_what_is_wrong(
    ray_session, tmp_path, harm, found
):
    root = open_root(str(tmp_path))
    make_run(root, {"labelled": 20, "unlabeled": 90})
    feed = make_feed(root, 0, 1)
    feed.source = RaySource(feed.maker, 1, Ahead())
    unit, _ = feed.maker.units(5)[0]
    for path in (tmp_path / "samples" / SAMPLES / "attempts").glob(f"{unit}-*"):
        harm(path)
    with pytest.raises(StoreError, match=found) as error:
        list(feed.batches(0, 6))
    assert unit in str(error.value)


def test_code_of_a_user_that_raises_in_the_pool_is_told_with_its_place(ray_session, root):
    feed = make_feed(root, 0, 1)
    rule = LabelRule(weight=SpoiltWeight())
    feed.maker.reader.targets = replace(feed.maker.reader.targets, rule=rule)
    feed.source = RaySource(feed.maker, 1, Ahead())
    with pytest.raises(ValueError, match="my weight has a bug") as error:
        list(feed.batches(0, 6))
    assert "training_faults.py" in str(error.value)


def test_two_pools_share_one_cpu_though_one_of_them_is_not_asked(taken, root):
    taken(1)
    hasty = replace(root, patience_s=0.5)
    feeds = [make_feed(hasty, rank, 2, window_units=30, global_batch=4) for rank in (0, 1)]
    for feed in feeds:
        ahead = Ahead(prefetch_bytes=40 * feed.maker.bytes_per_batch)  # 20 of a task, none beside
        feed.source = RaySource(feed.maker, 1, ahead, timeout_s=30.0)
    assert feeds[0].maker.batches_per_window >= 20
    waits, asked = (feed.batches(0, feed.batches_per_epoch) for feed in feeds)
    next(waits)
    assert len(list(asked)) == feeds[0].batches_per_epoch
    assert len(list(waits)) == feeds[0].batches_per_epoch - 1


def test_a_pool_without_room_ends_with_the_key_and_the_way_out(taken, root, caplog):
    taken(0)
    feed = make_feed(replace(root, patience_s=0.5), 0, 1)
    feed.source = RaySource(feed.maker, 1, Ahead(), timeout_s=6.0)
    began = time.monotonic()
    with pytest.raises(TrainingError, match=r"made no batch 2 in 6 s \(scaling\.feed_timeout_s\)"):
        next(feed.batches(2, 9))
    assert 6.0 < time.monotonic() - began < 180.0
    assert caplog.text.count("begins anew") == 2


def test_two_workers_fed_by_a_pool_learn_what_one_process_learns(ray_session, tmp_path):
    spec = fit_spec(rows=ROWS, num_steps=14, seed=1)
    pool = {"num_workers": 2, "checkpoint_every_steps": 0, "feed": "ray"}
    weights = []
    for launch, scaling in (("local", {}), ("trainer", pool)):
        root = open_root(str(tmp_path / launch))
        make_run(root, {"labelled": 20, "unlabeled": 90})
        run_fits([spec], root=root, launch=launch, scaling=scaling, engine={"type": "torch"})
        weights.append(FitStore(root).weights(spec.fingerprint()))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-4)


def test_a_pool_that_does_not_fit_is_refused_with_the_number_to_change(ray_session, root):
    spec = fit_spec(seed=77)
    scaling = {"num_workers": 2, "feed": "ray", "feed_cpus": 3}
    with pytest.raises(ConfigError, match=r"set scaling\.feed_cpus=2"):
        run_fits([spec], root=root, launch="trainer", scaling=scaling, engine={"type": "torch"})
