"""The section of the configuration that says what jobs/focus.py measures, and how."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class GaussianConfig:
    """The synthetic study (``experiment=gaussian``).

    Args:
        num_seeds: Draws of the data.
        overlaps: Experiment on gamma: decisive features that the two modalities share, of 10 each.
        extras: Experiment on alpha: decisive features of the teacher beside the student's 10.
        shared: Experiment on channels: decisive features that the teacher shares with the student,
            beside 10 of its own.
        num_train: Samples that networks are trained on.
        num_test: Samples of the test.
        num_steps: Full-batch steps of every network.
        lr: Learning rate of these steps; the pair that Algorithm 1 ranks is trained at 0.01 with a
            momentum of 0.9.
    """

    num_seeds: int = 20
    overlaps: list[int] = field(default_factory=lambda: [0, 2, 4, 6, 8, 10])
    extras: list[int] = field(default_factory=lambda: [0, 10, 20, 30, 40])
    shared: list[int] = field(default_factory=lambda: [5, 10, 20])
    num_train: int = 200
    num_test: int = 1000
    num_steps: int = 1000
    lr: float = 0.1


@dataclass
class FocusConfig:
    """What ``jobs/focus.py`` measures; other jobs leave it alone.

    Args:
        study: ``features`` distills networks on the features of a source, ``gaussian`` repeats the
            synthetic study, which needs no data.
        student: Modality of the student; null takes the one that ``teacher.modality`` is not.
        teacher_encoders: Per modality the encoder of the teachers; those that are not named are
            those of ``student.encoders``.
        select_from: Whose channels are chosen: the ``crossmodal`` teacher, which reads all
            modalities but the student's, or the ``multimodal`` one, which reads all.
        layer: Layer of that teacher whose channels are ranked and chosen, by its dotted name;
            ``encoders.NAME.normaliser`` are the features themselves.
        kept: Share of the channels that the general, specific and random teachers keep.
        rho: Share of the true labels in the loss of a distilled student; the rest is the teacher's.
        temperature: Temperature of distillation.
        num_permutations: Permutations of every channel and batch in Algorithm 1.
        batch_rows: Samples within which channels are permuted.
        splits: Splits on which all networks are trained, by true labels; the test split tests.
        samples: Sample store of a run (``ROOT/samples/NAME``), which is read in the place of the
            source; null reads the source.
        gaussian: The synthetic study.
    """

    study: str = "features"
    student: str | None = None
    teacher_encoders: dict[str, Any] = field(default_factory=dict)
    select_from: str = "crossmodal"
    layer: str = "fusion"
    kept: float = 0.5
    rho: float = 0.5
    temperature: float = 1.0
    num_permutations: int = 20
    batch_rows: int = 512
    splits: list[str] = field(default_factory=lambda: ["labelled", "unlabeled"])
    samples: str | None = None
    gaussian: GaussianConfig = field(default_factory=GaussianConfig)
