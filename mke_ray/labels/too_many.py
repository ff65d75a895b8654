"""The stop of a pass over a source of which too much cannot be read: which samples, and why."""

import csv
import io
from itertools import islice

from mke_ray.errors import MediaError
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.verify import UnreadableSample, unreadable_samples
from mke_ray.schema import Status, StatusCounts

LIST_NAME = "report/unreadable.csv"

_MAX_LISTED = 10_000
_NUM_SHOWN = 5
_MAX_LETTERS = 120


def too_many_unreadable(plan: LabelPlan, counts: StatusCounts, *, num_wanted: int) -> MediaError:
    """List what could not be read so far in a file of the run, and return the error of the stop.

    Args:
        plan: The plan of the pass.
        counts: What became of the samples so far.
        num_wanted: Samples of the whole pass.
    """
    some = _first_ones(plan)
    plan.root.write(LIST_NAME, _table(some))
    ranked = sorted(counts.reasons.items(), key=lambda one: (-one[1], one[0]))
    reasons = ", ".join(f"{reason} {number}" for reason, number in ranked)
    examples = ", ".join(f"{one.key} ({_short(one.error)})" for one in some[:_NUM_SHOWN])
    listed = f"the first {_MAX_LISTED:,}" if len(some) == _MAX_LISTED else "all found so far"
    return MediaError(
        "too_many_unreadable",
        f"{counts.bad + counts.retry} of {num_wanted} samples cannot be read, more than "
        f"labelling.max_bad_fraction={plan.max_bad_fraction:g} allows ({reasons}); for example "
        f"{examples}; {listed} are in {plan.root.child(LIST_NAME).uri}. Look at these files in "
        "the source, or raise labelling.max_bad_fraction",
    )


def _first_ones(plan: LabelPlan) -> list[UnreadableSample]:
    """Return the first samples that are stored as unreadable."""
    found = unreadable_samples(plan.samples, plan.manifest, plan.samples.index())
    return list(islice((one for one in found if one.status != Status.PARTIAL), _MAX_LISTED))


def _table(samples: list[UnreadableSample]) -> bytes:
    """Return samples as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["key", "split", "status", "reason"])
    writer.writerows((one.key, one.split, one.status, one.error) for one in samples)
    return text.getvalue().encode()


def _short(reason: str) -> str:
    """Return a reason that fits into a message."""
    return reason if len(reason) <= _MAX_LETTERS else f"{reason[:_MAX_LETTERS]}..."
