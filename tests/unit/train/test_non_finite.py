import math

import pytest
import torch

from mke_ray.errors import TrainingError
from mke_ray.train.non_finite import find_non_finite, leave_out, num_left_out

FINE, SPOILT = torch.tensor(1.0), torch.tensor(math.nan)


def test_the_error_names_the_step_and_the_samples():
    ids = torch.arange(100, 140)
    found = find_non_finite([SPOILT], [ids], step=7)
    with pytest.raises(TrainingError, match=r"loss of step 7 .* 100, 101.* 24 more"):
        leave_out(found, [], allowed=0)
    found = find_non_finite([FINE], [ids], step=7)
    with pytest.raises(TrainingError, match="gradient of step 7"):
        leave_out(found, [], allowed=0)


def test_a_loss_is_that_of_its_micro_batch_and_a_gradient_that_of_all():
    ids = [torch.tensor([1, 2]), torch.tensor([3])]
    assert find_non_finite([FINE, SPOILT], ids, step=0).sample_ids == [3]
    assert find_non_finite([FINE, FINE], ids, step=0).sample_ids == [1, 2, 3]


def test_as_many_steps_as_allowed_are_left_out_and_counted():
    found = find_non_finite([SPOILT], [torch.arange(40)], step=4)
    history = [leave_out(found, [{"step": 1}], allowed=1)]
    assert history[0]["step"] == 5 and history[0]["num_samples"] == 40
    assert len(history[0]["sample_ids"]) == 16
    assert num_left_out([{"step": 1}, *history]) == 1
    with pytest.raises(TrainingError, match="skip_non_finite=2"):
        leave_out(found, history, allowed=1)
