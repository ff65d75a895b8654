"""Checks of the settings of an objective, each error with its key and the way out."""

import math
from collections.abc import Mapping
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.objectives.balance import BalanceSettings
from mke_ray.objectives.mixing import MixSettings
from mke_ray.objectives.robust_losses import criterion_of
from mke_ray.schema import LabelKind

EXAMPLES = {
    "loss": "objective.loss={type: generalized, q: 0.7}",
    "mix": "objective.mix={type: mixup, strength: 1.0}",
    "balance": "objective.balance={strength: 0.5}",
}


def check_settings(objective: Any) -> None:
    """Raise when a setting of an ``MKEObjective`` makes no sense."""
    alphas = objective.alpha if isinstance(objective.alpha, Mapping) else {"": objective.alpha}
    amounts = {f"alpha.{name}".rstrip("."): value for name, value in alphas.items()}
    for key in ("beta", "consistency_weight", "consistency_ramp", "unimodal_weight"):
        amounts[key] = getattr(objective, key)
    for key, value in amounts.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"objective.{key} is {value}; give a number from 0 upwards")
    for name, share in (objective.modality_dropout or {}).items():
        if not 0 <= share <= 1:
            raise ConfigError(
                f"objective.modality_dropout.{name} is {share}; give a share from 0 to 1"
            )
    if objective.kind not in list(LabelKind):
        raise ConfigError(
            f"objective.kind is {objective.kind!r}; choose one of {[*map(str, LabelKind)]}"
        )
    _check_switches(objective)
    weights = objective.class_weights
    is_fit = objective.kind == LabelKind.DENSE and len(weights or ()) > 1
    if weights is not None and not (is_fit and all(one >= 0 for one in weights)):
        raise ConfigError(
            f"objective.class_weights is {list(weights)} with kind={objective.kind}; give numbers "
            "from 0 upwards, for kind=dense alone"
        )


def _check_switches(objective: Any) -> None:
    """Raise when a switch that is a mapping makes no sense."""
    for key in ("loss", "mix", "balance"):
        value = getattr(objective, key)
        if not (value is None or isinstance(value, Mapping)):
            raise ConfigError(
                f"objective.{key} is {value!r}; give a mapping, as in {EXAMPLES[key]}"
            )
    criterion_of(objective.loss)
    if objective.mix is not None:
        MixSettings.of(objective.mix)
    if objective.balance is not None:
        BalanceSettings.of(objective.balance)
