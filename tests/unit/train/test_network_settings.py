import copy

import pytest
import torch
from composed import composed
from torch import nn
from training_stores import STUDENT, fit_spec, make_run

from mke_ray.errors import ConfigError
from mke_ray.models.student import build_student
from mke_ray.storage import open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.compiling import check_compile
from mke_ray.train.engine_settings import check_engine
from mke_ray.train.loop import FitState, fit
from mke_ray.train.recomputation import recompute
from mke_ray.train.run import FitWatch

VIDEO = {"type": "frames", "channels": [4, 6], "num_features": 8}
ZERO_3 = {"zero_optimization": {"stage": 3}}
SOUND = {"type": "log_mel", "sample_rate_hz": 2000, "num_mels": 8, "num_features": 8}


class Residual(nn.Module):
    """A block as deep networks have them."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x_BD):
        return x_BD + self.inside(x_BD)


class Deep(nn.Module):
    """A stack of residual blocks, a layer of a transformer, and a head."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(*(Residual() for _ in range(3)))
        self.attention = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.3, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x_BD):
        return self.head(self.attention(self.stack(x_BD)[None])[0])


def saved_bytes(network, x_BD):
    kept = []

    def pack(one):
        kept.append(one.numel() * one.element_size())
        return one

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        network(x_BD).sum()
    return sum(kept)


def test_recomputed_blocks_give_the_same_gradients_with_dropout():
    plain, other = Deep(), None
    other = copy.deepcopy(plain)
    assert recompute(other) == ["stack.0", "stack.1", "stack.2", "attention"]
    assert list(plain.state_dict()) == list(other.state_dict())
    x_BD = torch.randn(5, 6)
    for network in (plain, other):
        torch.manual_seed(7)
        network(x_BD).square().sum().backward()
    for one, same in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, same.grad)
    assert saved_bytes(other, x_BD) < 0.5 * saved_bytes(plain, x_BD)


def test_a_pass_without_gradient_is_not_made_for_later():
    network = Deep()
    recompute(network)
    with torch.no_grad():
        assert not network(torch.randn(2, 6)).requires_grad


def test_blocks_of_our_students_are_the_stacks_of_encoders_fusion_and_head():
    encoders = {"video": VIDEO, "audio": SOUND}
    fusion = {"type": "attention", "num_features": 8, "num_heads": 2}
    student = build_student({"encoders": encoders, "fusion": fusion, "head_hidden": [8]}, 3)
    blocks = recompute(student)
    assert {"encoders.video.convolutions", "encoders.audio.convolutions"} <= set(blocks)
    assert "fusion.layer" in blocks and "output" not in blocks


def test_a_network_may_name_its_own_blocks():
    class Own(Deep):
        def recomputed_blocks(self):
            return [self.stack[1]]

    assert recompute(Own()) == ["stack.1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, {"unlabeled": 40, "probe": 16})
    return root


def weights_after(root, spec, **engine):
    workplace = Workplace(root, {"type": "torch", **engine})
    parts = assemble(spec, workplace)
    fit(spec, parts, state=FitState(), watch=FitWatch(spec, None, None, 5, 0))
    return parts.engine.weights()


@pytest.mark.parametrize(
    "engine",
    [
        {"checkpoint_activations": True},
        {"compile": {"backend": "aot_eager"}},
        {"compile": {"backend": "aot_eager"}, "checkpoint_activations": True},
        {"shard": "fsdp2"},
    ],
    ids=["recomputed", "compiled", "both", "sharded"],
)
def test_a_setting_of_the_engine_leaves_names_and_numbers_of_weights(root, engine):
    spec = fit_spec(
        num_steps=4, student={**STUDENT, "dropout": 0.0 if "compile" in engine else 0.3}
    )
    plain, other = weights_after(root, spec), weights_after(root, spec, **engine)
    assert list(plain) == list(other)
    for name, weight in plain.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=1e-6)


def check(**engine):
    check_engine({"type": "torch", **engine}, launch="trainer", use_gpu=False)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"type": "jax"}, r"engine\.type"),
        ({"config": {}}, "engine.type=deepspeed"),
        ({"type": "deepspeed", "shard": "fsdp2"}, "engine.type=torch"),
        ({"type": "deepspeed", "bf16": True}, r"config\.bf16\.enabled"),
        ({"sharded": True}, "engine.sharded is no key"),
        ({"shard": "fsdp"}, "fsdp2"),
        ({"checkpoint_activations": "yes"}, "true or false"),
        ({"compile": "max"}, "engine.compile="),
        ({"compile": {"modes": "default"}}, r"engine\.compile\.modes"),
        ({"type": "deepspeed", "config": ZERO_3, "compile": True}, "engine=fsdp2"),
        ({"type": "deepspeed", "config": {"optimizer": {}}}, r"fit\.optimizer"),
    ],
)
def test_an_engine_that_cannot_work_is_refused_by_key(engine, words):
    with pytest.raises(ConfigError, match=words):
        check(**engine)


def test_an_engine_that_can_work_is_accepted():
    check(bf16=True, shard="fsdp2", compile={"backend": "aot_eager"}, checkpoint_activations=True)
    check(type="deepspeed", config={}, compile=False, checkpoint_activations=True)


@pytest.mark.parametrize("name", ["torch", "fsdp2", "zero0", "zero1", "zero2", "zero3"])
def test_the_engines_that_come_with_us_are_accepted(name):
    (job,) = composed(f"engine={name}", "engine.checkpoint_activations=true")
    check_engine(job.engine, launch="trainer", use_gpu=False)


def test_compiling_for_a_cpu_needs_a_compiler_on_the_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        check_compile(True, use_gpu=False)
    check_compile(True, use_gpu=True)
    check_compile({"backend": "aot_eager"}, use_gpu=False)
    (tmp_path / "g++").touch(mode=0o755)
    check_compile(True, use_gpu=False)
