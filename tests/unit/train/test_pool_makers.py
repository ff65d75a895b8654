"""Tests of what a process of the pool keeps: one reader for all that read the same, in bounds."""

import itertools

import pytest
from test_feed import COUNTS, PSEUDO
from training_stores import LABELS, fit_spec, make_run, weigh_labels

from mke_ray.labels.probe import ProbeDivision
from mke_ray.storage import open_root
from mke_ray.train.assemble import open_reader
from mke_ray.train.batches import BatchMaker
from mke_ray.train.blocks import UnitReader
from mke_ray.train.plan import RowPlan
from mke_ray.train.pool_makers import PoolMakers, Shipped
from mke_ray.train.usable import usable_entries


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    weigh_labels(root, make_run(root, COUNTS))
    return root


@pytest.fixture
def reads(monkeypatch):
    """Notes every unit that is read."""
    noted, read = [], UnitReader._read_block
    monkeypatch.setattr(
        UnitReader, "_read_block", lambda self, unit: noted.append(unit) or read(self, unit)
    )
    return noted


def shipped(root, *, rank=0, seed=0, labels=LABELS):
    reader = open_reader(fit_spec(labels=labels), root, cache_bytes=1 << 20)
    plan = RowPlan(
        usable_entries(reader, PSEUDO, ProbeDivision()), global_batch=16, window_units=3, seed=seed
    )
    maker = BatchMaker(reader, plan, selections=PSEUDO, rank=rank, world_size=2)
    return Shipped.of(maker, put=same), maker.plan.batches_per_epoch


def same(shipped_object):
    return shipped_object


def in_turns(makers, some, cache_bytes, num_batches):
    for cursor, one in itertools.product(range(num_batches), some):
        makers.maker(one, cache_bytes).item(cursor)


def test_ranks_and_fits_in_turns_on_one_process_read_each_unit_once(root, reads):
    (first, num), (second, _), (other, _) = (
        shipped(root, rank=rank, seed=seed) for rank, seed in ((0, 0), (1, 0), (0, 7))
    )
    in_turns(PoolMakers(get=same), [first, second, other], 1 << 20, num)
    assert len(reads) == len(set(reads)) > 5


def test_fits_of_other_stores_have_readers_of_their_own_and_share_the_memory(root, reads):
    (plain, num), (weighed, _) = shipped(root), shipped(root, labels="weighed")
    makers = PoolMakers(get=same)
    in_turns(makers, [plain, weighed], 1 << 20, num)
    assert len(reads) == 2 * len(set(reads))  # once each
    size = next(iter(makers._readers.values())).held_bytes // len(set(reads))
    bound = 6 * size
    held = []
    for cursor, one in itertools.product(range(num), (plain, weighed)):
        makers.maker(one, bound).item(cursor)
        held.append(sum(one.held_bytes for one in makers._readers.values()))
    assert len(makers._readers) == 2 and max(held) <= bound


def test_the_only_reader_that_is_used_gets_the_memory_of_others(root):
    (plain, num), (weighed, _) = shipped(root), shipped(root, labels="weighed")
    makers = PoolMakers(get=same)
    in_turns(makers, [plain], 1 << 20, num)
    unused = makers._readers[plain.identity]
    bound = unused.held_bytes
    in_turns(makers, [weighed], bound, num)
    assert unused.held_bytes == 0
    assert makers._readers[weighed.identity].held_bytes > bound // 2


def test_what_is_kept_is_bounded_in_number(root):
    makers = PoolMakers(get=same)
    for seed in range(12):
        makers.maker(shipped(root, seed=seed)[0], 1 << 20)
    assert len(makers._makers) == 8 and len(makers._readers) == 1
