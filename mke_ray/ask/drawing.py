"""Which groups are asked for: by chance within strata, or where a label teaches most."""

# N samples, C classes.

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mke_ray.gate.sampling import LEAST_CHANGED

AGREE, DISAGREE = "agree", "disagree"
# How often the difference between student and teacher is not zero, before anything is known. Where
# they agree now, a student that is trained anew may not.
PLANNED = {AGREE: LEAST_CHANGED, DISAGREE: 0.75}
LEAST_GROUPS = 5


@dataclass(frozen=True, slots=True)
class Group:
    """A group of unlabeled samples that may be asked for.

    Args:
        name: Its name.
        num_samples: Its samples.
        differs: Whether student and teacher disagree on any of them.
    """

    name: str
    num_samples: int
    differs: bool

    @property
    def stratum(self) -> str:
        """The stratum that it is drawn from."""
        return DISAGREE if self.differs else AGREE


@dataclass(frozen=True, slots=True)
class Draw:
    """What is asked for, and by which chances.

    Args:
        groups: Groups by stratum.
        shares: Share of the samples of each stratum in all that could be drawn.
        worth: How many samples drawn without strata one of these is worth, as planned.
    """

    groups: Mapping[str, tuple[str, ...]]
    shares: Mapping[str, float]
    worth: float


def draw_groups(
    groups: Sequence[Group], num_samples: int, *, seed: int, taken: Collection[str] = ()
) -> Draw:
    """Draw groups by chance within strata, more of them where student and teacher disagree.

    A paired difference can only be seen where the two differ, so most labels go there; the others
    get as many as keeps the error of the whole least (Neyman's allocation of planned deviations),
    since the student that is judged in the end is trained anew, and may differ there too. Every
    group has a known chance above zero, which makes the weighted mean unbiased where groups are of
    one size; otherwise it is a ratio of two estimates, whose bias falls with the number of groups.

    Args:
        groups: The groups to draw from.
        num_samples: Samples to ask for, about.
        seed: Seed of the draw.
        taken: Groups that were drawn by chance before: they count in the shares, and are not drawn
            again, but where all of a stratum are taken: a draw has to stand for each of them.

    Source:
        Neyman, On the Two Different Aspects of the Representative Method, JRSS 1934.
    """
    strata = {
        name: sorted((one for one in groups if one.stratum == name), key=lambda g: _rank(g, seed))
        for name in (DISAGREE, AGREE)
    }
    strata = {name: ones for name, ones in strata.items() if ones}
    sizes = _sizes(strata)
    total = sum(sizes.values())
    shares = {name: size / total for name, size in sizes.items()}
    strata = {
        name: [one for one in ones if one.name not in taken] or ones
        for name, ones in strata.items()
    }
    sizes = _sizes(strata)
    spread = {name: share * math.sqrt(PLANNED[name]) for name, share in shares.items()}
    numbers, left = {}, float(num_samples)
    for name in sorted(strata, key=spread.__getitem__):  # what is at least taken, the other lacks
        others = sum(spread[one] for one in strata if one not in numbers)
        mean_size = sizes[name] / len(strata[name])
        wanted = max(LEAST_GROUPS, round(left * spread[name] / others / mean_size))
        numbers[name] = min(wanted, len(strata[name]))
        left -= numbers[name] * mean_size
    for name, ones in strata.items():  # one stratum may be too small for its share
        more = round(max(0.0, left) * len(ones) / sizes[name])
        more = min(more, len(ones) - numbers[name])
        numbers[name], left = numbers[name] + more, left - more * sizes[name] / len(ones)
    drawn = {
        name: tuple(one.name for one in ones[: numbers[name]]) for name, ones in strata.items()
    }
    plain = sum(share * PLANNED[name] for name, share in shares.items())
    return Draw(drawn, shares, worth=plain / sum(spread.values()) ** 2)


def draw_unsure(probability_NC: NDArray, num: int, *, seed: int) -> NDArray:
    """Return rows [num] whose labels teach most: unsure ones, and different from each other.

    Half are drawn by chance, so that what is chosen on the select part sees more than hard samples.
    The others are drawn by k-means++ on the gradients of the loss with respect to the biases of
    the last layer, as if the student's answer were the label: long where it is unsure, and in the
    direction of the classes that it hesitates between.

    Args:
        probability_NC: What the student says of each sample [N, C].
        num: Rows wanted.
        seed: Seed of the draw.

    Source:
        Ash, Zhang, Krishnamurthy, Langford, Agarwal, Deep Batch Active Learning by Diverse,
        Uncertain Gradient Lower Bounds, ICLR 2020, with the biases alone.
    """
    generator = np.random.default_rng(seed)
    num_rows = len(probability_NC)
    num = min(num, num_rows)
    chosen = generator.choice(num_rows, num - num // 2, replace=False).tolist()
    gradient_NC = np.array(probability_NC, float)
    gradient_NC[np.arange(num_rows), gradient_NC.argmax(axis=1)] -= 1.0
    far_N = np.square(gradient_NC).sum(axis=1)
    far_N[chosen] = 0.0
    while len(chosen) < num:
        total = far_N.sum()
        left = np.setdiff1d(np.arange(num_rows), chosen)
        row = int(generator.choice(num_rows, p=far_N / total) if total > 0 else left[0])
        chosen.append(row)
        away_N = np.square(gradient_NC - gradient_NC[row]).sum(axis=1)
        far_N = np.minimum(far_N, away_N)
        far_N[chosen] = 0.0
    return np.array(chosen)


def _sizes(strata: Mapping[str, Sequence[Group]]) -> dict[str, int]:
    """Return the samples of each stratum."""
    return {name: sum(one.num_samples for one in ones) for name, ones in strata.items()}


def _rank(group: Group, seed: int) -> bytes:
    """Return the place of a group in an order that is by chance and always the same."""
    return hashlib.blake2b(f"ask:{seed}:{group.name}".encode(), digest_size=8).digest()
