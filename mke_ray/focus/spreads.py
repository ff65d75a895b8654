"""Mean and spread over draws, and paired differences with their interval."""

# W draws of the data.

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


def spread(value_W: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation over draws."""
    return {"mean": float(np.mean(value_W)), "std": float(np.std(value_W))}


def paired(value_W: Sequence[float], other_W: Sequence[float]) -> dict[str, Any]:
    """Return how much a value is above another of the same draws.

    Args:
        value_W: The one.
        other_W: The other.

    Returns:
        ``mean`` and ``std`` of the difference, ``ci95`` of its mean (Student's t; None of a single
        draw), and ``above``, the share of draws in which it is above zero.
    """
    difference_W = np.asarray(value_W, dtype=float) - np.asarray(other_W, dtype=float)
    num = len(difference_W)
    interval = None
    if num > 1:
        reach = float(stdtrit(num - 1, (1 + CONFIDENCE) / 2))
        half = reach * float(difference_W.std(ddof=1)) / num**0.5
        mean = float(difference_W.mean())
        interval = [mean - half, mean + half]
    return {
        **spread(list(difference_W)),
        "ci95": interval,
        "above": float((difference_W > 0).mean()),
    }
