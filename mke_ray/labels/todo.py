"""Which units of a pass are still to be worked on."""

from collections.abc import Callable, Collection, Sequence

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import ConfigError
from mke_ray.labels.index import STATUS_CODES, Index
from mke_ray.schema import Status

TRANSIENT = "io"

ReasonsOf = Callable[[str], Collection[str]]

_RETRY_CODE = STATUS_CODES.index(Status.RETRY)


def retry_reasons(retry: str | Sequence[str] | None) -> frozenset[str]:
    """Return the reasons for which samples are read again.

    Args:
        retry: ``io`` for all that ended as ``retry``, the reason of a bad sample, several, or None.

    Raises:
        ConfigError: It is something else.
    """
    reasons = [retry] if isinstance(retry, str) else list(retry or ())
    if all(isinstance(one, str) and one.isidentifier() for one in reasons):
        return frozenset(reasons)
    raise ConfigError(
        f"retry={retry!r}; give io, which reads again what ended as retry, or reasons of bad "
        "samples as the report shows them, for example retry=[io,timeout]"
    )


def no_reasons(split: str) -> Collection[str]:
    """Return the reasons for which samples of a split are read again: none."""
    del split
    return ()


def units_to_do(
    refs: Sequence[UnitRef],
    samples: Index,
    labels: Sequence[Index],
    *,
    retry_of: ReasonsOf = no_reasons,
) -> list[UnitRef]:
    """Return the units that are not at their end.

    They lack samples or labels, their labels are of older samples, or they hold samples to read
    again.

    Args:
        refs: Units wanted.
        samples: What the sample store holds.
        labels: What the label store of each teacher holds.
        retry_of: Reasons for which samples of a split are read again.
    """
    return [
        ref
        for ref in refs
        if ref.unit not in samples
        or any(is_behind(ref.unit, one, samples.revision(ref.unit)) for one in labels)
        or wants_retry(samples, ref.unit, retry_of(ref.split))
    ]


def is_behind(unit: str, derived: Index, revision: int) -> bool:
    """Return whether what was computed of the samples of a unit is not there, or of older ones."""
    return unit not in derived or derived.of_revision(unit) < revision


def wants_retry(samples: Index, unit: str, retry: Collection[str]) -> bool:
    """Return whether a unit may hold a sample to read again; which one says its table."""
    if not retry:
        return False
    if TRANSIENT in retry and (samples.status(unit) == _RETRY_CODE).any():
        return True
    found = (one for several in samples.reasons(unit) for one in several.split(", "))
    return any(one in retry for one in found)
