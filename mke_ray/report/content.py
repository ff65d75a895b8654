"""What a report is made of, and the numbers of a run as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mke_ray.evaluation import TEACHER, ArmResult, Evaluation
from mke_ray.evaluation.calibration import Calibration
from mke_ray.evaluation.contribution import Contribution
from mke_ray.gate import GateDecision
from mke_ray.report.contribution import contribution_numbers
from mke_ray.report.diagnosis import diagnosis_dict
from mke_ray.report.style import Picture
from mke_ray.schema import StatusCounts

_OUTCOMES = {
    "promoted": "The multimodal student is promoted",
    "inconclusive": "The teacher is kept, since the student's gain is not certain yet",
    "rejected": "The teacher is kept, since the student is not better",
    "unverified": "The teacher is kept, since nothing could be verified",
}

STUDENT = "mm_student"
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class FitHistory:
    """The logged steps of one fit.

    Args:
        arm: Arm of the fit.
        seed: Its seed.
        records: Mappings with ``step`` and numbers, as ``history.json`` holds them.
    """

    arm: str
    seed: int
    records: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SampleCard:
    """One sample on a contact sheet.

    Args:
        kind: ``corrected``, ``wrong`` or ``corrupted``.
        key: Key of the sample in its source.
        truth: True label, for a person.
        teacher: The teacher's answer.
        student: The student's answer.
        jpeg: Frames over spectrogram; nothing where no modality can be looked at.
        texts: What can be read of it, by modality.
        clip: A small mp4 file of what can be played of it, empty where nothing can.
        has_pictures: Whether the clip is more than sound.
        poster: Its middle frame, which a player shows before it plays.
    """

    kind: str
    key: str
    truth: str
    teacher: str
    student: str
    jpeg: bytes = field(repr=False)
    texts: Mapping[str, str] = field(default_factory=dict)
    clip: bytes = field(default=b"", repr=False)
    has_pictures: bool = False
    poster: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What the pass over the source took, over all its starts.

    Args:
        num_samples: Samples worked on.
        samples_per_s: Samples per second once workers had started, None where that is unknown.
        wall_s: Wall-clock seconds, with the start of workers.
        num_starts: Starts.
        shares: Share of each stage in the time of the workers, the largest first.
        num_decoded: Samples that were fetched and decoded.
        media_s: Seconds of media among them, 0 where they have no length.
        num_bytes_read: Bytes fetched from the source.
        num_bytes_written: Bytes written to the stores.
        num_untold: Samples stored beside those, whose work is in the time and in no other number.
    """

    num_samples: int
    samples_per_s: float | None
    wall_s: float
    num_starts: int
    shares: Mapping[str, float]
    num_decoded: int
    media_s: float
    num_bytes_read: int
    num_bytes_written: int
    num_untold: int = 0


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A sample that is not whole.

    Args:
        key: Key in the source.
        reason: Why.
        status: ``bad``, ``retry`` or ``partial``.
    """

    key: str
    reason: str
    status: str = "bad"


@dataclass(frozen=True, slots=True)
class DoublePair:
    """A sample that is a copy of another.

    Args:
        key: Key in the source.
        kind: What kind of double it is, for example ``copy_of_test``.
        other: Key of the other one.
        distance: Share of differing bits of their signatures, 0 for equal content.
    """

    key: str
    kind: str
    other: str
    distance: float


@dataclass(frozen=True, slots=True)
class RefinementRound:
    """How the labels of one round were made from the teacher's and the witnesses'.

    Args:
        temperature: What the teacher's logits were divided by.
        teacher: Exponent of the teacher.
        witnesses: Exponent of each witness by its modality; 0 is not listened to.
        log_likelihood: Mean log-likelihood in nats of the true labels that temperature and
            exponents were fitted on, under the labels of the round; None where nothing was.
        is_used: Whether the student learnt the labels of this round.
        open_set: How unlabeled samples differ from labelled pairs: ``is_certain``, the ``share`` of
            no known class, the ``slopes`` of the scores, the ``likelihood_ratio``; None where
            nobody asks.
        teachers: Exponent and temperature of each further teacher by its name; 0 is not listened
            to.
    """

    temperature: float
    teacher: float
    witnesses: Mapping[str, float]
    log_likelihood: float | None = None
    is_used: bool = True
    open_set: Mapping[str, Any] | None = None
    teachers: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """Everything that a report says of one run.

    Args:
        experiment: Name of the run.
        seed: Its seed.
        evaluation: What was measured.
        decision: What the gate said.
        shipped: Arm that was put in front of the gate.
        counts: How many inputs ended in each status.
        num_pseudo_labels: Pseudo-labels of the unlabeled set.
        seconds: Wall-clock seconds by stage, ``total`` among them.
        splits: Samples of each split that are in use.
        marked: Samples that are not used any more, by reason.
        unreadable: Samples that are not whole; a first few hundred of each status are enough.
        histories: Logged steps of the fits.
        cards: Samples worth showing.
        pictures: Further figures, for example decision boundaries.
        config_yaml: Resolved configuration of the run.
        fingerprints: Name and fingerprint of stores and networks.
        versions: Versions of the software.
        doubles: Per split, how many rows occur twice and how; None where nobody looked.
        num_excluded_doubles: How many of these nothing uses.
        shared_groups: What is wrong with the splits: groups that several of them have.
        source_notes: What the source says of its samples, for example which values it filled.
        double_pairs: Some of them, each with what it is a copy of.
        refinement: The rounds in which the labels of our student were made.
        calibration: How far the teacher's confidence is from its accuracy; None where nobody asks.
        classes: Names of the classes.
        contribution: What each modality contributes to the shipped student; None where nobody asks.
        preflight: What was to be expected before training; None where nobody looked ahead.
        taught: Who taught the run, in a sentence.
        student_calibration: How far the confidence of the student in front of the gate is from its
            accuracy; None of dense labels.
        throughput: What the pass over the source took; None where that is unknown.
        cost_per_hour: Cost of the whole cluster per hour, None where nobody said.
        config: Resolved configuration as plain data, without secrets.
        drawn: What the data are: ``source`` names how they are made or listed, wherever they are,
            ``data_seed`` which draw of it, None where there is one alone.
    """

    experiment: str
    seed: int
    evaluation: Evaluation
    decision: GateDecision
    shipped: str
    counts: StatusCounts
    num_pseudo_labels: int
    seconds: Mapping[str, float]
    splits: Mapping[str, int] = field(default_factory=dict)
    marked: Mapping[str, int] = field(default_factory=dict)
    unreadable: Sequence[UnreadableFile] = ()
    histories: Sequence[FitHistory] = ()
    cards: Sequence[SampleCard] = ()
    pictures: Sequence[Picture] = ()
    config_yaml: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    doubles: Mapping[str, Mapping[str, int]] | None = None
    num_excluded_doubles: int = 0
    shared_groups: Sequence[str] = ()
    source_notes: Sequence[str] = ()
    double_pairs: Sequence[DoublePair] = ()
    refinement: Sequence[RefinementRound] = ()
    calibration: Calibration | None = None
    classes: Sequence[str] = ()
    contribution: Contribution | None = None
    preflight: Mapping[str, Any] | None = None
    taught: str = ""
    student_calibration: Calibration | None = None
    throughput: Throughput | None = None
    cost_per_hour: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    @property
    def teacher(self) -> ArmResult:
        """The teacher on test."""
        return self.evaluation.arms[TEACHER]

    @property
    def student(self) -> ArmResult | None:
        """The shipped arm on test, None where it was not trained."""
        return self.evaluation.arms.get(self.shipped)


def metrics_of(content: ReportContent) -> dict[str, Any]:
    """Return the content of ``metrics.json``; a number that cannot be told is None."""
    evaluation, student = content.evaluation, content.student
    flow = None if student is None else student.flow
    teacher_flow = evaluation.teacher_flow
    metrics = {
        "experiment": content.experiment,
        "metric": evaluation.metric,
        "seed": content.seed,
        "judged": content.shipped,
        "shipped": content.shipped if content.decision.promoted else TEACHER,
        "arms": _arms(content),
        "pseudo_labels": {
            "num": content.num_pseudo_labels,
            "accuracy": None if teacher_flow is None else teacher_flow.teacher_accuracy,
            "corrected": None if flow is None else flow.corrected,
            "corrupted": None if flow is None else flow.corrupted,
        },
        "gate": content.decision.to_dict(),
        "counts": {
            "samples": content.counts.samples,
            "ok": content.counts.ok,
            "partial": content.counts.partial,
            "bad": content.counts.bad,
            "retry": content.counts.retry,
            "reasons": dict(content.counts.reasons),
            "partial_reasons": dict(content.counts.partial_reasons),
            "marked": dict(content.marked),
            "test_excluded": evaluation.num_excluded,
        },
        "doubles": _doubles(content),
        "shared_groups": list(content.shared_groups),
        "source_notes": list(content.source_notes),
        "refinement": [
            {
                "temperature": one.temperature,
                "teacher": one.teacher,
                "witnesses": dict(one.witnesses),
                "log_likelihood": one.log_likelihood,
                "used": one.is_used,
                **_further_teachers(one),
                **({} if one.open_set is None else {"open_set": dict(one.open_set)}),
            }
            for one in content.refinement
        ],
        "calibration": _calibration(content.calibration),
        "student_calibration": _calibration(content.student_calibration),
        "diagnosis": diagnosis_dict(evaluation.diagnosis, content.classes),
        "contribution": contribution_numbers(content.contribution),
        "preflight": None if content.preflight is None else dict(content.preflight),
        "seconds": {"label": 0.0, "train": 0.0, "total": 0.0, **content.seconds},
        "throughput": None if content.throughput is None else asdict(content.throughput),
        "cost": cost_of(content.seconds.get("total", 0.0), content.cost_per_hour),
    }
    return _finite(metrics)


def headline(content: ReportContent) -> str:
    """Return the verdict and what was measured on test, in one sentence."""
    student, teacher = content.student, content.teacher
    metric = metric_word(content.evaluation.metric)
    if student is None:
        return f"The teacher reaches {teacher.value:.1%} {metric} on the test set."
    interval = "" if student.gain_ci95 is None else f" (95% interval {_points(student.gain_ci95)})"
    mean = "" if len(student.seeds) < 2 else f", the mean of {len(student.seeds)} networks,"
    return (
        f"{_OUTCOMES[content.decision.verdict]}: {student.value:.1%} {metric}{mean} on the test "
        f"set against its teacher's {teacher.value:.1%}, "
        f"{100 * student.gain:+.1f} points{interval}.{_shipped_one(student)}"
        f"{_better_rival(content, student)}"
    )


def _better_rival(content: ReportContent, student: ArmResult) -> str:
    """Say that labels alone teach better, where the test set shows what the gate was told."""
    rival = content.evaluation.arms.get("mm_labelled_only")
    is_better = content.decision.beaten_by_labelled_only
    if rival is None or not is_better or rival.value <= student.value:
        return ""
    return f" But the paired labels alone teach a better network: {rival.value:.1%}."


def _shipped_one(student: ArmResult) -> str:
    """Say what the one network reaches that was put in front of the gate, of several."""
    if len(student.seeds) < 2:
        return ""
    seed, value = next(iter(student.seeds.items()))
    return f" The gate judged the network of seed {seed}, which reaches {value:.1%}."


def refined_lines(content: ReportContent) -> list[str]:
    """Return what became of the labels, and how sure the teacher may be: a line for each."""
    lines = (
        preflight_line(content),
        refinement_line(content),
        open_set_line(content),
        calibration_line(content),
    )
    return [one for one in lines if one]


def preflight_line(content: ReportContent) -> str:
    """Return what was to be expected before training, "" where nobody looked ahead."""
    return "" if content.preflight is None else f"Pre-flight: {content.preflight['said']}"


def refinement_line(content: ReportContent) -> str:
    """Return what became of the labels of our student, "" where the teacher's are all there is."""
    if not content.refinement:
        return ""
    used = [number for number, one in enumerate(content.refinement) if one.is_used][-1]
    chosen = content.refinement[used]
    teachers = [f"teacher {name} {one:g}" for name, (one, _) in chosen.teachers.items() if one]
    heard = [f"witness of {name} {one:g}" for name, one in chosen.witnesses.items() if one]
    if not teachers and not heard:
        others = f", nor another teacher ({', '.join(chosen.teachers)})"
        return (
            f"No witness was of any use ({', '.join(chosen.witnesses)}"
            f"){others if chosen.teachers else ''}: the student learnt the teacher's own labels."
        )
    rounds = "round" if len(content.refinement) == 1 else "rounds"
    said = (
        f"Labels were refined in {len(content.refinement)} {rounds} of witnesses; those of round "
        f"{used + 1} count: {', '.join([f'teacher {chosen.teacher:g}', *teachers, *heard])}"
    )
    likelihoods = [one.log_likelihood for one in content.refinement]
    if None in likelihoods:
        return f"{said}, not fitted: the select part of the probe has too few samples for that."
    shown = ", ".join(f"{one:.3f}" for one in likelihoods)
    return f"{said}. Log-likelihood of the true labels of the select part by round: {shown}."


def _further_teachers(one: RefinementRound) -> dict[str, Any]:
    """Return how the further teachers of a round were listened to, as metrics.json has it."""
    found = {
        name: {"exponent": exponent, "temperature": temperature}
        for name, (exponent, temperature) in one.teachers.items()
    }
    return {"teachers": found} if found else {}


def open_set_line(content: ReportContent) -> str:
    """Return how many unlabeled samples look irrelevant, "" where nobody asks."""
    used = [one for one in content.refinement if one.is_used]
    found = used[-1].open_set if used else None
    if found is None:
        return ""
    if not found["is_certain"]:
        return "The unlabeled samples look like the labelled pairs: all of them count alike."
    return (
        f"At least about {found['share']:.0%} of the unlabeled samples look irrelevant (no known "
        "class, or another clip's sound); each counts by how likely it is not one of them."
    )


def calibration_line(content: ReportContent) -> str:
    """Return how sure the teacher may be, "" where nobody asks."""
    found = content.calibration
    if found is None:
        return ""
    said = f"The teacher's confidence is {found.before:.1%} off its accuracy on the test set"
    if found.temperature == 1:  # none was fitted
        return f"{said} (expected calibration error)."
    return (
        f"{said}, {found.after:.1%} at the temperature {found.temperature:.2f} of the select part "
        "(expected calibration error)."
    )


def cost_of(spent_s: float, cost_per_hour: float | None) -> float | None:
    """Return what some seconds cost, None where nobody said what an hour does."""
    return None if cost_per_hour is None else spent_s / SECONDS_PER_HOUR * cost_per_hour


def metric_word(metric: str) -> str:
    """Return the name of a metric for a person."""
    words = {"accuracy": "accuracy", "map": "mean average precision", "miou": "mean IoU"}
    return words.get(metric, metric)


def _doubles(content: ReportContent) -> dict[str, Any] | None:
    """Return what occurs twice as plain data, None where nobody looked."""
    if content.doubles is None:
        return None
    return {**content.doubles, "excluded": content.num_excluded_doubles}


def _calibration(found: Calibration | None) -> dict[str, float] | None:
    """Return a calibration as plain data."""
    if found is None:
        return None
    ends = {"ece_before": found.before, "ece_after": found.after}
    return {"temperature": found.temperature, **ends}


def _arms(content: ReportContent) -> dict[str, Any]:
    """Return the arms as plain data; the shipped one is there as ``mm_student`` too."""
    arms = {name: _arm(result) for name, result in content.evaluation.arms.items()}
    if content.student is not None:
        arms.setdefault(STUDENT, {**arms[content.shipped], "same_as": content.shipped})
    return arms


def _arm(result: ArmResult) -> dict[str, Any]:
    """Return one arm as plain data."""
    flow = result.flow
    of_pixels: dict[str, Any] = {}
    if result.pixel_accuracy is not None:
        of_pixels = {
            "pixel_accuracy": result.pixel_accuracy,
            "class_ious": list(result.class_ious),
        }
    return {
        "value": result.value,
        "ci95": None if result.ci95 is None else list(result.ci95),
        "num_test": result.num_test,
        "num_groups": result.num_groups,
        "gain": result.gain,
        "gain_ci95": None if result.gain_ci95 is None else list(result.gain_ci95),
        "seeds": {str(seed): value for seed, value in result.seeds.items()},
        "select": result.select,
        "corrected": None if flow is None else flow.corrected,
        "corrupted": None if flow is None else flow.corrupted,
        **of_pixels,
        **({"further": dict(result.further)} if result.further else {}),
    }


def _points(ends: tuple[float, float]) -> str:
    """Return an interval of differences in points."""
    return f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that are not finite are None, as JSON demands."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
