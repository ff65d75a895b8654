"""Batches of stores in S3, made by threads and by a pool, while the store is slow, fails, dies."""

import time
from urllib.parse import urlsplit

import pytest
import torch
from relay import relay_to
from test_feeding_with_ray import make_feed
from training_stores import make_run

from mke_ray.errors import StoreError
from mke_ray.storage import Root, open_root
from mke_ray.train.feeding import Ahead
from mke_ray.train.ray_feed import RaySource

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def stored(s3_server):
    root = open_root(s3_server.uri("feeding"))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    return root


@pytest.fixture
def relay(s3_server):
    with relay_to(urlsplit(s3_server.endpoint).port) as relay:
        yield relay


def through(relay, stored, patience_s) -> Root:
    return Root(stored.uri, {**stored.options, "endpoint_url": relay.url}, patience_s)


def with_pool(feed):
    feed.source = RaySource(feed.maker, 2, Ahead(), timeout_s=60.0)
    return feed


def test_batches_of_a_pool_are_those_of_threads_though_the_store_is_slow_and_fails(
    ray_session, stored, relay
):
    here = make_feed(stored, 0, 1)
    stop = 2 * here.batches_per_epoch
    wanted = list(here.batches(0, stop))
    relay.delay_s = 0.2
    there = with_pool(make_feed(through(relay, stored, 30.0), 0, 1))
    got = there.batches(0, stop)
    first = next(got)
    relay.num_drops = 6
    relay.drop()
    pairs = list(zip(wanted, [first, *got], strict=True))
    for a, b in pairs:
        twins = list(zip(a.batch.tensors(), b.batch.tensors(), strict=True))
        assert all(torch.equal(one, other) for one, other in twins)
    assert there.times.seconds["fetch_s"] > 0.2


@pytest.mark.parametrize("pool", [False, True])
def test_a_store_that_dies_is_named_with_the_key_in_a_bounded_time(
    ray_session, stored, relay, pool
):
    feed = make_feed(through(relay, stored, 2.0), 0, 1)
    if pool:
        with_pool(feed)
    list(feed.batches(0, 1))  # the processes of the pool are there
    feed.maker.reader.bound_memory(1)
    relay.cut()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"storage\.patience_s"):
        list(feed.batches(0, 50))
    assert time.monotonic() - began < 270.0  # the client tries again by itself within each try
