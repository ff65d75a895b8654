"""Which weights of a network are trained, where its blocks stand in a row as those of timm do."""

import pytest
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models.tuning import blocks_in, tune


class InARow(nn.Module):
    """A network whose blocks are called one after the other."""

    def __init__(self, name):
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.add_module(name, nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))))
        self.norm = nn.LayerNorm(2)


@pytest.mark.parametrize("name", ["blocks", "stages"])
def test_the_last_blocks_of_a_row_are_trained_and_what_comes_after_them(name):
    network = InARow(name)
    assert blocks_in(network) == list(getattr(network, name))
    tune(network, "last_2", lora=None, key="k")
    trained = {one for one, weight in network.named_parameters() if weight.requires_grad}
    kinds = ("weight", "bias")
    assert trained == {f"{part}.{k}" for part in (f"{name}.1", f"{name}.2", "norm") for k in kinds}


def test_a_network_without_blocks_has_no_last_one():
    with pytest.raises(ConfigError, match=r"k\.trainable=last_1, but InARow has 0 blocks"):
        tune(InARow("others"), "last_1", lora=None, key="k")
