"""Variables of small MATLAB files of a version before 7.3."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from mke_ray.errors import ConfigError
from mke_ray.storage import Root


def read_matlab(root: Root, name: str) -> Mapping[str, Any]:
    """Return the variables of a MATLAB file of a version before 7.3.

    Raises:
        ConfigError: It is none.
    """
    # Slow to import, and only few need it.
    from scipy.io import loadmat  # noqa: PLC0415
    from scipy.io.matlab import MatReadError  # noqa: PLC0415

    content = root.read(name)
    try:
        return loadmat(io.BytesIO(content))
    except (MatReadError, ValueError, NotImplementedError, TypeError, EOFError) as error:
        raise ConfigError(
            f"{name} in {root.uri} is no MATLAB file that can be read: {error}"
        ) from error


def vector(content: Mapping[str, Any], variable: str, name: str) -> list[int]:
    """Return a variable as a list of whole numbers.

    Raises:
        ConfigError: There is no such variable.
    """
    if variable not in content:
        found = sorted(one for one in content if not one.startswith("__"))
        raise ConfigError(f"{name} has no variable {variable}, only {found}")
    return [int(one) for one in np.asarray(content[variable]).ravel()]
