import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.errors import ConfigError
from mke_ray.train.plan import PlanEntry, RowPlan, rank_slice


def make_entries(sizes, *, num_bad=0):
    entries = []
    for number, size in enumerate(sizes):
        usable_R = np.ones(size, dtype=bool)
        usable_R[:num_bad] = False
        entries.append(PlanEntry(f"{number:016x}", number % 2, usable_R))
    return entries


def rows_of(plan, cursor):
    refs = plan.batch(cursor)
    return [(plan.unit(e), int(r)) for e, r in zip(refs.entry_N, refs.row_N, strict=True)]


def epoch_rows(plan, epoch):
    start = epoch * plan.batches_per_epoch
    return [row for g in range(start, start + plan.batches_per_epoch) for row in rows_of(plan, g)]


plans = st.builds(
    RowPlan,
    st.lists(st.integers(1, 12), min_size=1, max_size=12).map(make_entries),
    global_batch=st.integers(0, 40),
    window_units=st.integers(1, 5),
    seed=st.integers(0, 3),
)


@settings(deadline=None, max_examples=60)
@given(plans, st.integers(0, 3))
def test_an_epoch_holds_every_usable_row_exactly_once(plan, epoch):
    rows = epoch_rows(plan, epoch)
    assert len(rows) == len(set(rows)) == plan.num_rows


@settings(deadline=None, max_examples=60)
@given(plans, st.integers(0, 20), st.sampled_from([1, 2, 3]))
def test_the_slices_of_the_ranks_are_the_global_batch(plan, cursor, world_size):
    whole = rows_of(plan, cursor)
    joined = []
    for rank in range(world_size):
        part = rank_slice(len(whole), rank=rank, world_size=world_size)
        assert abs((part.stop - part.start) - len(whole) / world_size) < 1
        joined += whole[part]
    assert joined == whole


@settings(deadline=None, max_examples=30)
@given(plans, st.integers(0, 20))
def test_a_batch_does_not_depend_on_what_was_asked_before(plan, cursor):
    first = rows_of(plan, cursor)
    for other in (cursor + 7, 0, cursor + 1):
        rows_of(plan, other)
    assert rows_of(plan, cursor) == first


def test_the_order_of_the_store_does_not_matter():
    entries = make_entries([5, 9, 3, 8, 8, 2])
    one = RowPlan(entries, global_batch=4, window_units=2, seed=1)
    other = RowPlan(entries[::-1], global_batch=4, window_units=2, seed=1)
    assert epoch_rows(one, 1) == epoch_rows(other, 1)
    assert one.digest() == other.digest()


def test_epochs_and_seeds_have_orders_of_their_own():
    entries = make_entries([8] * 10)
    plan = RowPlan(entries, global_batch=8, window_units=3, seed=1)
    other = RowPlan(entries, global_batch=8, window_units=3, seed=2)
    assert set(rows_of(plan, 0)) != set(rows_of(plan, plan.batches_per_epoch))
    assert set(rows_of(plan, 0)) != set(rows_of(other, 0))


def test_the_order_is_the_same_on_every_machine_and_release():
    plan = RowPlan(make_entries([4] * 5), global_batch=6, window_units=2, seed=7)
    frozen = [(4, 0), (4, 2), (0, 0), (0, 3), (2, 1), (2, 2)]
    assert [(int(unit, 16), row) for unit, row in rows_of(plan, 2)] == frozen


def test_rows_are_shuffled_across_the_units_of_a_window():
    plan = RowPlan(make_entries([16] * 8), global_batch=16, window_units=4, seed=0)
    assert len({unit for unit, _ in rows_of(plan, 0)}) > 2


def test_a_rank_reads_few_units_of_a_batch():
    plan = RowPlan(make_entries([16] * 8), global_batch=64, window_units=8, seed=0)
    rows = rows_of(plan, 0)
    mine = rows[rank_slice(len(rows), rank=0, world_size=4)]
    assert len({unit for unit, _ in mine}) <= 3


def test_rows_that_may_not_be_used_are_never_in_a_batch():
    plan = RowPlan(make_entries([6, 6, 2], num_bad=2), global_batch=3, window_units=2)
    assert plan.num_rows == 8
    assert all(row >= 2 for _, row in epoch_rows(plan, 0))


def test_batch_size_0_takes_all_rows_every_step_in_a_fixed_order():
    plan = RowPlan(make_entries([5, 4]), global_batch=0, seed=3)
    assert plan.is_full_batch and plan.batches_per_epoch == 1
    assert rows_of(plan, 0) == rows_of(plan, 5)
    assert len(rows_of(plan, 0)) == 9


def test_the_last_batch_of_an_epoch_is_short_and_kept():
    plan = RowPlan(make_entries([7, 6]), global_batch=5, window_units=1)
    assert [len(plan.batch(g)) for g in range(4)] == [5, 5, 3, 5]


def test_a_negative_batch_size_is_refused():
    with pytest.raises(ConfigError, match="global_batch=-1"):
        RowPlan(make_entries([4]), global_batch=-1)


def test_a_plan_of_no_rows_has_no_batches():
    plan = RowPlan(make_entries([2], num_bad=2), global_batch=4)
    assert plan.num_rows == 0 and plan.batches_per_epoch == 0
