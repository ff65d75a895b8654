"""The arms of the comparison: which network sees which rows with which targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.evaluation.plan import RELABELLED
from mke_ray.schema import MASK, Split
from mke_ray.train.fits import FitSpec, RowSelection

PUBLISHED_ARM = "mke"
EXPANSION_ARM = "mm_student"
RELABELLED_ARM = RELABELLED
TRAINED_ON_SELECT = frozenset({"mm_labelled_only"})
DEFAULT_ARMS = ("noisy_student", "mm_student_no_reg", "mke", "mm_labelled_only")
PLAIN_OBJECTIVE: Mapping[str, Any] = {"_target_": "mke_ray.objectives.MKEObjective", "alpha": 0.0}


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the comparison.

    Args:
        is_unimodal: Whether the network reads the teacher's modality alone.
        objective: ``student`` (the configured one), ``plain`` (pseudo-labels without
            perturbation), ``supervised`` or ``expansion``.
        rows: ``refined`` (as ``ExpansionSettings`` say), ``pseudo`` (unlabeled rows with
            pseudo-labels), ``labelled`` (what true labels there are: the labelled split in the
            teacher's modality and the select part of the probe) or ``true`` (unlabeled rows with
            their true labels: the upper bound).
    """

    is_unimodal: bool
    objective: str
    rows: str


ARMS: Mapping[str, Arm] = {
    "um_student": Arm(True, "plain", "pseudo"),
    "noisy_student": Arm(True, "student", "pseudo"),
    "mm_student_no_reg": Arm(False, "plain", "pseudo"),
    PUBLISHED_ARM: Arm(False, "student", "pseudo"),
    EXPANSION_ARM: Arm(False, "expansion", "refined"),
    "mm_labelled_only": Arm(False, "supervised", "labelled"),
    "mm_supervised": Arm(False, "supervised", "true"),
}


@dataclass(frozen=True, slots=True)
class ExpansionSettings:
    """What our student learns from.

    Args:
        labels: Name of its label store.
        label_kind: ``soft`` or ``hard``.
        objective: Its objective.
        labelled_share: Weight of the labelled samples in the teacher's modality, see
            ``RowSelection``; 0 leaves them out.
        paired_weight: Weight of each labelled pair of the select part of the probe; 0 leaves them
            out.
        label_rule: What else is done to its labels, see ``FitSpec``.
    """

    labels: str
    label_kind: str
    objective: Mapping[str, Any]
    labelled_share: float = 0.0
    paired_weight: float = 0.0
    label_rule: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArmSettings:
    """What the arms of one run share.

    Args:
        template: The fit of the multimodal student; arms are variations of it.
        teacher_modality: The modality that the teacher reads.
        supervised: Objective of the arms with true labels.
        plain: Objective of the arms without perturbation.
        unimodal_head_hidden: Hidden layers of the head of unimodal students.
        num_select: Samples in the select part of the probe.
        num_labelled: Samples in the labelled split.
        plain_views: Views of the arms without perturbation; None are those of the template.
        expansion: What our student learns from; None where it is not trained.
    """

    template: FitSpec
    teacher_modality: str
    supervised: Mapping[str, Any]
    plain: Mapping[str, Any]
    unimodal_head_hidden: tuple[int, ...]
    num_select: int
    num_labelled: int = 0
    plain_views: Mapping[str, Mapping[str, Any]] | None = None
    expansion: ExpansionSettings | None = None

    def fits(self, arms: Sequence[str], seeds: Sequence[int]) -> list[FitSpec]:
        """Return one fit per arm and seed, arm by arm.

        Raises:
            ConfigError: An arm needs labels that the data do not have.
        """
        return [self._fit(arm, seed) for arm in arms for seed in dict.fromkeys(seeds)]

    def _fit(self, name: str, seed: int) -> FitSpec:
        """Return the fit of an arm."""
        arm = ARMS[name]
        if arm.rows == "labelled" and self.num_select == 0:
            raise ConfigError(
                f"arms: {name} trains on the paired labels in the select part of the probe, and "
                "that is empty; leave the arm out, add rows with split=probe to the source, or "
                "raise gate.select_fraction"
            )
        look_every = self.template.validate_every_steps
        return replace(
            self.template,
            name=f"{name}/seed={seed}",
            arm=name,
            seed=seed,
            student=self._unimodal_student() if arm.is_unimodal else self.template.student,
            objective=self._objective(arm),
            rows=self._rows(arm),
            views=self._views(arm),
            validate_every_steps=0 if self.learns_from_select(name) else look_every,
            **self._labels(arm),
        )

    def learns_from_select(self, name: str) -> bool:
        """Return whether an arm learns from the select part of the probe."""
        is_ours = name == EXPANSION_ARM and self.expansion is not None
        return name in TRAINED_ON_SELECT or (is_ours and self._uses_pairs)

    @property
    def _uses_pairs(self) -> bool:
        """Whether our student learns from labelled pairs."""
        return self.expansion is not None and self.expansion.paired_weight * self.num_select > 0

    def _labels(self, arm: Arm) -> dict[str, Any]:
        """Return the label store of an arm, and how it is read."""
        if arm.rows == "refined":
            ours = self._ours
            return {
                "labels": ours.labels,
                "label_kind": ours.label_kind,
                "temperature": 1.0,
                "label_rule": ours.label_rule,
            }
        if arm.rows == "pseudo":
            return {"labels": self.template.labels}
        return {"labels": None, "label_rule": {}}

    @property
    def _ours(self) -> ExpansionSettings:
        """What our student learns from.

        Raises:
            ConfigError: It is not to be trained.
        """
        if self.expansion is None:
            raise ConfigError(
                f"arms: {EXPANSION_ARM} is the student of objective=expansion; choose that, or "
                "leave the arm out"
            )
        return self.expansion

    def _objective(self, arm: Arm) -> Mapping[str, Any]:
        """Return the objective of an arm."""
        if arm.objective == "expansion":
            return self._ours.objective
        if arm.objective == "plain":
            return self.plain
        return self.supervised if arm.objective == "supervised" else self.template.objective

    def _rows(self, arm: Arm) -> tuple[RowSelection, ...]:
        """Return the rows of an arm."""
        only = (self.teacher_modality,)
        if arm.rows == "refined":
            return self._rows_of_ours(only)
        if arm.rows == "labelled":
            return (
                RowSelection(Split.LABELLED, targets="true", modalities=only),
                RowSelection(Split.PROBE, targets="true", part="select"),
            )
        return (RowSelection(Split.UNLABELED, targets=arm.rows),)

    def _rows_of_ours(self, only: tuple[str, ...]) -> tuple[RowSelection, ...]:
        """Return the rows of our student: the unlabeled ones, and what true labels there are."""
        ours, rows = self._ours, [RowSelection(Split.UNLABELED)]
        if ours.labelled_share > 0 and self.num_labelled > 0:
            share = ours.labelled_share
            rows.append(RowSelection(Split.LABELLED, targets="true", modalities=only, share=share))
        if self._uses_pairs:
            weight = ours.paired_weight
            rows.append(RowSelection(Split.PROBE, targets="true", part="select", weight=weight))
        return tuple(rows)

    def _unimodal_student(self) -> dict[str, Any]:
        """Return the student with the encoder of the teacher's modality alone."""
        student = dict(self.template.student)
        encoders = {self.teacher_modality: student["encoders"][self.teacher_modality]}
        if "decoder" in student:
            return {**student, "encoders": encoders}
        head_hidden = list(self.unimodal_head_hidden)
        return {**student, "encoders": encoders, "head_hidden": head_hidden}

    def _views(self, arm: Arm) -> Mapping[str, Mapping[str, Any]]:
        """Return the views of an arm: of what its network reads, and of class maps."""
        views = self.template.views
        if arm.objective == "plain" and self.plain_views is not None:
            views = self.plain_views
        seen = (self.teacher_modality, MASK)
        return {k: view for k, view in views.items() if k in seen} if arm.is_unimodal else views


def choose_arms(asked: str | Sequence[str], *, shipped: str = PUBLISHED_ARM) -> tuple[str, ...]:
    """Return the names of the arms to train.

    Args:
        asked: ``default``, ``all`` or a list of names; ``teacher`` and ``mm_student``, which are
            always there, may be among them.
        shipped: The arm that is put in front of the gate, which is always trained.

    Raises:
        ConfigError: An arm is unknown, or not of this objective.
    """
    ours = {EXPANSION_ARM} - {shipped}  # which arms cannot be trained
    if asked == "default":
        return tuple(name for name in ARMS if name in {*DEFAULT_ARMS, shipped})
    if asked == "all":
        return tuple(name for name in ARMS if name not in ours)
    names = [asked] if isinstance(asked, str) else list(asked)
    unknown = sorted(set(names) - {*ARMS, "teacher", RELABELLED_ARM})
    if unknown:
        raise ConfigError(
            f"arms={unknown}: no such arms; choose default, all, or some of {list(ARMS)}"
        )
    if RELABELLED_ARM in names and shipped == PUBLISHED_ARM:
        raise ConfigError(
            f"arms: {RELABELLED_ARM} is of labels that are refined; choose objective=expansion, or "
            "leave the arm out"
        )
    wanted = {*names, shipped} - ours
    return tuple(name for name in ARMS if name in wanted)
