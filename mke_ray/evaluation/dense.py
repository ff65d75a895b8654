"""From class maps to arms with intervals, one unit at a time, where labels are dense."""

# B samples of a unit, N samples of a part, C classes, H height, W width.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import StoreError
from mke_ray.evaluation.answers import Part, truth_marks
from mke_ray.evaluation.dense_showcase import DenseShowcase
from mke_ray.evaluation.plan import GATE, RELABELLED, SELECT, EvaluationPlan
from mke_ray.evaluation.predictions import refs_with_truth
from mke_ray.evaluation.results import TEACHER, ArmResult, Evaluation, Flow
from mke_ray.evaluation.scores import measure_arms
from mke_ray.evaluation.unit_rows import (
    check_tested,
    mean_flow,
    parts_of,
    read_columns,
    usable_rows,
)
from mke_ray.labels.dense import DenseForm, hard_rows, mask_rows
from mke_ray.labels.same_rows import check_rows
from mke_ray.labels.unit_reading import read_in_order
from mke_ray.pixel_metrics import PixelCounts
from mke_ray.schema import IGNORE, MASK, MaskSpec, Split, decode_spec_from_dict

_NUM_READ_THREADS = 4  # each holds the class maps of all networks for a unit


@dataclass(frozen=True, slots=True, eq=False)
class UnitMaps:
    """Truth and answers of some rows of one unit, as class maps.

    Args:
        row_B: Row of each sample in its unit [B].
        sample_id_B: Sample ids [B].
        groups: Groups.
        keys: Keys in the source.
        truth_BHW: True classes [B, H, W], 255 where a pixel counts for nothing.
        named: Per column the named classes [B, H, W], 255 where the network saw nothing.
        num_classes: Number of classes C.
    """

    row_B: np.ndarray
    sample_id_B: np.ndarray
    groups: list[str]
    keys: list[str]
    truth_BHW: np.ndarray
    named: dict[str, np.ndarray]
    num_classes: int

    def rows(self, chosen: np.ndarray) -> "UnitMaps":
        """Return some of the rows."""
        return UnitMaps(
            self.row_B[chosen],
            self.sample_id_B[chosen],
            [self.groups[row] for row in chosen],
            [self.keys[row] for row in chosen],
            self.truth_BHW[chosen],
            {name: named_BHW[chosen] for name, named_BHW in self.named.items()},
            self.num_classes,
        )

    def counts(self, column: str) -> PixelCounts:
        """Return the counted pixels of a column."""
        return PixelCounts.of_maps(self.named[column], self.truth_BHW, self.num_classes)

    def add_flow(self, flow: Flow, column: str) -> Flow:
        """Return a flow with the pixels added that count and have a pseudo-label."""
        counts_BHW = (self.truth_BHW != IGNORE) & (self.named[TEACHER] != IGNORE)
        teacher = (self.named[TEACHER] == self.truth_BHW)[counts_BHW]
        student = (self.named[column] == self.truth_BHW)[counts_BHW]
        return Flow(
            flow.num + teacher.size,
            flow.num_wrong + int((~teacher).sum()),
            flow.num_corrected + int((student & ~teacher).sum()),
            flow.num_corrupted + int((teacher & ~student).sum()),
        )


@dataclass(slots=True)
class DensePart:
    """What is kept of one part of the data: counts of every class per sample and column.

    Args:
        sample_ids: Sample ids, by unit.
        groups: Group of each sample.
        counts: Per column the counted pixels, by unit.
        marks: 64 bits over the truth of each sample [B], by unit.
    """

    sample_ids: list[np.ndarray] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    counts: dict[str, list[PixelCounts]] = field(default_factory=dict)
    marks: list[np.ndarray] = field(default_factory=list)

    def add(self, maps: UnitMaps) -> None:
        """Add the rows of a unit."""
        self.sample_ids.append(maps.sample_id_B)
        self.groups.extend(maps.groups)
        self.marks.append(truth_marks(maps.truth_BHW))
        for column in maps.named:
            self.counts.setdefault(column, []).append(maps.counts(column))

    def joined(self, column: str) -> PixelCounts:
        """Return the counted pixels of all samples."""
        return PixelCounts.joined(self.counts[column])

    def scored(self) -> Part:
        """Return the same part with a score per sample whose mean is the mean IoU."""
        scores = {column: [self.joined(column).scores()] for column in self.counts}
        return Part(self.sample_ids, self.groups, scores, marks=self.marks)


def evaluate_dense(plan: EvaluationPlan) -> Evaluation:
    """Compare all arms with the teacher by mean IoU; see ``evaluate``.

    Raises:
        StoreError: A store lacks a unit or holds other rows than the manifest.
        ConfigError: There is no test sample with a class map.
    """
    tally = _DenseTally(plan)
    for ref, maps, num_unusable in _DenseReader(plan).units():
        tally.num_excluded += num_unusable if ref.split == Split.TEST else 0
        if maps.groups:
            tally.add(ref, maps)
    return tally.result()


class _DenseTally:
    """Everything that grows while units stream by."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self.plan = plan
        self.parts = {name: DensePart() for name in (Split.TEST, SELECT, GATE)}
        columns = [one for seeds in plan.by_arm().values() for one in seeds.values()]
        self.flows = {one: Flow() for one in columns if one != TEACHER}
        self.num_excluded = 0
        shipped = plan.by_arm().get(plan.shipped, {})
        self.showcase = DenseShowcase(next(iter(shipped.values()), None))

    def add(self, ref: UnitRef, maps: UnitMaps) -> None:
        """Add the usable rows of one unit to what they belong to."""
        if ref.split == Split.TEST:
            self.parts[Split.TEST].add(maps)
            self.showcase.add(ref.unit, maps)
        elif ref.split == Split.UNLABELED:
            for fit in self.flows:
                self.flows[fit] = maps.add_flow(self.flows[fit], fit)
        else:
            part_B = parts_of(maps.groups, self.plan)
            for name in (SELECT, GATE):
                chosen = maps.rows(np.flatnonzero(part_B == name))
                if chosen.groups:
                    self.parts[name].add(chosen)

    def result(self) -> Evaluation:
        """Return what was found."""
        check_tested(len(self.parts[Split.TEST].groups))
        arms = self.plan.by_arm()
        columns = {arm: tuple(seeds.values()) for arm, seeds in arms.items()}
        named = [one for each in columns.values() for one in each]
        scored = {name: part.scored() for name, part in self.parts.items()}
        test, select = scored[Split.TEST], scored[SELECT]
        flows = {
            arm: None if arm == TEACHER else mean_flow(self.flows, each)
            for arm, each in columns.items()
        }
        measured = measure_arms(
            arms, test=test, select=select, flows=flows, reference=self.plan.reference
        )
        some_flow = next(iter(self.flows.values()), Flow())
        return Evaluation(
            metric="miou",
            arms={arm: self._with_pixels(one, columns[arm]) for arm, one in measured.items()},
            columns=columns,
            teacher_flow=some_flow if some_flow.num else None,
            test=test.to_scores(named),
            select=select.to_scores(named),
            gate=scored[GATE].to_scores(named),
            num_excluded=self.num_excluded,
            dense_examples=self.showcase.examples(),
        )

    def _with_pixels(self, result: ArmResult, columns: Sequence[str]) -> ArmResult:
        """Return the result of an arm with what only dense labels have, the mean over its seeds."""
        counts = [self.parts[Split.TEST].joined(one) for one in columns]
        is_trained_on_select = result.arm in self.plan.trained_on_select
        return replace(
            result,
            pixel_accuracy=float(np.mean([one.pixel_accuracy() for one in counts])),
            class_ious=tuple(np.mean([one.class_ious() for one in counts], axis=0).tolist()),
            select=None if is_trained_on_select else result.select,
        )


class _DenseReader:
    """Reads truth and answers of one unit after the other, several at a time."""

    def __init__(self, plan: EvaluationPlan) -> None:
        if plan.samples is None:
            raise StoreError("dense labels are evaluated with their samples, which the plan lacks")
        self._plan = plan
        self._samples = plan.samples
        self._mask = cast(MaskSpec, decode_spec_from_dict(plan.decode)[MASK])
        self._fits = sorted({one.fit for one in plan.columns})
        self._labels = plan.labels.read_index()
        self._predictions = plan.predictions.read_index()
        self._relabelled = None if plan.relabelled is None else plan.relabelled.read_index()

    def units(self) -> Iterator[tuple[UnitRef, UnitMaps, int]]:
        """Return, in order, units with their usable rows and the number of unusable ones."""
        refs = refs_with_truth(self._plan.manifest, self._plan.splits)
        few = _NUM_READ_THREADS
        return read_in_order(refs, self._read, num_threads=few, units_at_once=few)

    def _read(self, ref: UnitRef) -> tuple[UnitRef, UnitMaps, int]:
        """Read one unit of three stores."""
        plan, rows = self._plan, self._plan.manifest.read_unit(ref)
        form = DenseForm.of_spec(plan.labels.spec)
        if form is None:
            raise StoreError(f"{plan.labels.root.uri} holds no dense labels; use another root")
        teacher = read_columns(plan.labels, self._labels, ref, rows, ["classes"])
        columns = ["status", *self._fits]
        students = read_columns(plan.predictions, self._predictions, ref, rows, columns)
        truth = self._samples.read(ref.unit, [*self._samples.small_columns, MASK])
        check_rows(truth, self._samples.samples.root.uri, ref, rows)
        named = {TEACHER: hard_rows(teacher, form)}
        named |= {fit: class_maps(students, fit, form) for fit in self._fits}
        if plan.relabelled is not None and self._relabelled is not None:
            refined = read_columns(plan.relabelled, self._relabelled, ref, rows, ["classes"])
            named[RELABELLED] = hard_rows(refined, form)
        pieces = truth.column(MASK).to_pylist()
        known_B = np.array(
            [not row.mark and row.labels is not None for row in rows], dtype=bool
        ) & np.array([one is not None for one in pieces], dtype=bool)
        usable_B = usable_rows(students)
        maps = UnitMaps(
            np.arange(len(rows)),
            np.array([row.sample_id for row in rows], dtype=np.int64),
            [row.group for row in rows],
            [row.key for row in rows],
            mask_rows(pieces, self._mask),
            named,
            plan.manifest.label_space.num_classes,
        )
        chosen = np.flatnonzero(known_B & usable_B)
        return ref, maps.rows(chosen), int((known_B & ~usable_B).sum())


def class_maps(predictions: pa.Table, fit: str, form: DenseForm) -> np.ndarray:
    """Return what a fit named, uint8 [B, H, W]; 255 where it saw nothing.

    Args:
        predictions: Rows of a store of predictions.
        fit: Column of the fit.
        form: Has height and width.
    """
    named_BHW = np.full((predictions.num_rows, form.height, form.width), IGNORE, np.uint8)
    for row, piece in enumerate(predictions.column(fit).to_pylist()):
        if piece is not None:
            named_BHW[row] = np.frombuffer(piece, np.uint8).reshape(form.height, form.width)
    return named_BHW
