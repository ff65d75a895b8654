"""Checks of what jobs/focus.py is told, before anything is read or trained."""

import math

from mke_ray.config_focus import FocusConfig, GaussianConfig
from mke_ray.errors import ConfigError
from mke_ray.focus.saliency import MIN_ROWS
from mke_ray.schema import Split

FEATURES, GAUSSIAN = "features", "gaussian"
UNIMODAL, CROSSMODAL, MULTIMODAL = "unimodal", "crossmodal", "multimodal"

_CHOICES = {"study": (FEATURES, GAUSSIAN), "select_from": (CROSSMODAL, MULTIMODAL)}


def check_focus(keys: FocusConfig) -> None:
    """Refuse values out of range.

    Raises:
        ConfigError: It names the key and what may stand there.
    """
    for key, choices in _CHOICES.items():
        if (value := getattr(keys, key)) not in choices:
            raise ConfigError(f"focus.{key}={value!r}; choose one of {list(choices)}")
    if not 0.0 <= keys.rho <= 1.0:
        raise ConfigError(f"focus.rho={keys.rho}; give a share from 0 to 1")
    if not (keys.temperature > 0.0 and math.isfinite(keys.temperature)):
        raise ConfigError(f"focus.temperature={keys.temperature}; give a number above 0")
    if not 0.0 < keys.kept < 1.0:
        raise ConfigError(f"focus.kept={keys.kept}; give a share between 0 and 1")
    if keys.num_permutations < 1:
        raise ConfigError(
            f"focus.num_permutations={keys.num_permutations}; give a number of at least 1"
        )
    if keys.batch_rows < MIN_ROWS:
        raise ConfigError(
            f"focus.batch_rows={keys.batch_rows}; channels are permuted within a batch: give at "
            f"least {MIN_ROWS}"
        )
    known = [str(one) for one in Split if one is not Split.TEST]
    if not keys.splits or not set(keys.splits) <= set(known):
        raise ConfigError(f"focus.splits={keys.splits}; choose some of {known}")
    _check_gaussian(keys.gaussian)


def _check_gaussian(keys: GaussianConfig) -> None:
    """Refuse settings of the synthetic study that cannot be drawn.

    Raises:
        ConfigError: It names the key.
    """
    for key in ("num_seeds", "num_train", "num_test", "num_steps"):
        if (value := getattr(keys, key)) < 1:
            raise ConfigError(f"focus.gaussian.{key}={value}; give a number of at least 1")
    if keys.num_train < MIN_ROWS:
        raise ConfigError(
            f"focus.gaussian.num_train={keys.num_train}; channels are permuted within these "
            f"samples: give at least {MIN_ROWS}"
        )
    if keys.lr <= 0:
        raise ConfigError(f"focus.gaussian.lr={keys.lr}; give a learning rate above 0")
    ranges = {"overlaps": (0, 10), "extras": (0, 40), "shared": (1, 40)}
    for key, (low, high) in ranges.items():
        values = getattr(keys, key)
        if not all(low <= one <= high for one in values):
            raise ConfigError(f"focus.gaussian.{key}={values}; give numbers from {low} to {high}")
