import math

import pytest
import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.train.engine import TorchEngine
from mke_ray.train.optimizers import build_optimizer, check_schedule, learning_rate
from mke_ray.train.sharded import ShardedTorchEngine

SGD = {"type": "sgd", "lr": 0.1}


def make_engine(**changes):
    torch.manual_seed(0)
    return TorchEngine(nn.Linear(3, 2), **{"optimizer": SGD, **changes})


def step(engine, loss, *, share=1.0, lr):
    with engine.one_pass(is_last=True):
        engine.backward(loss, share=share)
    return engine.step(lr=lr)


def loss_of(engine, scale=1.0):
    return (engine.student(torch.ones(4, 3)) * scale).square().mean()


def test_a_step_is_that_of_a_plain_loop():
    engine, other = make_engine(), make_engine().module
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05)
    for _ in range(3):
        step(engine, loss_of(engine), lr=0.05)
        optimizer.zero_grad()
        other(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    assert torch.equal(engine.module.weight, other.weight)


def test_the_share_scales_the_gradient():
    engine = make_engine()
    whole = step(engine, loss_of(engine), lr=0.0)
    assert step(engine, loss_of(engine), share=0.25, lr=0.0) == pytest.approx(whole / 4)
    assert step(engine, loss_of(engine), share=0.0, lr=0.0) == 0.0


def test_the_gradient_is_clipped_to_the_norm_and_the_norm_before_is_told():
    engine = make_engine(clip_norm=0.5)
    before = [one.detach().clone() for one in engine.module.parameters()]
    norm = step(engine, loss_of(engine, 10.0), lr=1.0)
    moved = [one - was for one, was in zip(engine.module.parameters(), before, strict=True)]
    assert norm > 1
    assert float(torch.nn.utils.get_total_norm(moved)) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_stay_as_they_were_when_the_loss_is_not_finite(bad):
    engine = make_engine()
    before = engine.weights()["weight"].clone()
    loss = loss_of(engine) * 0 + torch.tensor(bad)
    assert math.isnan(step(engine, loss, lr=0.1))
    assert torch.equal(engine.module.weight, before)


def test_weights_stay_as_they_were_when_only_the_gradient_is_not_finite():
    engine = make_engine()
    before = engine.weights()["weight"].clone()
    loss = torch.sqrt(loss_of(engine, 0.0))
    assert loss.item() == 0.0
    assert math.isnan(step(engine, loss, lr=0.1))
    assert torch.equal(engine.module.weight, before)


def test_passes_before_the_last_add_to_the_gradient_of_a_step():
    whole, cut = make_engine(), make_engine()
    inputs = torch.arange(12.0).view(4, 3)
    step(whole, whole.student(inputs).square().mean(), lr=0.1)
    for is_last, rows in ((False, inputs[:1]), (True, inputs[1:])):
        with cut.one_pass(is_last=is_last):
            cut.backward(cut.student(rows).square().mean(), share=len(rows) / 4)
    cut.step(lr=0.1)
    torch.testing.assert_close(whole.module.weight, cut.module.weight)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_fused_optimizer_makes_the_same_steps(kind):
    spec = {"type": kind, "lr": 0.1, "weight_decay": 0.01}
    one, other = make_engine(optimizer=spec), make_engine(optimizer={**spec, "fused": True})
    for engine in (one, other):
        for _ in range(3):
            step(engine, loss_of(engine), lr=0.1)
    torch.testing.assert_close(one.module.weight, other.module.weight)


def test_a_saved_engine_goes_on_as_if_nothing_had_happened(tmp_path):
    spec = {"type": "adamw", "lr": 0.1, "weight_decay": 0.01}
    one, other = make_engine(optimizer=spec), make_engine(optimizer=spec)
    for _ in range(3):
        step(one, loss_of(one), lr=0.1)
    one.save(tmp_path)
    other.load(tmp_path, world_size=1)
    for engine in (one, other):
        step(engine, loss_of(engine), lr=0.1)
    assert torch.equal(one.module.weight, other.module.weight)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    schedule = {"type": "cosine", "warmup_fraction": 0.1}
    rates = [learning_rate(s, num_steps=100, peak=2.0, schedule=schedule) for s in range(100)]
    assert rates[0] == pytest.approx(2.0 / 11) and rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0, abs=0.01)
    assert 0 < rates[-1] < 0.01
    assert learning_rate(99, num_steps=100, peak=2.0, schedule={}) == 2.0


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"type": "lamb", "lr": 1}, "optimizer.type"),
        ({"lr": 1}, "optimizer.type"),
        ({"type": "sgd", "lr": 1, "betas": [0, 1]}, "optimizer.betas"),
        ({"type": "adamw"}, "optimizer.lr"),
    ],
)
def test_an_optimizer_that_does_not_exist_is_refused_by_key(spec, key):
    with pytest.raises(ConfigError, match=key):
        build_optimizer([], spec)


@pytest.mark.parametrize("spec", [{"type": "linear"}, {"warmup": 3}])
def test_a_schedule_that_does_not_exist_is_refused(spec):
    with pytest.raises(ConfigError, match=r"fit\.schedule"):
        check_schedule(spec)


def test_a_sharded_state_saved_before_the_first_step_leaves_that_step_as_it_was(tmp_path):
    def make():
        torch.manual_seed(0)
        return ShardedTorchEngine(nn.Linear(3, 2), optimizer={"type": "adamw", "lr": 0.1})

    plain, saved, loaded = make(), make(), make()
    saved.save(tmp_path)
    loaded.load(tmp_path, world_size=1)
    for engine in (plain, saved, loaded):
        step(engine, loss_of(engine), lr=0.1)
    expected = plain.weights()["weight"]
    assert torch.equal(saved.weights()["weight"], expected)
    assert torch.equal(loaded.weights()["weight"], expected)
