"""What the witnesses are trained on, and what our student is trained with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mke_ray.config_labels import ExpansionConfig
from mke_ray.config_schema import JobConfig
from mke_ray.expansion.own_teacher import FIRST_NAME
from mke_ray.expansion.witness_checks import ALL_TEACHERS
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.probe import SELECT
from mke_ray.schema import MASK, LabelKind, Split
from mke_ray.train.arms import PLAIN_OBJECTIVE, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, RowSelection

WITNESS_ARM = "witness"


def witnessed(job: JobConfig) -> list[str]:
    """Return the modalities that the student reads and the teacher does not, in order of name."""
    return sorted(name for name in job.student.encoders if name != job.teacher.modality)


def teachers_of(job: JobConfig) -> list[str]:
    """Return the names of the teachers whose labels are combined, none where there is but one."""
    further = list(job.more_teachers) if job.expansion.teachers == ALL_TEACHERS else []
    return [FIRST_NAME, *further] if further else []


def with_kind(spec: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the specification of an objective; one of ours is told the kind of labels."""
    is_ours = spec.get("_target_") == PLAIN_OBJECTIVE["_target_"]
    return {**({"kind": str(kind)} if is_ours else {}), **spec}


def expansion_objective(job: JobConfig, kind: str, *, is_by_witnesses: bool) -> dict[str, Any]:
    """Return the objective of our student: the configured one with its own noise and dropout.

    A class of the user's is taken as it is.

    Args:
        job: The configuration.
        kind: Kind of labels.
        is_by_witnesses: Whether the labels are refined; the noise is another one where they are the
            teacher's own.
    """
    alpha = job.expansion.alpha if is_by_witnesses else job.expansion.fallback_alpha
    spec = with_kind(job.objective, kind)
    if spec.get("_target_") != PLAIN_OBJECTIVE["_target_"]:
        return spec
    share = job.expansion.modality_dropout
    if share is None:
        return {**spec, "alpha": alpha}
    dropout = dict.fromkeys(job.student.encoders, share) if share else None
    return {**spec, "alpha": alpha, "modality_dropout": dropout}


def expansion_to_be(job: JobConfig, kind: str) -> ExpansionSettings | None:
    """Return what our student will learn from but for the labels, None where it is not trained."""
    keys = job.expansion
    if not keys.enabled:
        return None
    objective = expansion_objective(job, kind, is_by_witnesses=True)
    told = refined_kind(job, kind)
    return ExpansionSettings("labels", told, objective, keys.labelled_share, keys.paired_weight)


def refined_kind(job: JobConfig, kind: str) -> str:
    """Return whether refined labels are learnt as ``soft`` or ``hard`` ones.

    Args:
        job: The configuration.
        kind: Kind of labels.
    """
    return job.expansion.label_kind or ("hard" if kind == LabelKind.DENSE else "soft")


def pairs_weight_of_witnesses(keys: ExpansionConfig) -> float:
    """Return the weight that each labelled pair has in the training of witnesses."""
    own = keys.witness_paired_weight
    return keys.paired_weight if own is None else own


def witness_fit(
    job: JobConfig, kind: str, settings: ArmSettings, *, folds: FoldDivision, number: int
) -> FitSpec:
    """Return the fit of the witnesses of a round, which learn the labels of the template.

    Labelled pairs of the select part join in: each network sees those of other folds.

    Args:
        job: The configuration.
        kind: Kind of labels.
        settings: What the arms share.
        folds: The folds.
        number: Which round, from 0.
    """
    template, keys, others = settings.template, job.expansion, witnessed(job)
    rows = [RowSelection(Split.UNLABELED)]
    weight = pairs_weight_of_witnesses(keys)
    if weight > 0 and settings.num_select > 0:
        rows.append(RowSelection(Split.PROBE, targets="true", part=SELECT, weight=weight))
    steps, epochs = template.num_steps, template.num_epochs
    return replace(
        template,
        name=f"{WITNESS_ARM}/round={number + 1}",
        arm=WITNESS_ARM,
        student={
            "num_folds": folds.num_folds,
            "encoders": {name: template.student["encoders"][name] for name in others},
            "dropout": template.student["dropout"],
            **_head(settings),
        },
        objective={
            "_target_": "mke_ray.objectives.WitnessObjective",
            "num_folds": folds.num_folds,
            "alpha": keys.witness_alpha,
            "kind": str(kind),
        },
        rows=tuple(rows),
        views={k: view for k, view in template.views.items() if k in (*others, MASK)},
        label_kind="hard" if number == 0 else refined_kind(job, kind),
        temperature=1.0,
        class_balance=0.0,
        label_rule={},
        init_from=None,
        folds=folds.to_dict(),
        validate_every_steps=0,
        seed=job.seed,
        num_steps=None if steps is None else max(1, round(keys.witness_steps * steps)),
        num_epochs=None if epochs is None else max(1, round(keys.witness_steps * epochs)),
    )


def _head(settings: ArmSettings) -> dict[str, Any]:
    """Return what a witness has behind its encoder: a head, or where labels are dense a decoder."""
    student = settings.template.student
    if "decoder" in student:
        return {"decoder": student["decoder"]}
    return {"head_hidden": list(settings.unimodal_head_hidden)}
