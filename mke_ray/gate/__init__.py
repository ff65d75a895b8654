"""The promotion gate: is the student better than its teacher, beyond doubt, on unseen samples?"""

from mke_ray.gate.decide import GATE_FOLDER, decide, judge, with_rival_on_test, with_test_gain
from mke_ray.gate.sampling import Sampling, sampling_of
from mke_ray.gate.scores import GateDecision, GateRules, GateScores, Verdict, num_effective_groups

__all__ = [
    "GATE_FOLDER",
    "GateDecision",
    "GateRules",
    "GateScores",
    "Sampling",
    "Verdict",
    "decide",
    "judge",
    "num_effective_groups",
    "sampling_of",
    "with_rival_on_test",
    "with_test_gain",
]
