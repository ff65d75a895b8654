"""The sections of the configuration that ask people for labels, and take them back."""

from dataclasses import dataclass
from typing import Any

PURPOSES = SETTLE, LEARN = "settle", "learn"


@dataclass
class AskConfig:
    """Which unlabeled samples ``jobs/ask.py`` asks people for.

    Args:
        num: Samples to label.
        purpose: ``settle`` draws for the gate, by chance and by known probabilities, from groups
            that are new to it; ``learn`` draws for the select part, half by chance and half where
            the student is unsure.
        max_per_group: Samples of a group above which it is not asked for: a group is asked for as
            a whole, since the rest of it would stay in the training.
        seed: What chance depends on; another seed asks for other samples.
    """

    num: int = 50
    purpose: str = SETTLE
    max_per_group: int = 16
    seed: int = 0


@dataclass
class ProbeConfig:
    """What is added to the probe of the source.

    Args:
        more: Tables that ``jobs/ask.py`` wrote and people filled in, one or a list; null adds none.
            A run that had one keeps it: without it these samples are unlabeled again.
    """

    more: Any = None
