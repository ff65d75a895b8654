"""What a student will gain, predicted from what a pre-flight measured, and how sure that is."""

# K features.

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from statistics import NormalDist

from scipy.special import stdtrit

from mke_ray.focus.evidence import Evidence

MODEL_NAME = "gain_model.json"
FEATURES = ("trial_gain",)  # of those that are kept, what held-out settings are told best by

_OF_95 = NormalDist().inv_cdf(0.975)  # standard errors from a mean to the end of its interval
_UNKNOWN_ERROR = 0.2


@dataclass(frozen=True, slots=True)
class GainModel:
    """A linear prediction of the gain with a normal error, fitted on settings that were measured.

    Args:
        bias: Gain where every feature is 0.
        weights: Per feature what a unit of it adds.
        noise: Standard deviation of what the features do not say.
        noise_of_error: How much of the standard error of ``trial_gain`` is added to that.
        num_settings: Settings that it was fitted on.
        fitted_by: The command that fits it.
    """

    bias: float
    weights: Mapping[str, float]
    noise: float
    noise_of_error: float
    num_settings: int = 0
    fitted_by: str = ""

    @classmethod
    def shipped(cls) -> "GainModel":
        """Return the model that comes with the package."""
        text = resources.files("mke_ray.focus").joinpath(MODEL_NAME).read_text(encoding="utf-8")
        return cls(**json.loads(text))

    def predict(self, features: Mapping[str, float], standard_error: float) -> NormalDist:
        """Return how the gain is distributed.

        Args:
            features: Value of every feature, from ``features_of``.
            standard_error: That of ``trial_gain``.
        """
        mean = self.bias + sum(weight * features[name] for name, weight in self.weights.items())
        return NormalDist(mean, math.hypot(self.noise, self.noise_of_error * standard_error))


def features_of(evidence: Evidence) -> dict[str, float]:
    """Return what is kept of what a gain may be predicted from.

    ``trial_gain`` is what a student of the first samples gains, ``joined_gain`` what joining the
    answers of teacher and witnesses does (it stands for the other where there is no trial),
    ``teacher_error`` what there is to gain, ``witness_only`` the share of all there is to know that
    only the witnesses know.
    """
    bits, trial = evidence.information, evidence.trial_gain or evidence.gain
    return {
        "trial_gain": trial.value,
        "joined_gain": evidence.gain.value,
        "teacher_error": 1.0 - evidence.teacher.value,
        "witness_only": bits.witness_only / bits.entropy if bits.entropy > 0 else 0.0,
    }


def standard_error_of(evidence: Evidence) -> float:
    """Return the standard error of the gain of the trial, a large one where it cannot be told."""
    ends = (evidence.trial_gain or evidence.gain).ci95
    if ends is None:
        return _UNKNOWN_ERROR
    low, high = ends
    num = evidence.num_groups
    # Percentiles of resamples are too narrow where groups are few, and Student's t is wider.
    few = math.sqrt(num / (num - 1)) * float(stdtrit(num - 1, 0.975)) / _OF_95
    # Where nothing changes the interval is empty: never surer than one sample told otherwise.
    return max(
        few * (high - low) / (2 * _OF_95),
        1.0 / (num if evidence.is_dense else evidence.num_samples),
    )
