"""Fits the prediction of a gain on measured settings, and tries it on settings held out."""

# N records, K features.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import StandardScaler

from mke_ray.focus.gain_prediction import FEATURES, GainModel

COMMAND = "python benchmarks/preflight.py --data DIR --write"
_LEAST_NOISE = 0.005


@dataclass(frozen=True, slots=True)
class Trial:
    """A record that was predicted by a model that saw none of its family.

    Args:
        setting: Its setting.
        family: Its family.
        gain: What the student gained on the test split.
        expected: What was predicted.
        spread: Standard deviation of that.
        probability: Probability of a gain that is worth it.
    """

    setting: str
    family: str
    gain: float
    expected: float
    spread: float
    probability: float


def fitted(records: Sequence[dict[str, Any]]) -> GainModel:
    """Return the model that fits records best: a ridge regression, and its noise by likelihood.

    Every setting weighs the same, however many draws it has. The noise is that of families which
    the regression did not see, since a user's data are of none of them.
    """
    rest, error, weight = [], [], []
    for family in sorted({one["family"] for one in records}):
        own = [one for one in records if one["family"] == family]
        bias, weight_K = _regression([one for one in records if one["family"] != family])
        feature_NK, gain_N = _arrays(own)
        rest += (gain_N - bias - feature_NK @ weight_K).tolist()
        error += [one["standard_error"] for one in own]
        weight += _weights(own).tolist()
    noise, of_error = _noise(*map(np.asarray, (rest, error, weight)))
    bias, weight_K = _regression(records)
    return GainModel(
        round(bias, 5),
        dict(zip(FEATURES, np.round(weight_K, 4).tolist(), strict=True)),
        round(noise, 5),
        round(of_error, 4),
        len({one["setting"] for one in records}),
        COMMAND,
    )


def _regression(records: Sequence[dict[str, Any]]) -> tuple[float, np.ndarray]:
    """Return the bias and the weight of every feature [K]."""
    feature_NK, gain_N = _arrays(records)
    weight_N = _weights(records)
    scaler = StandardScaler().fit(feature_NK, sample_weight=weight_N)
    ridge = BayesianRidge().fit(scaler.transform(feature_NK), gain_N, sample_weight=weight_N)
    weight_K = ridge.coef_ / scaler.scale_
    return float(ridge.intercept_ - weight_K @ scaler.mean_), weight_K


def _arrays(records: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features [N, K] and the gains [N] of records."""
    features = [[one["features"][name] for name in FEATURES] for one in records]
    return np.asarray(features), np.asarray([one["gain"] for one in records])


def held_out(records: Sequence[dict[str, Any]], *, worth: float) -> list[Trial]:
    """Return every record, predicted by a model fitted without the settings of its family."""
    found = []
    for family in sorted({one["family"] for one in records}):
        model = fitted([one for one in records if one["family"] != family])
        for one in records:
            if one["family"] == family:
                expected = model.predict(one["features"], one["standard_error"])
                found.append(
                    Trial(
                        one["setting"],
                        family,
                        one["gain"],
                        expected.mean,
                        expected.stdev,
                        1.0 - expected.cdf(worth),
                    )
                )
    return found


def _noise(rest_N: np.ndarray, error_N: np.ndarray, weight_N: np.ndarray) -> tuple[float, float]:
    """Return the noise of a prediction and how much of the error of measuring joins it."""

    def loss(log_2: np.ndarray) -> float:
        noise, of_error = np.exp(log_2)
        variance_N = noise**2 + (of_error * error_N) ** 2
        return float(weight_N @ (np.log(variance_N) + rest_N**2 / variance_N))

    best = minimize(loss, np.log([0.02, 0.5]), method="Nelder-Mead")
    noise, of_error = np.exp(best.x)
    return max(_LEAST_NOISE, float(noise)), float(of_error)


def _weights(records: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return weights by which every setting counts the same [N]."""
    names = [one["setting"] for one in records]
    return np.asarray([1.0 / names.count(name) for name in names])
