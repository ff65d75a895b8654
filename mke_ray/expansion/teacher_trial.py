"""The teachers of a dry run answer for a few samples, and what that takes is timed."""

# B samples, C classes, X any.

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console

from mke_ray.config import build
from mke_ray.config_schema import TeacherConfig
from mke_ray.data.codec import decode_modality
from mke_ray.errors import ConfigError
from mke_ray.expansion.averaged_views import averaged, views_of
from mke_ray.expansion.own_teacher import answer_of
from mke_ray.expansion.probing import Probed
from mke_ray.expansion.run import Run
from mke_ray.labels.dense import dense_size
from mke_ray.labels.labelling_keys import computing_of
from mke_ray.models.averaged import mean_over_views
from mke_ray.models.student import build_student
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LabelKind

NUM_FIRST = 2
MOST_S = 10.0

_OWN_KEY = "teacher.network"

Answer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A teacher of the pass.

    Args:
        name: What it is called.
        key: Where it stands in the configuration.
        modality: What it reads.
        said: What it is, for a person.
        answer: Logits [B, C] for stored arrays [B, ...].
        remarks: What it has to say of its answers so far.
    """

    name: str
    key: str
    modality: str
    said: str
    answer: Answer
    remarks: Callable[[], Sequence[str]] = tuple


def try_teachers(run: Run, good: Sequence[Probed], console: Console) -> float | None:
    """Let every teacher of the pass answer, and return the seconds per sample of all of them.

    Args:
        run: The run.
        good: Samples that were read.
        console: Where the findings are printed.

    Returns:
        None where no sample has the modality of the first teacher.

    Raises:
        ConfigError: One fails, or its answer is none.
    """
    first, *others = (_try(run, one, good, console) for one in _candidates(run))
    return None if first is None else first + sum(one or 0.0 for one in others)


def timed_answer(run: Run, one: Candidate, arrays_BX: np.ndarray, some: Sequence[Probed]) -> float:
    """Check the answer on some samples, and return the seconds per sample.

    Raises:
        ConfigError: The logits are of another shape, or not finite.
    """
    start_s = time.perf_counter()
    with computing_of(run.job.labelling).running():
        logits_BC = one.answer(arrays_BX)
    spent_s = time.perf_counter() - start_s
    space = run.source.label_space
    is_dense = space.kind == LabelKind.DENSE
    size = dense_size(run.decode, one.modality) if is_dense else ()
    wanted = (len(some), space.num_classes, *size)
    if logits_BC.shape != wanted:
        raise ConfigError(
            f"{one.key} answers with shape {logits_BC.shape}, expected {wanted}: one logit per "
            f"class of the source{', at every pixel that is stored' if is_dense else ''}"
        )
    is_finite_B = np.isfinite(logits_BC).reshape(len(some), -1).all(axis=1)
    if not is_finite_B.all():
        place = int(np.flatnonzero(~is_finite_B)[0])
        first = logits_BC[place].ravel()[:5].tolist()
        raise ConfigError(
            f"{one.key}: logits are not finite for {int((~is_finite_B).sum())} of {len(some)} "
            f"samples, for example {some[place].row.key}: {first}; look at "
            "its predict and its weights"
        )
    return spent_s / len(some)


def _candidates(run: Run) -> list[Candidate]:
    """Return the teachers of the pass; one that will be trained is untrained."""
    config = run.job.teacher
    if config.train:
        said = "will be trained on the labelled split"
        first = Candidate("teacher", "teacher", config.modality, said, _untrained(run))
    else:
        first = _own(_OWN_KEY, averaged(config, config.network), "teacher")
    if config.average_views:
        first = replace(first, said=f"{first.said}, {_views_in_words(config)}")
    more = run.job.more_teachers.items()
    return [first, *(_own(f"more_teachers.{name}", spec, name) for name, spec in more)]


def _own(key: str, spec: object, name: str) -> Candidate:
    """Return a teacher of the user's."""
    teacher: Teacher = build(spec, Teacher)  # type: ignore[arg-type]

    def answer(arrays_BX: np.ndarray) -> np.ndarray:
        return answer_of(teacher, arrays_BX, key=key)

    remarks: Callable[[], Sequence[str]] = getattr(teacher, "remarks", tuple)
    return Candidate(name, key, teacher.modality, "yours", answer, remarks)


def _untrained(run: Run) -> Answer:
    """Return the answers of the network that will be trained."""
    modality, num_classes = run.job.teacher.modality, run.source.label_space.num_classes
    student = build_student(run.teacher_fit("samples").student, num_classes, build=build).eval()
    needs = student.encoder(modality).needs
    views = views_of(run.job.teacher, needs)

    def answer_one(arrays_BX: np.ndarray) -> np.ndarray:
        present = {modality: torch.ones(len(arrays_BX), dtype=torch.bool)}
        with torch.inference_mode():
            return student({modality: torch.from_numpy(arrays_BX)}, present).float().numpy()

    def answer(arrays_BX: np.ndarray) -> np.ndarray:
        return mean_over_views(answer_one, arrays_BX, views, needs)

    return answer


def _views_in_words(config: TeacherConfig) -> str:
    """Return over what a teacher's answer is averaged."""
    names = [one if isinstance(one, str) else str(one["type"]) for one in config.average_views]
    return f"its answer the mean over the stored one and {', '.join(names)}"


def _try(run: Run, one: Candidate, good: Sequence[Probed], console: Console) -> float | None:
    """Let a teacher answer, and return its seconds per sample; None where none has its modality."""
    some = [sample for sample in good if one.modality in sample.stored.pieces]
    if not some:
        console.print(f"{one.name:<15} not tried: none of the samples read has {one.modality}")
        return None
    spec = run.decode[one.modality]
    pieces = [sample.stored.pieces[one.modality] for sample in some]
    arrays_BX = np.stack([decode_modality(piece, spec) for piece in pieces])
    num_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(run.job.labelling.num_cpus)))  # as a worker has them
    try:
        each_s = timed_answer(run, one, arrays_BX[:NUM_FIRST], some[:NUM_FIRST])
        if each_s * len(some) < MOST_S:  # the first answer loads what later ones have
            each_s = timed_answer(run, one, arrays_BX, some)
    finally:
        torch.set_num_threads(num_threads)
    console.print(f"{one.name:<15} reads {one.modality}, {one.said}")
    for remark in one.remarks():
        console.print(f"{'':<15} {remark}", highlight=False)
    return each_s
