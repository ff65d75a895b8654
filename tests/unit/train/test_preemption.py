"""When workers ask whether a node is about to go, and what they make of the answer."""

import logging
from types import SimpleNamespace

import pytest
import ray.train

from mke_ray.train import preemption
from mke_ray.train.preemption import PreemptionLook


@pytest.fixture
def world(monkeypatch):
    """A clock and a cluster: the seconds, the nodes that are warned, the steps of questions."""
    world = SimpleNamespace(seconds=0.0, nodes=(), asked=0)

    def info():
        world.asked += 1
        if not world.nodes:
            return None
        return SimpleNamespace(preempted_node_to_ranks={one: [0] for one in world.nodes})

    monkeypatch.setattr(ray.train, "get_preemption_info", info)
    monkeypatch.setattr(preemption.time, "monotonic", lambda: world.seconds)
    return world


def train(look, world, steps, step_s):
    told = []
    for step in steps:
        world.seconds += step_s
        if look.is_told(step):
            told.append(step)
    return told


@pytest.mark.parametrize(("step_s", "questions"), [(0.1, 12), (4.0, 200), (1e-4, 2)])
def test_questions_are_asked_every_two_seconds_however_long_a_step_takes(world, step_s, questions):
    train(PreemptionLook(every_s=2.0), world, range(1, 201), step_s)
    assert world.asked == pytest.approx(questions, abs=1)


def test_a_node_is_told_once_and_another_one_again(world, caplog):
    look = PreemptionLook(every_s=1.0)
    assert train(look, world, range(1, 5), 1.0) == []
    world.nodes = ("one",)
    with caplog.at_level(logging.WARNING):
        assert train(look, world, range(5, 9), 1.0) == [5]
    assert "['one'] are about to go: step 5" in caplog.text
    world.nodes = ("one", "two")
    assert train(look, world, range(9, 12), 1.0) == [9]
