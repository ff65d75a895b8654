"""Sections of the configuration that say what students learn, and how that is explained."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LabelsConfig:
    """How logits become targets, of the arms that learn the teacher's own labels.

    Args:
        kind: ``hard`` (argmax), ``soft`` (probabilities) or ``sharpened`` pseudo-labels.
        temperature: Divides the teacher's logits before the softmax.
        sharpening: Temperature of ``kind=sharpened``: probabilities to the power of one over it,
            normalised.
        alignment: Shift probabilities so that their mean over the unlabeled samples comes near
            ``uniform`` shares of the classes, those of the ``labelled`` samples, or a list of
            shares; null does not.
        weight: How much each label counts, ``_target_`` and arguments of a class; see
            ``label_weight`` and ``docs/labels.md``. Empty weighs all alike.
    """

    kind: str = "hard"
    temperature: float = 1.0
    sharpening: float = 0.5
    alignment: Any = None
    weight: dict[str, Any] = field(default_factory=dict)


@dataclass
class ExpansionConfig:
    """Our student (``objective=expansion``): labels refined by witnesses, then one student of all.

    A witness reads a modality that the teacher does not, learns from the labels so far, and judges
    samples of folds that it has not seen; the posterior of teacher and witnesses are the labels of
    the next round, and after the last one those of the student.

    Args:
        enabled: Train ``mm_student`` and ship it; false ships ``mke``.
        rounds: Rounds of witnesses and labels.
        folds: Folds of the unlabeled samples, by group.
        witness_steps: Steps of a witness as a share of the student's.
        witness_alpha: Input noise of the witnesses.
        alpha: Input noise of the student.
        modality_dropout: Share of samples that lose a modality in training, of every modality;
            null leaves ``objective.modality_dropout`` as it is.
        labelled_share: Weight of the labelled samples, seen in the teacher's modality alone, as a
            share of that of the unlabeled ones; 0 leaves them out.
        paired_weight: Weight of each pair with a true label in the select part of the probe, where
            an unlabeled sample has 1; 0 leaves them out.
        witness_paired_weight: The same of the witnesses; null takes ``paired_weight``.
        members: Students whose mean is distilled into the one that is shipped; 1 ships a student of
            the refined labels themselves.
        fallback_alpha: Input noise of a student of the teacher's own labels, where no witness is of
            any use.
        open_set: ``on`` weighs every unlabeled sample by how likely it is of a known class, as far
            as labelled pairs of the select part tell; of one class per sample.
        label_kind: ``soft`` or ``hard`` refined labels; null takes hard ones at every pixel, whose
            likeliest class keeps rare classes that soft labels lose, and else soft ones.
        teachers: ``all`` lets every one of ``more_teachers`` take part in refining, with a
            temperature and an exponent of its own; ``first`` refines the labels of ``teacher``
            alone.
    """

    enabled: bool = False
    rounds: int = 3
    folds: int = 3
    witness_steps: float = 0.5
    witness_alpha: float = 1.0
    alpha: float = 1.0
    modality_dropout: float | None = 0.3
    labelled_share: float = 0.25
    paired_weight: float = 3.0
    witness_paired_weight: float | None = None
    members: int = 3
    fallback_alpha: float = 2.0
    open_set: bool = False
    label_kind: str | None = None
    teachers: str = "all"


@dataclass
class MechanismConfig:
    """Why the student becomes better than its teacher, measured (``experiment=mechanism``).

    Every draw of the data (``data_seeds``) is trained and measured for each of these values, the
    others being those of the job; ``docs/mechanism.md`` says what comes out.

    Args:
        enabled: Measure, in the place of one expansion.
        num_unlabeled: Sizes of the unlabeled split, values of ``source.num_unlabeled``.
        num_labelled: Sizes of the labelled split, values of ``source.num_labelled``.
        alphas: Strengths of the input noise, values of ``objective.alpha``.
        label_kinds: Kinds of pseudo-labels that are trained with each strength, ``hard`` and
            ``soft``.
        radii: Radii of neighbourhoods, in strengths of noise, rising.
        max_samples: Samples on which neighbourhoods are measured.
        num_subsets: Random subsets of the teacher's wrong samples, of every size.
        max_batch: Samples per step where ``fit.global_batch=0`` would take more.
    """

    enabled: bool = False
    num_unlabeled: list[int] = field(default_factory=list)
    num_labelled: list[int] = field(default_factory=list)
    alphas: list[float] = field(default_factory=list)
    label_kinds: list[str] = field(default_factory=lambda: ["hard"])
    radii: list[float] = field(default_factory=list)
    max_samples: int = 2000
    num_subsets: int = 10
    max_batch: int = 1000
