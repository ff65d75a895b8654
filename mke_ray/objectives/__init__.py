"""Objectives: what a student is trained to minimise, given a batch with the teacher's labels."""

from mke_ray.objectives.distillation import DistillationObjective, distillation_loss
from mke_ray.objectives.objective import Objective
from mke_ray.objectives.perturbing import Noise
from mke_ray.objectives.published import MKEObjective, drop_modalities, ramp
from mke_ray.objectives.witness import WitnessObjective

__all__ = [
    "DistillationObjective",
    "MKEObjective",
    "Noise",
    "Objective",
    "WitnessObjective",
    "distillation_loss",
    "drop_modalities",
    "ramp",
]
