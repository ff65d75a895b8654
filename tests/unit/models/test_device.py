"""A device is proven to compute before it is used, and who asks for one that is not is told."""

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.device import checked_device, training_device

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_a_cpu_computes_where_no_gpu_is_asked_for() -> None:
    assert training_device(0.0) == torch.device("cpu") == checked_device("cpu")


@without_gpu
def test_a_gpu_that_is_not_there_is_named_with_the_key_that_asks_for_it() -> None:
    with pytest.raises(ConfigError, match=r"device=cuda cannot.*scaling\.gpus_per_worker=0\.5"):
        training_device(0.5)
    with pytest.raises(ConfigError, match=r"device=cuda cannot.*labelling\.num_gpus=0"):
        checked_device("cuda")
