"""What a dry run sees of a source: how many samples there are, and what reading some takes."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

import numpy as np

from mke_ray.data.manifest import manifest_row
from mke_ray.data.sources import Source, SourceRow
from mke_ray.errors import ConfigError
from mke_ray.labels.probe import GATE, probe_part
from mke_ray.labels.rows import StoredRow, decode_row
from mke_ray.schema import DecodeSpec, Split, Status

MAX_COUNTED = 200_000
NUM_PROBED = 16
MAX_TRIES = 50
PROBE_S = 30.0


@dataclass(slots=True)
class Census:
    """What a source lists.

    Args:
        splits: Samples by split.
        num_gate: Samples in the gate's part of the probe.
        is_whole: Whether all samples were counted.
        drawn: Some rows of every split.
        gate_groups: Samples of each group of the gate's part.
    """

    splits: Counter[str] = field(default_factory=Counter)
    num_gate: int = 0
    is_whole: bool = True
    drawn: dict[str, list[SourceRow]] = field(default_factory=dict)
    gate_groups: Counter[str] = field(default_factory=Counter)

    @property
    def num_samples(self) -> int:
        """Samples counted."""
        return sum(self.splits.values())

    def in_turn(self) -> Iterator[SourceRow]:
        """Yield the drawn rows, one of each split after the other."""
        for one in chain.from_iterable(zip_longest(*self.drawn.values())):
            if one is not None:
                yield one


@dataclass(frozen=True, slots=True)
class Probed:
    """One sample that was read.

    Args:
        row: The sample.
        stored: What of it would be stored, and what that took.
    """

    row: SourceRow
    stored: StoredRow


def census(source: Source, *, select_fraction: float) -> Census:
    """Count the samples of a source and draw some of every split, each as likely as any other.

    Args:
        source: The source.
        select_fraction: Share of the probe's groups that is the select part.
    """
    found, chance = Census(), np.random.default_rng(0)
    for row in islice(source.rows(), MAX_COUNTED):
        found.splits[row.split] += 1
        is_probe = row.split == Split.PROBE
        if is_probe and probe_part(row.group, select_fraction=select_fraction) == GATE:
            found.num_gate += 1
            found.gate_groups[row.group] += 1
        drawn = found.drawn.setdefault(row.split, [])
        if len(drawn) < MAX_TRIES:
            drawn.append(row)
        elif (place := int(chance.integers(found.splits[row.split]))) < MAX_TRIES:
            drawn[place] = row
    found.is_whole = found.num_samples < MAX_COUNTED
    return found


def probe(
    source: Source, rows: Iterator[SourceRow], decode: DecodeSpec
) -> tuple[list[Probed], list[Probed]]:
    """Read some samples one after the other, as the pass does.

    Args:
        source: The source.
        rows: Samples to try.
        decode: What is stored of every modality.

    Returns:
        Those that can be read, and those that cannot.

    Raises:
        ConfigError: None of them can be read.
    """
    reader = source.reader(decode)
    good: list[Probed] = []
    bad: list[Probed] = []
    start_s = time.perf_counter()
    for row in islice(rows, MAX_TRIES):
        stored = decode_row(reader, manifest_row(row), decode)
        (good if stored.status in (Status.OK, Status.PARTIAL) else bad).append(Probed(row, stored))
        is_late = time.perf_counter() - start_s > PROBE_S
        if len(good) == NUM_PROBED or (good and is_late):
            break
    if not good:
        raise _none_readable(bad)
    return good, bad


def _none_readable(bad: list[Probed]) -> ConfigError:
    """Return the error for a source of which nothing can be read."""
    if not bad:
        return ConfigError("source: it lists no samples; look at source.root and source.table")
    reasons = Counter(next(iter(one.stored.missing.values())) for one in bad)
    first = f"{bad[0].row.key}: {bad[0].stored.error}"
    return ConfigError(
        f"source: none of {len(bad)} samples that were tried can be read ({dict(reasons)}; the "
        f"first is {first}); look at source.root and the files"
    )
