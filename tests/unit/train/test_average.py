import pytest
import torch
from torch import nn

from mke_ray.errors import StoreError
from mke_ray.train.average import WeightAverage


def mean_of(average, module):
    return average.over(module.state_dict())["weight"]


def test_the_running_mean_follows_the_weights_and_gives_them_back():
    module = nn.Linear(1, 1, bias=False)
    average = WeightAverage(module, decay=0.9)
    with torch.no_grad():
        for value in range(200):
            module.weight.fill_(float(value))
            average.update(module)
    mean = float(mean_of(average, module))
    assert mean == pytest.approx(190.0, abs=0.5)
    with average.applied(module):
        assert module.weight.item() == pytest.approx(mean)
    assert module.weight.item() == 199.0


def test_weights_whose_channels_come_last_are_averaged_in_place():
    module = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    average = WeightAverage(module, decay=0.5)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.mul_(3)
    with average.applied(module):
        assert torch.equal(module.weight, before)
    assert torch.equal(module.weight, before * 3)


def test_a_saved_mean_goes_on_as_if_nothing_had_happened(tmp_path):
    module = nn.Linear(2, 1)
    one, other = WeightAverage(module, 0.5), WeightAverage(nn.Linear(2, 1), 0.5)
    one.update(module)
    one.save(tmp_path)
    other.restore(tmp_path)
    with torch.no_grad():
        module.weight.add_(1.0)
    one.update(module)
    other.update(module)
    assert torch.equal(mean_of(one, module), mean_of(other, module))


def test_a_saved_mean_that_lacks_a_weight_is_refused(tmp_path):
    WeightAverage(nn.Linear(2, 1, bias=False), 0.5).save(tmp_path)
    with pytest.raises(StoreError, match="bias"):
        WeightAverage(nn.Linear(2, 1), 0.5).restore(tmp_path)
