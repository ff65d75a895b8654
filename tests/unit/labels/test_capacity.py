import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import ActorPool, NodeRoom, fit_pool


def fit(*, cpus=6.0, gpus=0.0, **pool):
    return fit_pool(ActorPool(**pool), [NodeRoom(cpus, gpus)])


def test_one_cpu_stays_free():
    assert fit() == (1, 5)
    assert fit(num_cpus=0.5) == (1, 10)
    assert fit(max_actors=5) == (1, 5)


def test_a_pool_that_would_starve_the_cluster_is_refused_with_the_number_to_change():
    with pytest.raises(ConfigError, match=r"labelling\.max_actors=6 .*set labelling\.max_actors=5"):
        fit(max_actors=6)
    with pytest.raises(ConfigError, match=r"set labelling\.min_actors=5"):
        fit(min_actors=6)


def test_a_cluster_too_small_for_one_actor_is_refused():
    with pytest.raises(ConfigError, match="not one actor"):
        fit(cpus=1.0)
    with pytest.raises(ConfigError, match="not one actor"):
        fit(num_gpus=1.0)


def test_fractions_of_gpus_limit_the_pool():
    assert fit(gpus=1.0, num_gpus=0.5) == (1, 2)


def test_an_actor_lies_on_one_node():
    nodes = [NodeRoom(4.0), NodeRoom(4.0), NodeRoom(3.0)]
    assert fit_pool(ActorPool(num_cpus=3.0), nodes) == (1, 3)
    assert fit_pool(ActorPool(num_cpus=4.0), nodes) == (1, 2)
    assert fit_pool(ActorPool(num_cpus=4.0), nodes[:2]) == (1, 1)
    with pytest.raises(ConfigError, match=r"3 nodes, the largest with 4 CPUs"):
        fit_pool(ActorPool(num_cpus=5.0), nodes)
    gpus = [NodeRoom(8.0), NodeRoom(2.0, 1.0), NodeRoom(2.0, 1.0)]
    assert fit_pool(ActorPool(num_gpus=1.0), gpus) == (1, 2)


def test_the_cpu_that_stays_free_costs_as_few_actors_as_it_can():
    assert fit_pool(ActorPool(num_cpus=0.25), [NodeRoom(1.0), NodeRoom(1.0)]) == (1, 4)
    assert fit_pool(ActorPool(num_cpus=0.5), [NodeRoom(0.5), NodeRoom(2.0)]) == (1, 3)


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="min_actors=0"):
        fit(min_actors=0)
    with pytest.raises(ConfigError, match="max_actors=1 is below"):
        fit(min_actors=2, max_actors=1)
    with pytest.raises(ConfigError, match="num_cpus=0"):
        fit(num_cpus=0.0)
