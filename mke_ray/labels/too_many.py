"""The stop of a pass over a source of which too much cannot be read: which samples, and why."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import MediaError, MkeRayError
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.unreadable import LIST_NAME, UnreadableSample, unreadable_of, write_list
from mke_ray.schema import Status, StatusCounts

_MAX_UNITS = 1000
_NUM_THREADS = 16
_NUM_SHOWN = 5
_MAX_LETTERS = 120


def too_many_unreadable(
    plan: LabelPlan, counts: StatusCounts, *, num_wanted: int, units: Collection[str]
) -> MediaError:
    """List what could not be read so far in a file of the run, and return the error of the stop.

    Args:
        plan: The plan of the pass.
        counts: What became of the samples so far.
        num_wanted: Samples of the whole pass.
        units: Units with samples that cannot be read; the first of them are listed.
    """
    examples, listed = _listed(plan, frozenset(islice(units, _MAX_UNITS)))
    ranked = sorted(counts.reasons.items(), key=lambda one: (-one[1], one[0]))
    reasons = ", ".join(f"{reason} {number}" for reason, number in ranked)
    return MediaError(
        "too_many_unreadable",
        f"{counts.bad + counts.retry} of {num_wanted} samples cannot be read, more than "
        f"labelling.max_bad_fraction={plan.max_bad_fraction:g} allows ({reasons}){examples}; "
        f"{listed}. {_way_out(counts)}",
    )


def _way_out(counts: StatusCounts) -> str:
    """Say what to do about samples that cannot be read."""
    if counts.retry > counts.bad:
        return (
            "Most of them failed because the store of the source did not answer: start the job "
            "again with retry=io when it does"
        )
    return "Look at these files in the source, or raise labelling.max_bad_fraction"


def _listed(plan: LabelPlan, units: frozenset[str]) -> tuple[str, str]:
    """Write the list, and return some examples and where the list is, for the error.

    A store that fails takes nothing of what the error says about the samples.
    """
    try:
        some = _unreadable(plan, units)
        write_list(plan, some)
    except (MkeRayError, OSError) as error:
        return "", f"they could not be listed ({' '.join(str(error).split())})"
    examples = ", ".join(f"{one.key} ({_short(one.error)})" for one in some[:_NUM_SHOWN])
    how_many = f"{len(some):,} of those found so far"
    return f"; for example {examples}", f"{how_many} are in {plan.root.child(LIST_NAME).uri}"


def _unreadable(plan: LabelPlan, units: frozenset[str]) -> list[UnreadableSample]:
    """Return what is stored as unreadable in some units, in the manifest's order."""
    refs = [ref for ref in plan.manifest.unit_refs() if ref.unit in units]

    def read(ref: UnitRef) -> list[UnreadableSample]:
        location = plan.samples.find(ref.unit)
        if location is None:
            return []
        return unreadable_of(plan.samples, plan.manifest, ref, location)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = chain.from_iterable(pool.map(read, refs))
        return [one for one in found if one.status != Status.PARTIAL]


def _short(reason: str) -> str:
    """Return a reason that fits into a message."""
    return reason if len(reason) <= _MAX_LETTERS else f"{reason[:_MAX_LETTERS]}..."
