"""A job that has begun takes the actors that there is room for; one that has not is refused."""

import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels.admission import fit_admitted, shrink_pools
from mke_ray.labels.capacity import ActorPool, NodeRoom, PoolSize
from mke_ray.storage import open_root

TEACHERS = "labelling.teachers_pool"
WHOLE, SHRUNK = [NodeRoom(2.0), NodeRoom(2.0)], [NodeRoom(2.0)]


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def most(pools, nodes):
    return [one.max_actors for one in shrink_pools(pools, nodes)]


def both(decoders, teachers):
    return [ActorPool(**decoders), ActorPool(**teachers, key=TEACHERS)]


def test_a_job_that_has_begun_goes_on_with_fewer_actors_and_says_both_numbers(root, caplog):
    pools = [ActorPool(min_actors=1, max_actors=3)]
    assert fit_admitted(pools, WHOLE, root=root) == [PoolSize(1, 3)]
    assert caplog.text == ""
    assert fit_admitted(pools, SHRUNK, root=root) == [PoolSize(1, 1)]
    assert "labelling.max_actors=3, but the 1 nodes" in caplog.text
    assert "goes on with 1" in caplog.text
    assert fit_admitted(pools, WHOLE, root=root) == [PoolSize(1, 3)]


def test_a_job_that_has_not_begun_is_refused_however_often(root):
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"set labelling\.max_actors=1 or less"):
            fit_admitted([ActorPool(max_actors=3)], SHRUNK, root=root)


def test_a_root_of_before_that_has_the_record_of_a_pass_has_begun(root):
    root.write("progress/label-1.json", b"{}")
    assert fit_admitted([ActorPool(max_actors=3)], SHRUNK, root=root) == [PoolSize(1, 1)]


def test_below_the_least_actors_a_job_that_has_begun_is_refused_too(root):
    pools = [ActorPool(min_actors=2, max_actors=3)]
    fit_admitted(pools, WHOLE, root=root)
    with pytest.raises(ConfigError, match=r"labelling\.min_actors=2 .*set labelling\.min_actors=1"):
        fit_admitted(pools, SHRUNK, root=root)


def test_where_nodes_may_come_nothing_shrinks(root):
    pools = [ActorPool(max_actors=9)]
    for _ in range(2):
        assert fit_admitted(pools, SHRUNK, root=root, is_scaling=True) == [PoolSize(1, 9)]


def test_two_pools_shrink_alike_and_leave_no_room_unused():
    assert most(both({"max_actors": 8}, {"max_actors": 8}), [NodeRoom(9.0)]) == [4, 4]
    assert most(both({"max_actors": 8}, {"max_actors": 4}), [NodeRoom(9.0)]) == [6, 2]
    assert most(both({"max_actors": 2}, {"max_actors": 2}), [NodeRoom(4.0)]) == [2, 1]
    assert most(both({"max_actors": 2}, {"max_actors": 2}), [NodeRoom(5.0)]) == [2, 2]
    with pytest.raises(ConfigError, match="would starve 2 CPUs"):
        most(both({"max_actors": 2}, {"max_actors": 2}), [NodeRoom(2.0)])


def test_a_pool_without_a_limit_stays_as_it_is_beside_one_that_shrinks():
    nodes = [NodeRoom(8.0, 2.0)]
    assert most(both({"max_actors": 12}, {"num_gpus": 1.0}), nodes) == [6, None]
    assert most(both({}, {"max_actors": 4, "num_gpus": 1.0}), nodes) == [None, 2]
