"""What a labelling pass will take, from some samples that were read: time, bytes, cost, storage."""

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.probing import Probed
from mke_ray.expansion.requests import Requests, pass_requests
from mke_ray.labels.pass_state import SECONDS_PER_HOUR, cost_of
from mke_ray.labels.pass_words import bytes_text, time_text
from mke_ray.labels.rows import StoredRow

LABEL_BYTES_PER_CLASS = 4

_LEAST_HOURS = 0.001

_ASSUMED = (
    "  assumed       one stage after the other; samples and teacher as fast as here, one sample at "
    "a time;\n"
    "                workers that are there and as many as said; labels not compressed"
)


@dataclass(frozen=True, slots=True)
class Each:
    """Means over the samples of a source.

    Args:
        fetch_s: Seconds to fetch one.
        decode_s: Seconds of one core to decode and encode one.
        read_bytes: Bytes fetched.
        needed_bytes: Bytes of those that hold the sample.
        stored_bytes: Bytes stored.
        media_s: Seconds of media.
    """

    fetch_s: float
    decode_s: float
    read_bytes: float
    needed_bytes: float
    stored_bytes: float
    media_s: float


@dataclass(frozen=True, slots=True)
class Workers:
    """What the pass runs on.

    Args:
        num_actors: Actors side by side.
        num_threads: Samples that each decodes side by side.
        said: Where these numbers come from.
        num_teachers: Actors of the teachers, where they have their own; None otherwise.
    """

    num_actors: int
    num_threads: int
    said: str
    num_teachers: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the pass will take.

    Args:
        num_samples: Samples of the pass.
        each: Means over the samples.
        teacher_s: Seconds of the teacher per sample, None where it could not be timed.
        workers: What the pass runs on.
        num_classes: Classes of the labels.
        cost_per_hour: Cost of the whole cluster per hour, None where it is not known.
        num_stores: Label stores that are written, one per teacher.
        label_bytes_each: Bytes of a label before compression; None takes 4 bytes for each class.
        refining_bytes: Bytes of the stores of refining, if all rounds are needed; 0 of none.
        unit_size: Samples of a unit.
    """

    num_samples: int
    each: Each
    teacher_s: float | None
    workers: Workers
    num_classes: int
    cost_per_hour: float | None = None
    num_stores: int = 1
    label_bytes_each: int | None = None
    refining_bytes: float = 0.0
    unit_size: int = 32

    @property
    def num_units(self) -> int:
        """Units of the pass, of which the last of each split may have fewer samples."""
        return math.ceil(self.num_samples / self.unit_size)

    @property
    def requests(self) -> Requests:
        """What the pass asks of an object store that its root lies in."""
        return pass_requests(self.num_units, num_stores=1 + self.num_stores)

    @property
    def wall_s(self) -> float:
        """Wall-clock time, without the start of the workers."""
        reading_s = (self.each.fetch_s + self.each.decode_s) / self.workers.num_threads
        teacher_s = self.teacher_s or 0.0
        if self.workers.num_teachers is None:
            return self.num_samples * (reading_s + teacher_s) / self.workers.num_actors
        slower_s = max(reading_s / self.workers.num_actors, teacher_s / self.workers.num_teachers)
        return self.num_samples * slower_s

    @property
    def decode_core_s(self) -> float:
        """Seconds of cores that decoding takes."""
        return self.num_samples * self.each.decode_s

    @property
    def label_bytes(self) -> int:
        """Bytes of the labels of all teachers, before compression."""
        each = self.label_bytes_each or LABEL_BYTES_PER_CLASS * self.num_classes
        return self.num_samples * each * self.num_stores

    @property
    def cost(self) -> float | None:
        """Cost of the pass, None where it is not known."""
        return cost_of(self.wall_s, self.cost_per_hour)


def means(probed: Sequence[Probed], splits: Mapping[str, int]) -> Each:
    """Return the means over all samples of a source: of each split, as many as it has.

    The time of the first sample counts only if it is the only one: it opens connections and loads
    decoders. A split of which nothing was read has the means of the others.

    Args:
        probed: Samples that were read.
        splits: Number of samples by split.
    """
    timed = probed[1:] or probed
    of_timed, of_all = _weights(timed, splits), _weights(probed, splits)
    return Each(
        fetch_s=_mean(timed, of_timed, lambda one: one.fetch_s),
        decode_s=_mean(timed, of_timed, lambda one: one.spent_s - one.fetch_s),
        read_bytes=_mean(probed, of_all, lambda one: one.num_bytes_read),
        needed_bytes=_mean(probed, of_all, lambda one: one.num_bytes_needed),
        stored_bytes=_mean(probed, of_all, _stored_bytes),
        media_s=_mean(probed, of_all, lambda one: one.duration_s),
    )


def workers_of(job: JobConfig, *, is_cluster: bool) -> Workers:
    """Return what a pass will run on, as far as the configuration and this machine say.

    Args:
        job: The configuration.
        is_cluster: Whether it joins a cluster, of which nothing is known before.
    """
    labelling = job.labelling
    if labelling.plan == "split" and labelling.runner == "ray":
        alone = replace(job, labelling=replace(labelling, plan="fused"))
        pool = labelling.teachers_pool
        num_teachers = pool.max_actors or pool.min_actors
        return replace(workers_of(alone, is_cluster=is_cluster), num_teachers=num_teachers)
    num_threads = max(1, int(labelling.num_cpus))
    if labelling.runner == "local":
        return Workers(1, num_threads, "labelling.runner=local")
    if is_cluster:
        said = "labelling.max_actors" if labelling.max_actors else "one actor, as no number is set"
        return Workers(labelling.max_actors or 1, num_threads, said)
    cores = os.cpu_count() or 1
    fitting = max(1, int(cores / labelling.num_cpus))
    num_actors = min(labelling.max_actors or fitting, fitting)
    return Workers(num_actors, min(num_threads, cores), f"{cores} cores of this machine")


def estimate_lines(
    one: Estimate, *, least: str = "", is_local: bool = True, training: Sequence[str] = ()
) -> list[str]:
    """Return an estimate in lines for a person, with what it assumes.

    Args:
        one: The estimate.
        least: Put before every sum, for example ``at least`` where not all samples were counted.
        is_local: Whether the root lies on a disk, which bills no requests.
        training: Lines on the training, where anything is known of it.
    """
    least = f"{least} " if least else ""
    each = one.each
    lines = [
        f"  decode        {least}{_hours(one.decode_core_s)} core-hours "
        f"({_each(each.decode_s)} each), "
        f"fetch {_hours(one.num_samples * each.fetch_s)} h ({_each(each.fetch_s)} each)",
        f"  teacher       {least}{_teacher(one)}",
        f"  wall time     {least}{time_text(one.wall_s)} on {_actors(one.workers)}; "
        f"training {'comes on top' if training else 'not counted'}",
        *training,
    ]
    if each.read_bytes:
        share = each.needed_bytes / each.read_bytes
        lines.append(
            f"  to read       {least}{bytes_text(one.num_samples * each.read_bytes)} "
            f"({share:.0%} needed), {_hours(one.num_samples * each.media_s)} h of media"
        )
    lines.append(
        f"  storage       {least}{bytes_text(one.num_samples * each.stored_bytes)} of samples "
        f"({bytes_text(each.stored_bytes)} each), {bytes_text(one.label_bytes)} of labels "
        f"({_label_each(one)})"
    )
    if one.refining_bytes:
        lines.append(
            f"                {least}{bytes_text(one.refining_bytes)} of answers and refined "
            "labels, if all rounds are needed"
        )
    if not is_local:
        asked = one.requests
        lines.append(
            f"  requests      {least}{asked.puts:,} that write, {asked.gets:,} that read, "
            f"{asked.lists:,} that list, of {one.num_units:,} units; the source not counted"
        )
    if one.cost is not None:
        lines.append(
            f"  cost          {least}{one.cost:,.2f} (labelling.cost_per_hour x wall time)"
        )
    return [*lines, _ASSUMED]


def _label_each(one: Estimate) -> str:
    if one.label_bytes_each in (None, LABEL_BYTES_PER_CLASS * one.num_classes):
        return f"{LABEL_BYTES_PER_CLASS} bytes x {one.num_classes} classes each"
    return f"{bytes_text(one.label_bytes_each)} each"


def _weights(probed: Sequence[Probed], splits: Mapping[str, int]) -> list[float]:
    """Return how many samples of the source each one that was read stands for."""
    read = Counter(one.row.split for one in probed)
    return [splits.get(one.row.split, 0) / read[one.row.split] for one in probed]


def _mean(
    probed: Sequence[Probed], weights: Sequence[float], of: Callable[[StoredRow], float]
) -> float:
    weighed = sum(weight * of(one.stored) for one, weight in zip(probed, weights, strict=True))
    return weighed / (sum(weights) or 1.0)


def _stored_bytes(row: StoredRow) -> int:
    return sum(len(piece) for pieces in row.pieces.values() for piece in pieces)


def _teacher(one: Estimate) -> str:
    if one.teacher_s is None:
        return "not timed: none of the samples read has its modality"
    hours = _hours(one.num_samples * one.teacher_s)
    return f"{hours} h ({_each(one.teacher_s)} each)"


def _actors(workers: Workers) -> str:
    actors = "1 actor" if workers.num_actors == 1 else f"{workers.num_actors} actors"
    threads = "1 thread" if workers.num_threads == 1 else f"{workers.num_threads} threads"
    teachers = f" and {workers.num_teachers} of teachers" if workers.num_teachers else ""
    return f"{actors} of {threads} ({workers.said}){teachers}"


def _hours(spent_s: float) -> str:
    hours = spent_s / SECONDS_PER_HOUR
    if hours < _LEAST_HOURS:
        return f"under {_LEAST_HOURS}"
    return f"{hours:,.{0 if hours >= 100 else 2 if hours >= 1 else 3}f}"


def _each(spent_s: float) -> str:
    return f"{spent_s:,.1f} s" if spent_s >= 1 else f"{1000 * spent_s:.3g} ms"
