"""Which picture of a digit goes with which spoken digit, and what spoils the pictures."""

# H height, W width.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.data.av_mnist_files import NUM_DIGITS, Pictures, Recording
from mke_ray.errors import ConfigError
from mke_ray.schema import Split

CLASSES = tuple(str(digit) for digit in range(NUM_DIGITS))

# Of the 50 recordings of each speaker and digit, how many a split has to itself.
INDEX_SHARES: Mapping[str, int] = {
    Split.LABELLED.value: 6,
    Split.PROBE.value: 6,
    Split.UNLABELED.value: 30,
    Split.TEST.value: 8,
}

_PICTURES_STREAM, _INDEX_STREAM, _PAIR_STREAM, _FLAW_STREAM = range(4)


@dataclass(frozen=True, slots=True)
class Counts:
    """Pairs of each split.

    Args:
        labelled: Of which one modality is shown to the teacher.
        probe: With a label and both modalities.
        unlabeled: Whose label nobody is told.
        test: For the comparison.
    """

    labelled: int = 300
    probe: int = 200
    unlabeled: int = 5700
    test: int = 2000

    def __post_init__(self) -> None:
        """Check the numbers."""
        for split, number in self.by_split().items():
            if number < 1:
                raise ConfigError(f"source.num_{split}={number}; give at least 1")

    def by_split(self) -> dict[str, int]:
        """Return the counts by the name of the split, in the order in which pairs are numbered."""
        return {split: getattr(self, split) for split in INDEX_SHARES}


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample.

    Args:
        number: Its place among all samples.
        split: Its role.
        digit: What is written and said.
        picture: Number of the picture.
        wav: Name of the recording.
    """

    number: int
    split: str
    digit: int
    picture: int
    wav: str


@dataclass(frozen=True, slots=True)
class Flaws:
    """What spoils a picture so that a net of the pictures alone is below its ceiling.

    Args:
        noise: Deviation of the noise on pixels, in units of the range from paper to ink.
        occluded: Side of the square that hides a part, as a share of the picture's side.
    """

    noise: float = 0.0
    occluded: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 <= self.noise <= 5.0:
            raise ConfigError(f"source.noise={self.noise}; give a number from 0 to 5")
        if not 0.0 <= self.occluded <= 1.0:
            raise ConfigError(f"source.occluded={self.occluded}; give a share from 0 to 1")

    def spoil(self, pixels_HW: np.ndarray, *, data_seed: int, picture: int) -> np.ndarray:
        """Return the spoilt picture, uint8 [H, W], the same for the same picture and seed."""
        rng = np.random.default_rng([data_seed, _FLAW_STREAM, picture])
        height, width = pixels_HW.shape
        spoilt_HW = pixels_HW + rng.normal(0.0, 255.0 * self.noise, (height, width))
        rows, columns = round(self.occluded * height), round(self.occluded * width)
        row = rng.integers(height - rows + 1)
        column = rng.integers(width - columns + 1)
        spoilt_HW[row : row + rows, column : column + columns] = 0.0
        return np.clip(np.rint(spoilt_HW), 0.0, 255.0).astype(np.uint8)


def pair_up(
    pictures: Pictures, recordings: Sequence[Recording], counts: Counts, *, data_seed: int
) -> list[Pair]:
    """Draw the splits and pair pictures with recordings of the same digit within each.

    No picture is in two pairs, and no recording in two splits. Within a split every recording of a
    digit is used before any is used once more. Pictures of the test split are of the official test
    set, the others of the train set.

    Args:
        pictures: All pictures.
        recordings: All recordings.
        counts: Pairs of each split.
        data_seed: Draws the splits and the pairs.

    Raises:
        ConfigError: There are fewer pictures or recordings than are needed.
    """
    pools = _draw_pictures(pictures, counts, np.random.default_rng([data_seed, _PICTURES_STREAM]))
    shares = _draw_indices(recordings, np.random.default_rng([data_seed, _INDEX_STREAM]))
    rng = np.random.default_rng([data_seed, _PAIR_STREAM])
    pairs: list[Pair] = []
    for split, pool in pools.items():
        names = _names_by_digit(recordings, shares[split])
        queues = {digit: _endless(names[digit], split, digit, rng) for digit in range(NUM_DIGITS)}
        for picture in pool:
            digit = int(pictures.digit_N[picture])
            pairs.append(Pair(len(pairs), split, digit, int(picture), next(queues[digit])))
    return pairs


def _draw_pictures(
    pictures: Pictures, counts: Counts, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return which pictures each split has."""
    train = rng.permutation(pictures.num_train)
    test = pictures.num_train + rng.permutation(len(pictures.digit_N) - pictures.num_train)
    pools = {}
    for split, number in counts.by_split().items():
        pool = test if split == Split.TEST else train
        if number > len(pool):
            raise ConfigError(
                f"source.num_{split}={number}, but MNIST has only {len(pool)} pictures left for "
                "it; give a smaller number, or the whole of MNIST"
            )
        pools[split] = pool[:number]
        if split != Split.TEST:
            train = train[number:]
    return pools


def _draw_indices(
    recordings: Sequence[Recording], rng: np.random.Generator
) -> dict[str, frozenset[int]]:
    """Return which indices of recordings each split has."""
    there = sorted({one.index for one in recordings})
    needed = sum(INDEX_SHARES.values())
    if len(there) < needed:
        raise ConfigError(
            f"source.root: fsdd/ has recordings of {len(there)} indices and {needed} are needed; "
            "put the whole Free Spoken Digit Dataset there"
        )
    order = [there[int(place)] for place in rng.permutation(len(there))]
    shares = {}
    for split, number in INDEX_SHARES.items():
        shares[split], order = frozenset(order[:number]), order[number:]
    return shares


def _names_by_digit(
    recordings: Sequence[Recording], indices: frozenset[int]
) -> dict[int, list[str]]:
    """Return the recordings with some indices by their digit."""
    chosen = [one for one in recordings if one.index in indices]
    return {
        digit: [one.name for one in chosen if one.digit == digit] for digit in range(NUM_DIGITS)
    }


def _endless(
    names: Sequence[str], split: str, digit: int, rng: np.random.Generator
) -> Iterator[str]:
    """Yield the recordings of a digit in ever new orders."""
    if not names:
        raise ConfigError(
            f"source.root: fsdd/ has no recording of {digit} for split {split}; put the whole "
            "Free Spoken Digit Dataset there"
        )
    while True:
        for place in rng.permutation(len(names)):
            yield names[int(place)]
