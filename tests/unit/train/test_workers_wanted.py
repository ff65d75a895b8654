"""How many workers a run asks for, and whether there is room for them."""

import logging

import pytest
from training_stores import fit_spec

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.train.room import check_room
from mke_ray.train.scaling import Scaling, check_fits

FOUR_CPUS = [NodeRoom(4.0), NodeRoom(4.0)]


@pytest.mark.parametrize(("given", "bounds"), [(3, (3, 3)), ([1, 4], (1, 4)), ((2, 2), (2, 2))])
def test_workers_are_a_number_or_two_bounds(given, bounds):
    assert Scaling(num_workers=given).worker_bounds == bounds
    assert Scaling(num_workers=given).is_elastic == (bounds[0] < bounds[1])


@pytest.mark.parametrize(
    "given", [0, [0, 2], [3, 2], [1, 2, 3], [1], ["1", 2], [1.5, 2], None, 2.0, "2"]
)
def test_other_numbers_of_workers_are_refused_by_their_key(given):
    with pytest.raises(ConfigError, match=r"scaling\.num_workers="):
        check_fits(
            [fit_spec()],
            launch="trainer",
            scaling=Scaling(num_workers=given),
            engine={"type": "torch"},
        )


def test_a_pool_that_feeds_needs_a_fixed_number_of_workers():
    elastic = Scaling(num_workers=[1, 2], feed="ray")
    with pytest.raises(ConfigError, match=r"scaling\.feed=ray needs a fixed scaling\.num_workers"):
        check_fits([fit_spec()], launch="trainer", scaling=elastic, engine={"type": "torch"})


@pytest.mark.parametrize("stage", [0, 1])
def test_an_optimizer_that_cannot_be_divided_anew_is_refused_where_workers_may_change(stage):
    spec = fit_spec(optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.9})
    engine = {"type": "deepspeed", "config": {"zero_optimization": {"stage": stage}}}
    check_fits([spec], launch="trainer", scaling=Scaling(num_workers=2), engine=engine)
    elastic = Scaling(num_workers=[1, 2])
    if stage == 0:
        check_fits([spec], launch="trainer", scaling=elastic, engine=engine)
        return
    with pytest.raises(ConfigError, match=r"fit\.optimizer\.type=sgd.*adamw.*engine=torch"):
        check_fits([spec], launch="trainer", scaling=elastic, engine=engine)


@pytest.mark.parametrize(
    ("least", "cpus", "gpus", "way_out"),
    [
        (9, 1.0, 0.0, r"room for 8.*scaling\.num_workers=8 or less"),
        (3, 3.0, 0.0, r"room for 2.*scaling\.num_workers=2 or less"),
        (1, 5.0, 0.0, r"lower scaling\.cpus_per_worker.*ray\.autoscaling=true"),
        (1, 1.0, 1.0, r"0 GPUs on 2 nodes: room for 0"),
    ],
)
def test_workers_that_would_wait_without_end_are_refused(least, cpus, gpus, way_out, caplog):
    room = {"cpus": cpus, "gpus": gpus, "nodes": FOUR_CPUS}
    with pytest.raises(ConfigError, match=way_out):
        check_room(least, **room, is_autoscaling=False)
    with caplog.at_level(logging.WARNING):
        check_room(least, **room, is_autoscaling=True)
    assert "waiting for nodes" in caplog.text


def test_workers_that_fit_are_let_through():
    check_room(8, cpus=1.0, gpus=0.0, nodes=FOUR_CPUS, is_autoscaling=False)
    check_room(2, cpus=4.0, gpus=0.0, nodes=FOUR_CPUS, is_autoscaling=False)
    check_room(4, cpus=1.0, gpus=0.5, nodes=[NodeRoom(8.0, 2.0)], is_autoscaling=False)


def test_workers_of_a_pool_are_of_a_fixed_number():
    elastic = Scaling(num_workers=[1, 2], pool="train")
    with pytest.raises(ConfigError, match=r"give one number, or scaling\.pool=null"):
        check_fits([fit_spec()], launch="trainer", scaling=elastic, engine={"type": "torch"})


def test_workers_of_a_pool_are_counted_on_its_nodes_alone() -> None:
    nodes = [NodeRoom(4.0, 0.0, "train"), NodeRoom(4.0, 0.0, "decode")]
    wanted = {"cpus": 1.0, "gpus": 0.0, "nodes": nodes, "is_autoscaling": False}
    assert check_room(8, **wanted)
    with pytest.raises(ConfigError, match=r"set scaling\.num_workers=4 or less"):
        check_room(8, pool="train", **wanted)
    with pytest.raises(ConfigError, match=r"scaling\.pool=traim: .*\['decode', 'train'\]"):
        check_room(1, pool="traim", **wanted)
    assert not check_room(1, pool="traim", **{**wanted, "is_autoscaling": True})
