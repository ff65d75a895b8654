"""A switch that the optimizer undoes is warned of; one that works is not."""

import pytest
from composed import composed

from mke_ray.expansion.switch_notes import note_switches

BALANCE = "objective.balance={strength: 0.5}"


@pytest.mark.parametrize(
    ("overrides", "is_said"),
    [
        (("experiment=ravdess_features", "source.root=none", BALANCE), True),
        (("experiment=ravdess_features", "source.root=none"), False),
        (("experiment=two_moon", BALANCE), False),
    ],
)
def test_scaled_gradients_are_undone_by_adamw_and_not_by_sgd(overrides, is_said, caplog):
    (job,) = composed(*overrides)
    note_switches(job)
    assert ("objective.balance" in caplog.text) is is_said


def test_every_switch_can_be_set_from_the_command_line():
    (job,) = composed(
        "experiment=two_moon",
        "objective.loss={type: generalized, q: 0.3}",
        "objective.mix={type: mixup, strength: 0.4}",
        BALANCE,
        "objective.unimodal_weight=0.3",
    )
    assert job.objective["loss"] == {"type": "generalized", "q": 0.3}
    assert job.objective["mix"] == {"type": "mixup", "strength": 0.4}
    assert job.objective["balance"] == {"strength": 0.5}


@pytest.mark.parametrize(
    ("overrides", "is_said"),
    [
        (("experiment=two_moon", "preflight=stop"), True),
        (("experiment=ravdess_features", "objective=mke", "preflight=stop"), True),
        (("experiment=ravdess_features", "preflight=stop"), False),
        (("experiment=two_moon",), False),
    ],
)
def test_a_pre_flight_that_is_to_stop_and_does_not_take_place_is_said(overrides, is_said, caplog):
    (job,) = composed(*overrides, "++source.root=none")
    note_switches(job)
    assert ("preflight=stop has no effect" in caplog.text) is is_said
