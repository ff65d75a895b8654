"""Rows of rare classes come several times in an epoch, in the same order on every rank."""

from collections import Counter

import numpy as np
import pytest
import torch
from training_stores import ToySource, fit_spec, make_run

from mke_ray.data.manifest import Manifest
from mke_ray.labels.probe import ProbeDivision
from mke_ray.randomness import batch_keys
from mke_ray.storage import open_root
from mke_ray.train.accumulation import _sliced
from mke_ray.train.assemble import Workplace, assemble, open_reader
from mke_ray.train.class_repeats import MOST_REPEATS, repeat_factors, with_repeats
from mke_ray.train.fits import RowSelection
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

COUNTS = {"labelled": 400, "unlabeled": 40, "probe": 12}
PATTERN = (0,) * 16 + (1,) * 3 + (2,)  # 80%, 15%, 5%
ROWS = (RowSelection("unlabeled", "pseudo"), RowSelection("labelled", "true"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, COUNTS, source=ToySource(COUNTS, pattern=PATTERN))
    return root


def epoch(root, balance, *, epoch=0, seed=0):
    """Return how often every row comes in an epoch, by split, class and number."""
    manifest = Manifest.open(root.child("manifest"))
    row_of = {ref.unit: manifest.read_unit(ref) for ref in manifest.unit_refs()}
    reader = open_reader(fit_spec(), root, cache_bytes=1 << 20)
    entries = usable_entries(reader, ROWS, ProbeDivision())
    entries = with_repeats(reader, entries, ROWS, balance=balance, seed=seed)
    plan = RowPlan(entries, global_batch=16, seed=seed)
    found: Counter[tuple[str, int, int]] = Counter()
    for number in range(plan.batches_per_epoch):
        refs = plan.batch(epoch * plan.batches_per_epoch + number)
        for entry, row in zip(refs.entry_N.tolist(), refs.row_N.tolist(), strict=True):
            one = row_of[plan.unit(entry)][row]
            found[one.split, (one.labels or (-1,))[0], one.sample_id] += 1
    return found


def share_of_classes(found):
    times = [0, 0, 0]
    for (split, index, _), num in found.items():
        times[index] += num if split == "labelled" else 0
    return np.array(times) / sum(times)


def test_factors_are_the_mean_share_by_the_share_to_the_power():
    factor_C = repeat_factors(np.array([80, 15, 5, 0]), num_rows=100, balance=1.0)
    assert factor_C == pytest.approx([1, 1 / 3 / 0.15, 1 / 3 / 0.05, 1])
    root_C = repeat_factors(np.array([80, 15, 5, 0]), num_rows=100, balance=0.5)
    assert root_C == pytest.approx(np.sqrt(factor_C))
    rare = repeat_factors(np.array([100_000, 1]), num_rows=100_001, balance=1.0)
    assert rare[1] == MOST_REPEATS


def test_every_row_comes_at_least_once_and_rows_of_rare_classes_oftener(root):
    plain, even = epoch(root, 0.0), epoch(root, 1.0)
    assert set(plain.values()) == {1} and plain.keys() == even.keys()
    assert share_of_classes(plain) == pytest.approx([0.8, 0.15, 0.05], abs=0.02)
    assert share_of_classes(even) == pytest.approx([0.545, 0.227, 0.227], abs=0.03)
    assert {n for (split, c, _), n in even.items() if c == 2 and split == "labelled"} == {6, 7}
    assert all(n == 1 for (split, c, _), n in even.items() if split == "unlabeled" or c == 0)


def test_every_epoch_and_every_start_repeats_the_same_rows_and_another_seed_others(root):
    assert epoch(root, 0.5) == epoch(root, 0.5) == epoch(root, 0.5, epoch=3)
    assert epoch(root, 0.5) != epoch(root, 0.5, seed=1)


def test_a_fit_with_class_balance_has_these_rows_in_its_feed(root):
    workplace = Workplace(root, {"type": "torch"}, device=torch.device("cpu"))
    only = (RowSelection("labelled", "true"),)
    plain = assemble(fit_spec(rows=only, global_batch=16), workplace).feed
    even = assemble(fit_spec(rows=only, global_batch=16, class_balance=1.0), workplace).feed
    assert even.plan.num_rows > 1.4 * plain.plan.num_rows
    assert even.batches_per_epoch > plain.batches_per_epoch
    assert len(set(even.plan.entry_id_E.tolist())) == even.plan.num_entries  # each shuffled alone


def test_a_row_has_views_and_noise_of_its_own_each_time_and_the_first_time_those_of_one_time(root):
    workplace = Workplace(root, {"type": "torch"}, device=torch.device("cpu"))
    only = (RowSelection("labelled", "true"),)
    plain = assemble(fit_spec(rows=only, global_batch=16), workplace).feed
    even = assemble(fit_spec(rows=only, global_batch=16, class_balance=1.0), workplace).feed
    of_one_time, of_each_time = ({}, {})
    for feed, keys in ((plain, of_one_time), (even, of_each_time)):
        for item in feed.batches(0, feed.batches_per_epoch):
            for part in (item.batch, _sliced(item.batch, slice(0, 3)).map(torch.clone)):
                row_keys = batch_keys(part, "noise").tolist()
                for number, key in zip(part.sample_id_B.tolist(), row_keys, strict=True):
                    keys.setdefault(number, set()).add(key)
    assert next(plain.batches(0, 1)).batch.repeat_B is None
    assert {len(keys) for keys in of_one_time.values()} == {1}
    assert max(len(keys) for keys in of_each_time.values()) == 7  # as often as the row comes
    assert all(of_one_time[number] <= keys for number, keys in of_each_time.items())
