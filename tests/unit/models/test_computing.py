"""Switches of a teacher: what they change, what they need, and that the defaults change nothing."""

import numpy as np
import pytest
import torch
from label_fakes import FakeTeacher, NetworkTeacher
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models.computing import Computing

X = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)


def test_the_defaults_are_no_part_of_a_store():
    assert Computing().spec == {}
    assert Computing("bfloat16", channels_last=True).spec == {
        "precision": "bfloat16",
        "channels_last": True,
    }


def test_bfloat16_computes_the_network_in_it_and_float32_does_not():
    teacher, kinds = NetworkTeacher(), []
    teacher.network[-1].register_forward_hook(lambda _m, _a, out: kinds.append(out.dtype))
    for precision in ("float32", "bfloat16"):
        with Computing(precision).running():
            teacher.predict(X)
    assert kinds == [torch.float32, torch.bfloat16]


def test_the_network_is_compiled_once_for_every_number_of_samples(monkeypatch):
    graphs, compiled = [], torch.compile

    def watched(function, **more):
        def backend(graph, _):
            graphs.append(graph)
            return graph.forward

        return compiled(function, backend=backend, **more)

    monkeypatch.setattr(torch, "compile", watched)
    for switches, wanted in ((Computing(), 0), (Computing(compile=True), 1)):
        teacher = NetworkTeacher()
        switches.prepare(teacher)
        with switches.running():
            found = [teacher.predict(X[:number]) for number in (5, 3, 4)]
        assert len(graphs) == wanted
        assert [len(one) for one in found] == [5, 3, 4]


def test_weights_of_convolutions_lie_channels_last():
    teacher = FakeTeacher()
    teacher.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(2, 2))
    flat, deep = teacher.network[0].weight, teacher.network[1].weight
    assert not flat.is_contiguous(memory_format=torch.channels_last)
    Computing(channels_last=True).prepare(teacher)
    assert flat.is_contiguous(memory_format=torch.channels_last)
    assert deep.is_contiguous(memory_format=torch.channels_last_3d)


def test_what_a_teacher_cannot_do_is_refused_with_the_key_and_the_way_out():
    Computing("bfloat16").check(FakeTeacher(), key="teacher.network")
    Computing(compile=True, channels_last=True).check(NetworkTeacher(), key="teacher.network")
    wanted = r"labelling\.compile=true .*attribute network .*teacher\.network .*compile=false"
    with pytest.raises(ConfigError, match=wanted):
        Computing(compile=True).check(FakeTeacher(), key="teacher.network")
    with pytest.raises(ConfigError, match=r"labelling\.channels_last=true"):
        Computing(channels_last=True).check(FakeTeacher(), key="teacher.network")
    with pytest.raises(ConfigError, match=r"labelling\.precision='half'.*bfloat16"):
        Computing("half").check(FakeTeacher(), key="teacher.network")
