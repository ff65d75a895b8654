import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels import capacity
from mke_ray.labels.capacity import NO_LIMIT, ActorPool, NodeRoom, PoolSize, fit_pools, missing_text

TEACHERS = "labelling.teachers_pool"


def fit_pool(pool, nodes):
    (size,) = fit_pools([pool], nodes)
    return size.least, size.most


def fit(*, cpus=6.0, gpus=0.0, **pool):
    return fit_pool(ActorPool(**pool), [NodeRoom(cpus, gpus)])


def fit_both(decoders, teachers, nodes):
    pools = [ActorPool(**decoders), ActorPool(**teachers, key=TEACHERS)]
    return [(one.least, one.most) for one in fit_pools(pools, nodes)]


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
    with pytest.raises(ConfigError, match=r"3 nodes .*the largest has 4 CPUs"):
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


def test_decoders_and_teachers_share_the_cluster_with_the_cpu_that_stays_free():
    assert fit_both({}, {}, [NodeRoom(6.0)]) == [(1, 4), (1, 1)]
    assert fit_both({}, {"max_actors": 3}, [NodeRoom(6.0)]) == [(1, 2), (1, 3)]
    assert fit_both({"max_actors": 2}, {"max_actors": 3}, [NodeRoom(6.0)]) == [(1, 2), (1, 3)]


def test_teachers_take_every_gpu_beside_which_the_decoders_fit():
    nodes = [NodeRoom(8.0, 2.0), NodeRoom(8.0, 2.0)]
    assert fit_both({}, {"num_gpus": 1.0}, nodes) == [(1, 11), (1, 4)]
    assert fit_both({"max_actors": 12}, {"num_gpus": 1.0}, nodes) == [(1, 12), (1, 3)]
    assert fit_both({}, {"num_gpus": 0.5, "num_cpus": 0.5}, nodes) == [(1, 11), (1, 8)]


def test_teachers_lie_where_they_take_least_from_the_decoders():
    nodes = [NodeRoom(8.0), NodeRoom(3.0)]
    assert fit_both({"num_cpus": 4.0}, {"num_cpus": 2.0}, nodes) == [(1, 2), (1, 1)]


def test_two_pools_that_do_not_fit_together_are_refused_with_the_number_to_change():
    wanted = (
        r"labelling\.max_actors=5 .*teachers_pool\.max_actors=2 .*set labelling\.max_actors=3 or"
    )
    with pytest.raises(ConfigError, match=wanted):
        fit_both({"max_actors": 5}, {"max_actors": 2}, [NodeRoom(6.0)])
    with pytest.raises(ConfigError, match=r"set labelling\.teachers_pool\.max_actors=4 or less"):
        fit_both({}, {"max_actors": 5}, [NodeRoom(6.0)])
    with pytest.raises(ConfigError, match=r"teachers_pool\.num_gpus=1: not one actor fits"):
        fit_both({}, {"num_gpus": 1.0}, [NodeRoom(6.0)])
    with pytest.raises(ConfigError, match=r"give Ray more \(ray\.num_cpus\)"):
        fit_both({}, {}, [NodeRoom(2.0)])


def test_a_cluster_that_grows_is_asked_for_the_least_actors_and_refuses_only_nonsense():
    pools = [ActorPool(min_actors=2), ActorPool(num_gpus=1.0, max_actors=9, key=TEACHERS)]
    sizes = fit_pools(pools, [], is_scaling=True)
    assert sizes == [PoolSize(2, NO_LIMIT), PoolSize(1, 9)]
    assert [one.at_most(5) for one in sizes] == [PoolSize(2, 5), PoolSize(1, 5)]
    assert sizes[0].at_most(1) == PoolSize(2, 2)
    with pytest.raises(ConfigError, match=r"teachers_pool\.num_gpus=-1"):
        fit_pools([ActorPool(), ActorPool(num_gpus=-1.0, key=TEACHERS)], [], is_scaling=True)


def test_what_the_least_actors_wait_for_is_said():
    pools = [ActorPool(min_actors=2), ActorPool(num_gpus=1.0, key=TEACHERS)]
    assert missing_text(pools, [NodeRoom(3.0, 1.0)]) == ""
    found = missing_text(pools, [NodeRoom(1.0)])
    assert "1 x 1 CPUs and 0 GPUs (labelling)" in found
    assert "1 x 1 CPUs and 1 GPUs (labelling.teachers_pool)" in found


def test_actors_of_a_pool_are_counted_on_its_nodes_alone() -> None:
    nodes = [NodeRoom(8.0, 0.0, "decode"), NodeRoom(8.0, 2.0, "teach"), NodeRoom(8.0)]
    assert fit_pool(ActorPool(node_pool="decode"), nodes) == (1, 7)  # Ray Data is there as well
    assert fit_pool(ActorPool(num_cpus=2.0), nodes) == (1, 11)
    teachers = ActorPool(num_gpus=1.0, key="labelling.teachers_pool", node_pool="teach")
    sizes = fit_pools([ActorPool(node_pool="decode"), teachers], nodes)
    assert [(one.least, one.most) for one in sizes] == [(1, 8), (1, 2)]
    full = ActorPool(num_cpus=4.0, num_gpus=1.0, key=TEACHERS, node_pool="teach")
    sizes = fit_pools([ActorPool(node_pool="decode"), full], nodes)
    assert [(one.least, one.most) for one in sizes] == [(1, 7), (1, 2)]
    with pytest.raises(ConfigError, match=r"8 CPUs .* 1 nodes \(pool: decode\).*max_actors=7 or"):
        fit_pool(ActorPool(node_pool="decode", max_actors=8), nodes)
    assert missing_text([ActorPool(node_pool="teach")], nodes[:1]) != ""


def test_a_pool_that_no_node_is_of_is_refused_with_those_there_are() -> None:
    nodes = [NodeRoom(8.0, 0.0, "decode"), NodeRoom(8.0, 2.0, "teach"), NodeRoom(8.0)]
    with pytest.raises(ConfigError, match=r"labelling\.pool=decod: .*\['decode', 'teach'\]"):
        fit_pool(ActorPool(node_pool="decod"), nodes)
    with pytest.raises(ConfigError, match=r"no node has one; set labelling\.pool=null"):
        fit_pool(ActorPool(node_pool="decode"), nodes[2:])


def test_two_hundred_nodes_cost_each_teacher_as_many_looks_as_ten_do(monkeypatch) -> None:
    looks, fits = [], capacity._fits
    monkeypatch.setattr(
        capacity, "_fits", lambda pool, node: (looks.append(node), fits(pool, node))[1]
    )
    teachers = ActorPool(num_gpus=1.0, key=TEACHERS, node_pool="teach")

    def looks_per_teacher(number: int) -> float:
        looks.clear()
        nodes = [NodeRoom(8.0, 0.0, "decode"), NodeRoom(8.0, 4.0, "teach")] * number
        sizes = fit_pools([ActorPool(node_pool="decode"), teachers], nodes)
        assert [one.most for one in sizes] == [8 * number, 4 * number]
        return len(looks) / (4 * number)

    few = looks_per_teacher(10)
    assert looks_per_teacher(200) <= 1.2 * few
