"""The arms of the comparison: which network sees which rows with which targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.schema import MASK, Split
from mke_ray.train.fits import FitSpec, RowSelection

STUDENT_ARM = "mke"
TRAINED_ON_SELECT = frozenset({"mm_labelled_only"})
DEFAULT_ARMS = ("noisy_student", "mm_student_no_reg", "mke", "mm_labelled_only")
PLAIN_OBJECTIVE: Mapping[str, Any] = {"_target_": "mke_ray.objectives.MKEObjective", "alpha": 0.0}


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the comparison.

    Args:
        is_unimodal: Whether the network reads the teacher's modality alone.
        objective: ``student`` (the configured one), ``plain`` (pseudo-labels without
            perturbation) or ``supervised``.
        rows: ``pseudo`` (unlabeled rows with pseudo-labels), ``labelled`` (what true labels there
            are: the labelled split in the teacher's modality and the select part of the probe) or
            ``true`` (unlabeled rows with their true labels: the upper bound).
    """

    is_unimodal: bool
    objective: str
    rows: str


ARMS: Mapping[str, Arm] = {
    "um_student": Arm(True, "plain", "pseudo"),
    "noisy_student": Arm(True, "student", "pseudo"),
    "mm_student_no_reg": Arm(False, "plain", "pseudo"),
    "mke": Arm(False, "student", "pseudo"),
    "mm_labelled_only": Arm(False, "supervised", "labelled"),
    "mm_supervised": Arm(False, "supervised", "true"),
}


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
        plain_views: Views of the arms without perturbation; None are those of the template.
    """

    template: FitSpec
    teacher_modality: str
    supervised: Mapping[str, Any]
    plain: Mapping[str, Any]
    unimodal_head_hidden: tuple[int, ...]
    num_select: int
    plain_views: Mapping[str, Mapping[str, Any]] | None = None

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
        return replace(
            self.template,
            name=f"{name}/seed={seed}",
            arm=name,
            seed=seed,
            student=self._unimodal_student() if arm.is_unimodal else self.template.student,
            objective=self._objective(arm),
            rows=self._rows(arm),
            labels=self.template.labels if arm.rows == "pseudo" else None,
            views=self._views(arm),
            validate_every_steps=(
                0 if name in TRAINED_ON_SELECT else self.template.validate_every_steps
            ),
        )

    def _objective(self, arm: Arm) -> Mapping[str, Any]:
        """Return the objective of an arm."""
        if arm.objective == "plain":
            return self.plain
        return self.supervised if arm.objective == "supervised" else self.template.objective

    def _rows(self, arm: Arm) -> tuple[RowSelection, ...]:
        """Return the rows of an arm."""
        if arm.rows == "labelled":
            only = (self.teacher_modality,)
            return (
                RowSelection(Split.LABELLED, targets="true", modalities=only),
                RowSelection(Split.PROBE, targets="true", part="select"),
            )
        return (RowSelection(Split.UNLABELED, targets=arm.rows),)

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


def choose_arms(asked: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the arms to train.

    Args:
        asked: ``default``, ``all`` or a list of names; ``teacher`` and ``mm_student``, which are
            always there, may be among them.

    Raises:
        ConfigError: An arm is unknown.
    """
    if asked == "default":
        return DEFAULT_ARMS
    if asked == "all":
        return tuple(ARMS)
    names = [asked] if isinstance(asked, str) else list(asked)
    unknown = sorted(set(names) - {*ARMS, "teacher", "mm_student"})
    if unknown:
        raise ConfigError(
            f"arms={unknown}: no such arms; choose default, all, or some of {list(ARMS)}"
        )
    return tuple(name for name in ARMS if name in names or name == STUDENT_ARM)
