"""A draw is on one device: its samples, those that channels are ranked on, and its networks."""

from pathlib import Path

import pytest
import torch
from focus_table import features, table
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.focus import draw
from mke_ray.focus.distilling import measure_draw
from mke_ray.focus.distilling_study import check_distilling
from mke_ray.focus.draw import open_draw

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


class Observing(nn.Module):
    """One weight; remembers where the samples were that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.shown: set[str] = set()

    def observe(self, arrays: dict, present: dict) -> None:
        self.shown |= {one.device.type for one in [*arrays.values(), *present.values()]}

    def freeze_normalisation(self) -> None:
        pass


@pytest.mark.parametrize("name", ["cpu", "meta"])
def test_samples_and_networks_are_on_the_device_that_is_given(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path)
    found = open_draw(features(tmp_path)[0], torch.device(name))
    for one in (found.train, found.test, *found.ranked_on()):
        assert {tensor.device.type for tensor in one.tensors()} == {name}
    monkeypatch.setattr(draw, "build_student", lambda *_, **__: Observing())
    network = found.network(["a"], "crossmodal", is_teacher=True)
    assert network.weight.device.type == name and network.shown == {name}


@without_gpu
def test_a_gpu_that_is_not_there_is_refused_where_it_would_compute(tmp_path: Path) -> None:
    table(tmp_path)
    here, there = (
        features(tmp_path, "scaling.gpus_per_worker=1", f"scaling.launch={launch}")[0]
        for launch in ("local", "tasks")
    )
    for refused in (check_distilling, measure_draw):
        with pytest.raises(ConfigError, match=r"scaling\.gpus_per_worker=1 asks for it"):
            refused(here)
    check_distilling(there)  # the tasks may be on nodes that have GPUs
    assert not (tmp_path / "run").exists()
