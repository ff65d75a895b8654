"""From logits and true labels to arms with intervals, one unit at a time."""

# B samples of a unit, N samples of a part, C classes.

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mke_ray.batching import batched
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import ConfigError, StoreError
from mke_ray.evaluation.answers import Part, UnitAnswers
from mke_ray.evaluation.predictions import FitColumn, refs_with_truth
from mke_ray.evaluation.results import (
    TEACHER,
    Evaluation,
    Flow,
)
from mke_ray.evaluation.scores import measure_arms
from mke_ray.evaluation.showcase import ConfidenceTally, Showcase
from mke_ray.labels.index import Index
from mke_ray.labels.probe import probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, Split, Status

GATE = "gate"
SELECT = "select"

_NUM_READ_THREADS = 8
_UNITS_PER_ROUND = 64
_USABLE = (Status.OK, Status.PARTIAL)


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is compared.

    Args:
        manifest: True labels, groups and splits.
        labels: The teacher's logits.
        predictions: The students' logits.
        columns: One entry per arm and seed.
        shipped: Arm that is put in front of the gate; its first seed gives the examples.
        temperature: Divides logits for confidences; the metrics do not depend on it.
        probe_seed: Seed of the division of the probe.
        select_fraction: Share of the probe's groups that is the select part.
        trained_on_select: Arms that learned from the select part, so that it says nothing of them.
    """

    manifest: Manifest
    labels: UnitStore
    predictions: UnitStore
    columns: Sequence[FitColumn]
    shipped: str
    temperature: float = 1.0
    probe_seed: int = 0
    select_fraction: float = 0.5
    trained_on_select: Collection[str] = ()

    def by_arm(self) -> dict[str, dict[int, str]]:
        """Return ``{arm: {seed: column}}``, the teacher first."""
        arms: dict[str, dict[int, str]] = {TEACHER: {0: TEACHER}}
        for one in self.columns:
            arms.setdefault(one.arm, {})[one.seed] = one.fit
        return arms


def evaluate(plan: EvaluationPlan) -> Evaluation:
    """Compare all arms with the teacher on test, probe, and the unlabeled rows with a known truth.

    Rows that are marked in the manifest do not exist here. Rows whose file is bad, or could not be
    read yet, are left out for all arms and counted. On the rest every arm answers every sample: a
    classifier that has none of the modalities it reads names no class and is wrong there. Values of
    several seeds are averaged; the intervals resample groups of samples and say nothing of the
    spread between seeds, which is kept beside them.

    Raises:
        StoreError: A store lacks a unit or holds other rows than the manifest.
        ConfigError: Labels are dense, or there is no test sample with a label.
    """
    space = plan.manifest.label_space
    if space.kind is LabelKind.DENSE:
        raise ConfigError("label kind 'dense' cannot be evaluated yet; use single or multi")
    tally = _Tally(plan)
    for ref, answers, num_unusable in _UnitReader(plan).units():
        tally.num_excluded += num_unusable if ref.split == Split.TEST else 0
        if answers.groups:
            tally.add(ref, answers)
    return tally.result()


class _Tally:
    """Everything that grows while units stream by."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self.plan = plan
        self.parts = {name: Part() for name in (Split.TEST, SELECT, GATE)}
        self.flows = {one.fit: Flow() for one in plan.columns}
        self.num_excluded = 0
        self.confidence = ConfidenceTally()
        shipped = plan.by_arm().get(plan.shipped, {})
        self.showcase = Showcase(next(iter(shipped.values()), None))

    def add(self, ref: UnitRef, answers: UnitAnswers) -> None:
        """Add the usable rows of one unit to what they belong to."""
        is_multi = self.plan.manifest.label_space.kind is LabelKind.MULTI
        if ref.split == Split.TEST:
            self.parts[Split.TEST].add(answers, keep_logits=is_multi)
            self.showcase.add(ref.unit, answers)
        elif ref.split == Split.UNLABELED:
            self.confidence.add(answers)
            for fit in self.flows:
                self.flows[fit] = answers.add_flow(self.flows[fit], fit)
        else:
            self._add_probe(answers, keep_logits=is_multi)

    def result(self) -> Evaluation:
        """Return what was found."""
        plan, test = self.plan, self.parts[Split.TEST]
        if not test.groups:
            raise ConfigError(
                "the test split has no readable sample with a true label; add labelled rows with "
                "split=test to the source"
            )
        arms = plan.by_arm()
        columns = [column for seeds in arms.values() for column in seeds.values()]
        flows = {arm: self._mean_flow(arm, seeds) for arm, seeds in arms.items()}
        some_flow = next(iter(self.flows.values()), Flow())
        measured = measure_arms(arms, test=test, select=self.parts[SELECT], flows=flows)
        return Evaluation(
            metric="map" if plan.manifest.label_space.kind is LabelKind.MULTI else "accuracy",
            arms={
                arm: replace(one, select=None) if arm in plan.trained_on_select else one
                for arm, one in measured.items()
            },
            columns={arm: tuple(seeds.values()) for arm, seeds in arms.items()},
            teacher_flow=some_flow if some_flow.num else None,
            test=test.to_scores(columns),
            select=self.parts[SELECT].to_scores(columns),
            gate=self.parts[GATE].to_scores(columns),
            num_excluded=self.num_excluded,
            confidence=self.confidence.bins(),
            examples=self.showcase.examples(),
        )

    def _add_probe(self, answers: UnitAnswers, *, keep_logits: bool) -> None:
        """Add each row of a probe unit to its part."""
        part_B = np.array(
            [
                probe_part(
                    group, seed=self.plan.probe_seed, select_fraction=self.plan.select_fraction
                )
                for group in answers.groups
            ],
            dtype=object,
        )
        for name in (SELECT, GATE):
            chosen = answers.rows(np.flatnonzero(part_B == name))
            if chosen.groups:
                self.parts[name].add(chosen, keep_logits=keep_logits)
                if name == SELECT:
                    self.confidence.add(chosen)

    def _mean_flow(self, arm: str, seeds: Mapping[int, str]) -> Flow | None:
        """Return what an arm did to the teacher's answers, the mean over its seeds."""
        flows = [self.flows[column] for column in seeds.values() if column in self.flows]
        if arm == TEACHER or not flows or not flows[0].num:
            return None
        return Flow(
            flows[0].num,
            flows[0].num_wrong,
            float(np.mean([one.num_corrected for one in flows])),
            float(np.mean([one.num_corrupted for one in flows])),
        )


class _UnitReader:
    """Reads the answers to one unit after the other, several at a time."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self._plan = plan
        self._space = plan.manifest.label_space
        self._fits = sorted({one.fit for one in plan.columns})
        self._labels = plan.labels.read_index()
        self._predictions = plan.predictions.read_index()

    def units(self) -> Iterator[tuple[UnitRef, UnitAnswers, int]]:
        """Yield, in order, units with their usable rows and the number of unusable ones."""
        refs = refs_with_truth(self._plan.manifest)
        with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
            for some in batched(refs, _UNITS_PER_ROUND):
                yield from pool.map(self._read, some)

    def _read(self, ref: UnitRef) -> tuple[UnitRef, UnitAnswers, int]:
        """Read one unit of three stores."""
        plan, rows = self._plan, self._plan.manifest.read_unit(ref)
        teacher = _read(plan.labels, self._labels, ref, rows, ["logits"])
        students = _read(plan.predictions, self._predictions, ref, rows, ["status", *self._fits])
        logits = {TEACHER: _logits(teacher, "logits", self._space)}
        logits |= {fit: _logits(students, fit, self._space) for fit in self._fits}
        usable_B = np.isin(students.column("status").to_pylist(), [str(one) for one in _USABLE])
        known_B = np.array([not row.mark and _is_known(row, self._space) for row in rows])
        answers = UnitAnswers.of_rows(rows, logits, space=self._space, temperature=plan.temperature)
        return (
            ref,
            answers.rows(np.flatnonzero(known_B & usable_B)),
            int((known_B & ~usable_B).sum()),
        )


def _read(
    store: UnitStore, index: Index, ref: UnitRef, rows: list[ManifestRow], columns: list[str]
) -> pa.Table:
    """Return columns of a unit, after a comparison of its rows with the manifest's."""
    table = store.read(ref.unit, location=index.location(ref.unit), columns=["sample_id", *columns])
    found_B = table.column("sample_id").to_numpy()
    if not np.array_equal(found_B, [row.sample_id for row in rows]):
        raise StoreError(
            f"{store.root.uri}: unit {ref.unit} holds other samples than the manifest; it was "
            "made from another source, use another root"
        )
    return table


def _logits(table: pa.Table, column: str, space: LabelSpace) -> np.ndarray:
    """Return logits [B, C], NaN where there are none."""
    rows = table.column(column).to_pylist()
    missing = [np.nan] * space.num_classes
    return np.array([missing if row is None else row for row in rows], dtype=np.float32)


def _is_known(row: ManifestRow, space: LabelSpace) -> bool:
    """Return whether the truth of a row is known; no class at all is one where many may hold."""
    return row.labels is not None if space.kind is LabelKind.MULTI else bool(row.labels)
