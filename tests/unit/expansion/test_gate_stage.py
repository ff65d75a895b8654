"""The stage that opens the gate: the scores and rules that it takes, and what it adds to them."""

from types import SimpleNamespace

import numpy as np
import pytest

from mke_ray.config_schema import GateConfig
from mke_ray.evaluation import TEACHER, ArmResult, Evaluation, PartScores
from mke_ray.expansion.stages import gate_stage
from mke_ray.labels.asked import AskedSample, AskRecord, MoreProbe
from mke_ray.storage import open_root


def evaluation(*, gain=0.1, num_groups=200):
    """The student is right on all of 200 gate samples, its teacher on 150."""
    ids = np.arange(200)
    groups = np.array([f"g{one % num_groups}" for one in ids])
    scores = {TEACHER: (ids >= 50).astype(float), "fit": np.ones(200)}
    gate = PartScores(ids, groups, scores)
    arms = {
        TEACHER: ArmResult(TEACHER, 0.75, None, 300, 300),
        "mke": ArmResult("mke", 0.75 + gain, None, 300, 300, gain=gain, gain_ci95=(-0.02, 0.03)),
    }
    columns = {TEACHER: (TEACHER,), "mke": ("fit",)}
    return Evaluation("accuracy", arms, columns, None, gate, gate, gate)


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(
        root=open_root(str(tmp_path)),
        source=None,
        shipped="mke",
        job=SimpleNamespace(gate=GateConfig()),
        check_lease=lambda: None,
    )


def test_a_promotion_without_a_gain_on_the_test_set_carries_a_caution(run):
    decision = gate_stage(run, evaluation(gain=-0.004))
    assert decision.promoted
    assert "on the test set the difference is -0.4 points" in decision.reason
    assert "(95%: -2.0 points to +3.0 points)" in decision.reason


def test_with_a_gain_on_the_test_set_there_is_none(run):
    decision = gate_stage(run, evaluation())
    assert decision.promoted and "Caution" not in decision.reason


def test_the_rules_are_those_of_the_configuration(run):
    assert gate_stage(run, evaluation(num_groups=8)).promoted
    run.job.gate = GateConfig(min_groups=9)
    assert gate_stage(run, evaluation(num_groups=8)).verdict == "unverified"
    run.job.gate = GateConfig(min_samples=201)
    assert gate_stage(run, evaluation()).verdict == "unverified"


def test_a_draw_that_was_never_answered_changes_no_weight(run):
    plain = gate_stage(run, evaluation())
    drawn = [AskedSample(f"q-{n}", n, f"{n}", None, None, f"g{n}", "agree") for n in range(60)]
    AskRecord("q", "settle", "fit", 0, 3.0, {"agree": 1.0}, tuple(drawn)).write(run.root)
    run.source = MoreProbe(None, dict.fromkeys(range(59), (0,)))
    run.job.gate = GateConfig(confidence=0.9)  # nothing recorded is taken
    assert gate_stage(run, evaluation()).gain == plain.gain
    run.source = MoreProbe(None, dict.fromkeys(range(60), (0,)))
    run.job.gate = GateConfig(confidence=0.91)
    assert gate_stage(run, evaluation()).gain > plain.gain
