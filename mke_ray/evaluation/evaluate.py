"""From logits and true labels to arms with intervals, one unit at a time."""

# B samples of a unit, N samples of a part, C classes.

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.evaluation.answers import Part, UnitAnswers
from mke_ray.evaluation.dense import evaluate_dense
from mke_ray.evaluation.diagnosis import DiagnosisTally
from mke_ray.evaluation.plan import GATE, RELABELLED, SELECT, EvaluationPlan
from mke_ray.evaluation.predictions import refs_with_truth
from mke_ray.evaluation.results import TEACHER, Evaluation, Flow
from mke_ray.evaluation.scores import measure_arms
from mke_ray.evaluation.showcase import ConfidenceTally, Showcase
from mke_ray.evaluation.unit_rows import (
    check_tested,
    mean_flow,
    parts_of,
    read_columns,
    usable_rows,
)
from mke_ray.labels.unit_reading import read_in_order
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, Split


def evaluate(plan: EvaluationPlan) -> Evaluation:
    """Compare all arms with the teacher on test, probe, and the unlabeled rows with a known truth.

    Rows that are marked in the manifest do not exist here. Rows whose file is bad, or could not be
    read yet, are left out for all arms and counted. On the rest every arm answers every sample: a
    classifier that has none of the modalities it reads names no class and is wrong there. Values of
    several seeds are averaged; the intervals resample groups of samples and say nothing of the
    spread between seeds, which is kept beside them.

    Raises:
        StoreError: A store lacks a unit or holds other rows than the manifest.
        ConfigError: There is no test sample with a label.
    """
    if plan.manifest.label_space.kind is LabelKind.DENSE:
        return evaluate_dense(plan)
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
        columns = [one for seeds in plan.by_arm().values() for one in seeds.values()]
        self.flows = {one: Flow() for one in columns if one != TEACHER}
        self.num_excluded = 0
        self.confidence = ConfidenceTally()
        shipped = plan.by_arm().get(plan.shipped, {})
        self.showcase = Showcase(next(iter(shipped.values()), None))
        num_classes = plan.manifest.label_space.num_classes
        self.diagnosis = DiagnosisTally(next(iter(shipped.values()), None), num_classes)

    def add(self, ref: UnitRef, answers: UnitAnswers) -> None:
        """Add the usable rows of one unit to what they belong to."""
        is_multi = self.plan.manifest.label_space.kind is LabelKind.MULTI
        if ref.split == Split.TEST:
            keep_logits = is_multi or self.plan.further_metrics
            self.parts[Split.TEST].add(answers, keep_logits=keep_logits)
            self.showcase.add(ref.unit, answers)
            self.diagnosis.add(answers)
        elif ref.split == Split.UNLABELED:
            self.confidence.add(answers)
            for fit in self.flows:
                self.flows[fit] = answers.add_flow(self.flows[fit], fit)
        else:
            self._add_probe(answers, keep_logits=is_multi)

    def result(self) -> Evaluation:
        """Return what was found."""
        plan, test = self.plan, self.parts[Split.TEST]
        check_tested(len(test.groups))
        arms = plan.by_arm()
        columns = [column for seeds in arms.values() for column in seeds.values()]
        flows = {arm: mean_flow(self.flows, list(seeds.values())) for arm, seeds in arms.items()}
        some_flow = next(iter(self.flows.values()), Flow())
        measured = measure_arms(
            arms,
            test=test,
            select=self.parts[SELECT],
            flows=flows,
            reference=plan.reference,
            is_multi=plan.manifest.label_space.kind is LabelKind.MULTI,
        )
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
            diagnosis=self.diagnosis.result(),
        )

    def _add_probe(self, answers: UnitAnswers, *, keep_logits: bool) -> None:
        """Add each row of a probe unit to its part."""
        part_B = parts_of(answers.groups, self.plan)
        for name in (SELECT, GATE):
            chosen = answers.rows(np.flatnonzero(part_B == name))
            if chosen.groups:
                self.parts[name].add(chosen, keep_logits=keep_logits)
                if name == SELECT:
                    self.confidence.add(chosen)


class _UnitReader:
    """Reads the answers to one unit after the other, several at a time."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self._plan = plan
        self._space = plan.manifest.label_space
        self._fits = sorted({one.fit for one in plan.columns})
        self._labels = plan.labels.read_index()
        self._predictions = plan.predictions.read_index()
        self._relabelled = None if plan.relabelled is None else plan.relabelled.read_index()

    def units(self) -> Iterator[tuple[UnitRef, UnitAnswers, int]]:
        """Return, in order, units with their usable rows and the number of unusable ones."""
        refs = refs_with_truth(self._plan.manifest, self._plan.splits)
        return read_in_order(refs, self._read)

    def _read(self, ref: UnitRef) -> tuple[UnitRef, UnitAnswers, int]:
        """Read one unit of three stores."""
        plan, rows = self._plan, self._plan.manifest.read_unit(ref)
        teacher = read_columns(plan.labels, self._labels, ref, rows, ["logits"])
        students = read_columns(
            plan.predictions, self._predictions, ref, rows, ["status", *self._fits]
        )
        logits = {TEACHER: _logits(teacher, "logits", self._space)}
        logits |= {fit: _logits(students, fit, self._space) for fit in self._fits}
        if plan.relabelled is not None and self._relabelled is not None:
            refined = read_columns(plan.relabelled, self._relabelled, ref, rows, ["logits"])
            logits[RELABELLED] = _logits(refined, "logits", self._space)
        usable_B = usable_rows(students)
        known_B = np.array([not row.mark and _is_known(row, self._space) for row in rows])
        answers = UnitAnswers.of_rows(rows, logits, space=self._space, temperature=plan.temperature)
        return (
            ref,
            answers.rows(np.flatnonzero(known_B & usable_B)),
            int((known_B & ~usable_B).sum()),
        )


def _logits(table: pa.Table, column: str, space: LabelSpace) -> np.ndarray:
    """Return logits [B, C], NaN where there are none."""
    rows = table.column(column).to_pylist()
    missing = [np.nan] * space.num_classes
    return np.array([missing if row is None else row for row in rows], dtype=np.float32)


def _is_known(row: ManifestRow, space: LabelSpace) -> bool:
    """Return whether the truth of a row is known; no class at all is one where many may hold."""
    return row.labels is not None if space.kind is LabelKind.MULTI else bool(row.labels)
