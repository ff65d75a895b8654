"""What each modality contributes to a student: the test split with some hidden or under noise."""

# M modalities.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mke_ray.evaluation.evaluate import evaluate
from mke_ray.evaluation.noise import can_be_noisy
from mke_ray.evaluation.plan import EvaluationPlan
from mke_ray.evaluation.predictions import FitColumn, PredictionPlan
from mke_ray.evaluation.results import ArmResult
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Split, decode_spec_from_dict
from mke_ray.storage import Root


@dataclass(frozen=True, slots=True)
class SeenResult:
    """A student that is shown some of its modalities, on the test set.

    Args:
        modalities: What it is shown.
        value: Its metric.
        ci95: 95% interval of the value by group; None where all samples are of one group.
        change: Difference to the student that is shown everything, below 0 where it is worse.
        change_ci95: 95% interval of the paired difference.
    """

    modalities: tuple[str, ...]
    value: float
    ci95: tuple[float, float] | None
    change: float = 0.0
    change_ci95: tuple[float, float] | None = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class NoisyResult:
    """A student one of whose modalities is under noise, on the test set.

    Args:
        modality: The modality.
        level: Standard deviation of the noise as a multiple of the signal's.
        result: What it reaches, and the change to the student without noise.
    """

    modality: str
    level: float
    result: SeenResult


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a student reaches on the test set with modalities hidden or under noise.

    A sample that has nothing of what is shown is answered wrong.

    Args:
        arm: Arm of the student.
        modalities: What it reads, in order of name.
        whole: Shown everything.
        parts: Shown less, in the order of ``parts_of_all``.
        knows_gaps: Whether modalities were missing in its training too, so that one that is hidden
            is nothing new to it.
        noisy: With one modality under noise, by modality and rising level; none of tokens.
    """

    arm: str
    modalities: tuple[str, ...]
    whole: SeenResult
    parts: tuple[SeenResult, ...]
    knows_gaps: bool
    noisy: tuple[NoisyResult, ...] = ()

    def without(self, modality: str) -> SeenResult:
        """Return the student from which one modality is hidden."""
        return self._seeing(tuple(name for name in self.modalities if name != modality))

    def alone(self, modality: str) -> SeenResult:
        """Return the student that is shown one modality."""
        return self._seeing((modality,))

    def _seeing(self, modalities: tuple[str, ...]) -> SeenResult:
        return next(one for one in self.parts if one.modalities == modalities)


def parts_of_all(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all modalities but each in turn, then each alone, none twice."""
    names = sorted(modalities)
    without = [tuple(one for one in names if one != hidden) for hidden in names]
    return list(dict.fromkeys([*without, *((name,) for name in names)]))


def contribution_plan(
    plan: PredictionPlan,
    *,
    fit: str,
    folder: Root,
    modalities: Sequence[str],
    noise_levels: Sequence[float] = (),
    spread: Mapping[str, Sequence[float]] | None = None,
) -> PredictionPlan:
    """Return the plan of the predictions that a contribution is made of.

    Args:
        plan: The plan of the arms.
        fit: Fingerprint of the student's fit.
        folder: Folder of the student.
        modalities: What it reads.
        noise_levels: How much noise each modality is put under in turn.
        spread: Standard deviation of each feature, of modalities of features.
    """
    seen = {
        _column(fit, one): one for one in [tuple(sorted(modalities)), *parts_of_all(modalities)]
    }
    noise = _noise_columns(plan, fit, modalities, noise_levels)
    columns = [*seen, *noise]
    students = dict.fromkeys(columns, folder)
    return replace(plan, students=students, seen=seen, noise=noise, spread=spread or {})


def measure_contribution(
    compared: EvaluationPlan,
    predictions: UnitStore,
    *,
    fit: str,
    modalities: Sequence[str],
    knows_gaps: bool,
    noise: Mapping[str, tuple[str, float]] | None = None,
) -> Contribution:
    """Return what each modality contributes, by the metric of the arms.

    Args:
        compared: What the evaluation of the arms compared.
        predictions: Finished predictions of ``contribution_plan``, at least of the test split.
        noise: ``noise`` of that plan.
        fit: Fingerprint of the student's fit.
        modalities: What it reads.
        knows_gaps: Whether modalities were missing in its training too.
    """
    whole, parts = tuple(sorted(modalities)), parts_of_all(modalities)
    columns = {one: _column(fit, one) for one in [whole, *parts]}
    plan = replace(
        compared,
        predictions=predictions,
        columns=[FitColumn(one, 0, one) for one in [*columns.values(), *(noise or {})]],
        shipped="",
        relabelled=None,
        splits=(Split.TEST,),
        reference=columns[whole],
    )
    arms = evaluate(plan).arms
    results = {one: _seen(one, arms[column]) for one, column in columns.items()}
    under = [
        NoisyResult(name, level, _seen(whole, arms[column]))
        for column, (name, level) in (noise or {}).items()
    ]
    return Contribution(
        compared.shipped,
        whole,
        results[whole],
        tuple(results[one] for one in parts),
        knows_gaps,
        tuple(sorted(under, key=lambda one: (one.modality, one.level))),
    )


def _column(fit: str, modalities: Sequence[str]) -> str:
    """Return the column of a student that is shown some modalities."""
    return f"{fit}/{','.join(modalities)}"


def _noise_columns(
    plan: PredictionPlan, fit: str, modalities: Sequence[str], levels: Sequence[float]
) -> dict[str, tuple[str, float]]:
    """Return the modality under noise, and how much, by column."""
    decode = decode_spec_from_dict(plan.decode) if levels else {}
    return {
        f"{fit}/{name}+{level:g}": (name, level)
        for name in sorted(modalities)
        for level in levels
        if can_be_noisy(decode, name)
    }


def _seen(modalities: tuple[str, ...], result: ArmResult) -> SeenResult:
    """Return the result of an arm that is a student shown some modalities."""
    return SeenResult(modalities, result.value, result.ci95, result.gain, result.gain_ci95)
