"""A search in MLflow: one run, and below it one per trial, closed as what became of it."""

from collections.abc import Sequence
from typing import Any

from mke_ray.search.finals import Finalist
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord
from mke_ray.tracking import Tracker

_STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}


class TrialRuns:
    """The runs of trials; each is opened when its trial has ended, so that none is left running.

    Args:
        tracker: The run of the search; None records nothing.
    """

    def __init__(self, tracker: Tracker | None) -> None:
        self._tracker = tracker

    def add(self, record: TrialRecord, **tags: str) -> None:
        """Record one trial; recording it again adds nothing."""
        if self._tracker is None:
            return
        child = self._tracker.child(f"trial {record.number}", dict(record.params))
        child.log_history(
            {"step": one["step"], "select": one["metric"], "quality": one["quality"]}
            for one in record.curve
        )
        child.log_metrics({"seconds": record.seconds, "samples": record.num_samples})
        child.set_tags({"state": record.state, "reason": record.reason, **tags})
        child.finish(_STATUS[record.state])

    def finish(
        self,
        records: Sequence[TrialRecord],
        finalists: Sequence[Finalist],
        winner: Finalist,
        test: dict[str, Any],
    ) -> None:
        """Record the finals and the winner, and close the run of the search."""
        if self._tracker is None:
            return
        by_number = {one.number: one for one in records}
        for one in finalists:
            is_winner = one.number == winner.number
            tags = {"final_mean": f"{one.mean:.6g}", "winner": str(is_winner).lower()}
            self.add(by_number[one.number], **tags)
        said = {"winner": f"trial {winner.number}", "final_mean": f"{winner.mean:.6g}"}
        self._tracker.set_tags(said)
        numbers = {name: one["value"] for name, one in test.items() if isinstance(one, dict)}
        self._tracker.log_metrics({"test": numbers, "final_mean": winner.mean})
        self._tracker.finish()
