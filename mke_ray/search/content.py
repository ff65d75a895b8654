"""What there is to say of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mke_ray.labels.pass_state import SECONDS_PER_HOUR
from mke_ray.report.style import Picture
from mke_ray.search.finals import Finalist
from mke_ray.search.ledger import FINISHED, TrialRecord


@dataclass(frozen=True, slots=True)
class SearchContent:
    """What there is to say of a search.

    Args:
        title: Name of the experiment and of the space.
        quality: What was looked for, in words.
        records: What became of all trials.
        finalists: The finalists.
        winner: The winner among them.
        test: See ``result_on_test``.
        num_select: Samples of the select part of the probe.
        full_samples: Rows that all trials would have been trained on without stops.
        pictures: The figures.
        folder: Where it lies.
        held: What a fit holds while it trains, for example ``{"CPU": 2.0}``.
        cost: The second goal; None where there is none.
        command: What runs the winner; "" where the configuration as it is stays.
    """

    title: str
    quality: str
    records: Sequence[TrialRecord]
    finalists: Sequence[Finalist]
    winner: Finalist
    test: Mapping[str, Any]
    num_select: int
    full_samples: int
    pictures: Sequence[Picture]
    folder: str
    held: Mapping[str, float]
    cost: str | None = None
    command: str = ""

    @property
    def num_samples(self) -> int:
        """Rows trained on by trials and finals; a fit of both counts once."""
        trained = [*self.finalists, *self._trained_apart]
        return sum(one.num_samples for one in trained)

    @property
    def hours(self) -> dict[str, float]:
        """Hours of what trials and finals held while they trained; a fit of both counts once."""
        seconds = sum(one.seconds for one in [*self.finalists, *self._trained_apart])
        return {name: seconds / SECONDS_PER_HOUR * held for name, held in self.held.items()}

    @property
    def _trained_apart(self) -> list[TrialRecord]:
        """Trials whose fit is not one of the finals."""
        shared = {one.number for one in self.finalists}
        return [one for one in self.records if not (one.number in shared and one.state == FINISHED)]
