"""What an evaluation compares."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.manifest import Manifest
from mke_ray.evaluation.predictions import FitColumn
from mke_ray.evaluation.results import TEACHER
from mke_ray.labels.sample_reader import SampleReader
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Split

GATE = "gate"
SELECT = "select"
RELABELLED = "relabel_only"


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
        samples: What reads the true class maps of dense labels; None for other labels.
        decode: Plain decode specification of these samples.
        relabelled: Refined labels, an arm of their own that no network is of; None where there are
            none.
        splits: Splits that are looked at.
        reference: Column that gains are measured against.
        further_metrics: Whether further figures are wanted of samples with one class each; of those
            with many they always are.
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
    samples: SampleReader | None = None
    decode: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    relabelled: UnitStore | None = None
    splits: Sequence[str] = (Split.TEST, Split.PROBE, Split.UNLABELED)
    reference: str = TEACHER
    further_metrics: bool = False

    def by_arm(self) -> dict[str, dict[int, str]]:
        """Return ``{arm: {seed: column}}``, the teacher first."""
        arms: dict[str, dict[int, str]] = {TEACHER: {0: TEACHER}}
        for one in self.columns:
            arms.setdefault(one.arm, {})[one.seed] = one.fit
        if self.relabelled is not None:
            arms[RELABELLED] = {0: RELABELLED}
        return arms
