"""What student and teacher say of the unlabeled samples that may be asked for."""

# B samples of a unit, C classes.

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, softmax

from mke_ray.ask.drawing import Group
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.evaluation.unit_rows import read_columns, usable_rows
from mke_ray.labels.index import Index
from mke_ray.labels.probe import probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelKind, ManifestRow, Split


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample is.

    Args:
        ref: Its unit.
        row: Its row there.
    """

    ref: UnitRef
    row: int


@dataclass(slots=True)
class Pool:
    """The groups of a part of the probe-to-be; a few hundred bytes for each of their samples.

    Args:
        places: Per group where its samples are.
        differing: Groups in which student and teacher disagree on a sample.
        unusable: Groups with a sample that cannot be read, or is marked.
        probabilities: What the student says of each sample, float16, by group.
    """

    places: dict[str, list[Place]] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    unusable: set[str] = field(default_factory=set)
    probabilities: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def groups(self, *, most: int) -> list[Group]:
        """Return the groups that can be asked for.

        Args:
            most: Samples of the largest of them.
        """
        return [
            Group(name, len(places), name in self.differing)
            for name, places in self.places.items()
            if name not in self.unusable and len(places) <= most
        ]


@dataclass(frozen=True, slots=True)
class PoolReader:
    """Reads the pool.

    Args:
        manifest: The samples.
        labels: The teacher's logits.
        predictions: The student's logits.
        fit: Column of the student.
        part: Part of the probe whose groups are wanted.
        select_fraction: Share of the groups that is the select part.
    """

    manifest: Manifest
    labels: UnitStore
    predictions: UnitStore
    fit: str
    part: str
    select_fraction: float

    def read(self) -> Pool:
        """Return the groups that are in no other split, so that they are new to everything."""
        pool, known = Pool(), self._known_groups()
        indexes = (self.labels.read_index(), self.predictions.read_index())
        for ref in self.manifest.unit_refs([Split.UNLABELED]):
            rows = self.manifest.read_unit(ref)
            wanted = [
                number
                for number, row in enumerate(rows)
                if row.group not in known and self._part(row.group) == self.part
            ]
            if wanted:
                self._add(pool, ref, rows, wanted, indexes)
        return pool

    def _known_groups(self) -> Collection[str]:
        refs = self.manifest.unit_refs([Split.LABELLED, Split.PROBE, Split.TEST])
        return {row.group for ref in refs for row in self.manifest.read_unit(ref)}

    def _part(self, group: str) -> str:
        return probe_part(group, select_fraction=self.select_fraction)

    def _add(
        self,
        pool: Pool,
        ref: UnitRef,
        rows: list[ManifestRow],
        wanted: list[int],
        indexes: tuple[Index, Index],
    ) -> None:
        labels, predictions = indexes
        students = read_columns(self.predictions, predictions, ref, rows, ["status", self.fit])
        teachers = read_columns(self.labels, labels, ref, rows, ["logits"])
        usable_B = usable_rows(students)
        said = (students.column(self.fit).to_pylist(), teachers.column("logits").to_pylist())
        for number in wanted:
            group, student, teacher = rows[number].group, said[0][number], said[1][number]
            pool.places.setdefault(group, []).append(Place(ref, number))
            if rows[number].mark or not usable_B[number] or student is None:
                pool.unusable.add(group)
                continue
            probability_C = self._probability(student)
            pool.probabilities.setdefault(group, []).append(probability_C.astype(np.float16))
            if teacher is None or self._names(student) != self._names(teacher):
                pool.differing.add(group)

    @property
    def _is_multi(self) -> bool:
        return self.manifest.label_space.kind is LabelKind.MULTI

    def _probability(self, logits: list[float]) -> np.ndarray:
        return expit(np.array(logits)) if self._is_multi else softmax(np.array(logits))

    def _names(self, logits: list[float]) -> frozenset[int]:
        """Return the classes that logits name."""
        if self._is_multi:
            return frozenset(np.flatnonzero(np.array(logits) > 0).tolist())
        return frozenset([int(np.argmax(logits))])


def asked_rows(
    manifest: Manifest, pool: Pool, groups: Collection[str]
) -> Iterator[tuple[str, Place, ManifestRow]]:
    """Yield the samples of some groups, reading each unit once."""
    by_unit: dict[str, list[tuple[str, Place]]] = {}
    for group in groups:
        for place in pool.places[group]:
            by_unit.setdefault(place.ref.unit, []).append((group, place))
    for ones in by_unit.values():
        rows = manifest.read_unit(ones[0][1].ref)
        for group, place in ones:
            yield group, place, rows[place.row]
