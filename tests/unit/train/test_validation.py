"""Looks at the select part of the probe during a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mke_ray.schema import Batch, LabelKind, LabelSpace
from mke_ray.train.validation import LIKELIHOOD, Validation


class Batches:
    """A feed of one batch."""

    batches_per_epoch = 1

    def __init__(self, logits_BC, target_BC):
        num = len(logits_BC)
        self.batch = Batch(
            sample_id_B=torch.arange(num),
            epoch=0,
            arrays={"a": logits_BC},
            present={"a": torch.ones(num, dtype=torch.bool)},
            target_BC=target_BC,
            weight_B=torch.ones(num),
        )

    def batches(self, _start, _stop):
        yield SimpleNamespace(batch=self.batch)


def look(logits_BC, kind):
    target_BC = torch.eye(3)[[0, 1, 2, 0]]
    validate = Validation(
        Batches(logits_BC, target_BC),
        device=torch.device("cpu"),
        label_space=LabelSpace(("x", "y", "z"), kind),
    )
    return validate(lambda arrays, present: arrays["a"])


@pytest.mark.parametrize(
    ("kind", "key"), [(LabelKind.SINGLE, "select_accuracy"), (LabelKind.MULTI, "select_map")]
)
def test_a_look_at_answers_that_are_not_finite_has_no_likelihood_and_does_not_end_the_fit(
    kind, key
):
    logits_BC = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = look(logits_BC, kind)
    assert set(found) == {key, LIKELIHOOD} and np.isfinite(found[LIKELIHOOD])
    logits_BC[1, 2] = torch.nan
    assert set(look(logits_BC, kind)) == {key}
