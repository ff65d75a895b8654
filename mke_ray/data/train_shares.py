"""Who of a list for training is labelled, in the probe, or unlabeled."""

from dataclasses import dataclass

from mke_ray.data.table_splits import position
from mke_ray.errors import ConfigError
from mke_ray.schema import Split


def labelled_share(labelled: float, data_seed: int) -> "TrainShares":
    """Return the shares of a list whose probe is a list of its own.

    Args:
        labelled: Share that is labelled; the rest is unlabeled.
        data_seed: Seed of the draw.

    Raises:
        ConfigError: It is no share.
    """
    return TrainShares(labelled, 0.0, data_seed, keys=("source.labelled",))


@dataclass(frozen=True, slots=True)
class TrainShares:
    """Shares of a list for training, drawn by video or film.

    The draw is a hash of seed and name, so that a list of any length is dealt out as it is read.

    Args:
        labelled: Share that is labelled.
        probe: Share that is in the probe; the rest is unlabeled.
        data_seed: Seed of the draw.
        keys: Configuration keys of the shares that can be set, for the error.
    """

    labelled: float
    probe: float
    data_seed: int
    keys: tuple[str, ...] = ("source.labelled", "source.probe")

    def __post_init__(self) -> None:
        """Check the shares."""
        if min(self.labelled, self.probe) < 0 or self.labelled + self.probe > 1:
            shares = zip(self.keys, (self.labelled, self.probe), strict=False)
            raise ConfigError(
                f"{' and '.join(f'{key}={share}' for key, share in shares)}: shares of the list "
                "for training have to be numbers from 0 that come to 1 at most"
            )

    def split_of(self, name: str) -> Split:
        """Return the split of a video or film."""
        place = position(self.data_seed, name)
        if place < self.labelled:
            return Split.LABELLED
        return Split.PROBE if place < self.labelled + self.probe else Split.UNLABELED
