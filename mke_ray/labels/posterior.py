"""The posterior of teachers and of witnesses of the other modalities: refined labels.

Source:
    The E-step of a mixture whose classes are seen by conditionally independent views, with the
    teacher held fixed; kin are co-training (Blum, Mitchell, COLT 1998) and co-EM (Nigam, Ghani,
    CIKM 2000). Exponents stand in for the independence that does not hold and for witnesses that
    learnt from noisy labels and are less sure than they could be.
"""

# N samples, M experts (witnesses, then further teachers), C classes, F folds.

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, logit, softmax

from mke_ray.metrics import fit_class_temperatures, fit_temperature
from mke_ray.schema import LabelKind

TEACHER_EXPONENTS = (0.5, 1.0, 1.5)
WITNESS_EXPONENTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
AMONG_TEACHERS = (0.0, 0.25, 0.5, 1.0, 1.5)  # the first of several teachers may be the worst

_LEAST = 1e-6
_MAX_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class FurtherTeacher:
    """A teacher beside the first one.

    Args:
        temperature: Divides its logits.
        exponent: Its exponent s_m.
        class_temperatures: Of many classes the temperature of each [C]; empty takes the one.
    """

    temperature: float = 1.0
    exponent: float = 1.0
    class_temperatures: tuple[float, ...] = ()

    @property
    def divisor(self) -> float | NDArray:
        """What its logits are divided by: a number, or one for each class [C]."""
        each = self.class_temperatures
        return np.asarray(each) if each else self.temperature

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        each = list(self.class_temperatures)
        plain = {"temperature": self.temperature, "exponent": self.exponent}
        return {**plain, **({"class_temperatures": each} if each else {})}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "FurtherTeacher":
        """Build a further teacher from plain data."""
        each = tuple(plain.get("class_temperatures", ()))
        return cls(plain["temperature"], plain["exponent"], each)


@dataclass(frozen=True, slots=True)
class Posterior:
    """How the logits of a teacher, of witnesses and of further teachers become one.

    Of one class per sample: ``log q = s_a log p_a + sum_m s_m (log p_m - log prior)``, normalised.
    Of many: the same of the log-odds of every class. An expert m, a witness or a further teacher,
    that saw nothing adds nothing.

    Args:
        temperature: Divides the teacher's logits.
        teacher: Exponent s_a of the teacher.
        witnesses: Exponent s_m of each witness.
        prior: Probability of each class [C]: the mean of the teacher's over the unlabeled samples.
        kind: ``single``, ``multi`` or ``dense``.
        class_temperatures: Of many classes the temperature of each [C]; empty takes the one.
        further: The further teachers.
    """

    temperature: float
    teacher: float
    witnesses: tuple[float, ...]
    prior: tuple[float, ...]
    kind: str = LabelKind.SINGLE
    class_temperatures: tuple[float, ...] = ()
    further: tuple[FurtherTeacher, ...] = ()

    @property
    def divisor(self) -> float | NDArray:
        """What the teacher's logits are divided by: a number, or one for each class [C]."""
        each = self.class_temperatures
        return np.asarray(each) if each else self.temperature

    @property
    def is_useless(self) -> bool:
        """Whether neither a witness nor a further teacher has a say."""
        return not any(self.exponents)

    @property
    def exponents(self) -> tuple[float, ...]:
        """Exponent of each expert: of the witnesses, then of the further teachers."""
        return (*self.witnesses, *(one.exponent for one in self.further))

    @property
    def divisors(self) -> tuple[float | NDArray, ...]:
        """What the logits of each expert are divided by: a number, or one for each class [C]."""
        return (*(1.0 for _ in self.witnesses), *(one.divisor for one in self.further))

    def with_exponents(self, teacher: float, experts: Sequence[float]) -> "Posterior":
        """Return the same with other exponents, those of the experts in the order of theirs."""
        num = len(self.witnesses)
        pairs = zip(self.further, experts[num:], strict=True)
        further = tuple(replace(one, exponent=exponent) for one, exponent in pairs)
        return replace(self, teacher=teacher, witnesses=tuple(experts[:num]), further=further)

    def logits(self, teacher_NC: NDArray, expert_MNC: NDArray) -> NDArray:
        """Return refined logits [N, C], of which the softmax or sigmoid is the posterior.

        Args:
            teacher_NC: Logits of the teacher [N, C], NaN where it has none; then so are these.
            expert_MNC: Logits of the witnesses, then of the further teachers [M, N, C], NaN where
                one saw nothing.
        """
        found_NC = self.teacher * self._log(np.asarray(teacher_NC, np.float64) / self.divisor)
        experts = zip(self.exponents, self.divisors, expert_MNC, strict=True)
        for exponent, divisor, one_NC in experts:
            more_NC = self._log(np.asarray(one_NC, np.float64) / divisor) - self.log_prior
            found_NC = found_NC + exponent * np.where(np.isnan(more_NC), 0.0, more_NC)
        return found_NC if self.kind == LabelKind.MULTI else log_softmax(found_NC, axis=1)

    def log_likelihood(self, teacher_NC: NDArray, expert_MNC: NDArray, truth_NC: NDArray) -> float:
        """Return the mean log-likelihood of true labels in nats, over samples (and classes)."""
        found_NC = self.logits(teacher_NC, expert_MNC)
        if self.kind == LabelKind.MULTI:
            return float(np.where(truth_NC, log_expit(found_NC), log_expit(-found_NC)).mean())
        return float(found_NC[np.asarray(truth_NC, bool)].mean())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, of which the name of a label store is made."""
        further = [one.to_dict() for one in self.further]
        return {
            "temperature": self.temperature,
            "teacher": self.teacher,
            "witnesses": list(self.witnesses),
            "prior": list(self.prior),
            "kind": str(self.kind),
            **({"class_temperatures": list(each)} if (each := self.class_temperatures) else {}),
            **({"further": further} if further else {}),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Posterior":
        """Build a posterior from plain data."""
        exponents, prior = tuple(plain["witnesses"]), tuple(plain["prior"])
        further = tuple(FurtherTeacher.from_dict(one) for one in plain.get("further", ()))
        return cls(
            plain["temperature"],
            plain["teacher"],
            exponents,
            prior,
            plain["kind"],
            tuple(plain.get("class_temperatures", ())),
            further,
        )

    @property
    def log_prior(self) -> NDArray:
        """Logarithm of the prior, or its log-odds where there can be many classes [C]."""
        prior_C = np.clip(np.asarray(self.prior), _LEAST, 1.0 - _LEAST)
        return logit(prior_C) if self.kind == LabelKind.MULTI else np.log(prior_C)

    def _log(self, logits_NC: NDArray) -> NDArray:
        """Return log-probabilities, or log-odds where there can be many classes [N, C]."""
        return logits_NC if self.kind == LabelKind.MULTI else log_softmax(logits_NC, axis=1)


def probabilities(logits_NC: NDArray, *, temperature: float | NDArray, kind: str) -> NDArray:
    """Return the probabilities of logits [N, C].

    Args:
        logits_NC: The logits.
        temperature: Divides them; a number, or one for each class [C].
        kind: ``single`` or ``multi``.
    """
    scaled_NC = np.asarray(logits_NC, np.float64) / temperature
    return expit(scaled_NC) if kind == LabelKind.MULTI else softmax(scaled_NC, axis=1)


def calibrated(start: Posterior, teacher_NC: NDArray, truth_NC: NDArray) -> Posterior:
    """Return a posterior whose temperature makes true labels likeliest by the teacher alone.

    Args:
        start: The posterior.
        teacher_NC: Logits of the teacher on labelled samples [N, C].
        truth_NC: Whether each sample is of each class [N, C].
    """
    if start.kind != LabelKind.MULTI:
        return replace(start, temperature=fit_temperature(teacher_NC, truth_NC.argmax(axis=1)))
    each = tuple(fit_class_temperatures(teacher_NC, truth_NC).tolist())
    return replace(
        start, temperature=fit_temperature(teacher_NC, truth_NC), class_temperatures=each
    )


def fit_exponents(
    start: Posterior,
    teacher_NC: NDArray,
    expert_FMNC: NDArray,
    truth_NC: NDArray,
    *,
    teacher_exponents: Sequence[float] | None = None,
    expert_exponents: Sequence[float] = WITNESS_EXPONENTS,
) -> Posterior:
    """Return the posterior with those exponents of a grid that make true labels likeliest.

    The network of every fold is asked apart, as each unlabeled sample is judged by a single one. Of
    one expert the whole grid is tried, of several one after the other until nothing gains. One
    that saw none of the samples keeps its exponent.

    Args:
        start: What to start from.
        teacher_NC: Logits of the teacher on labelled samples [N, C].
        expert_FMNC: Logits of the network of every fold of every witness, then those of the further
            teachers, the same for every fold [F, M, N, C].
        truth_NC: Whether each sample is of each class [N, C].
        teacher_exponents: Exponents of the teacher to try; None takes those of one teacher or of
            the first of several.
        expert_exponents: Exponents of an expert to try.
    """
    if not len(teacher_NC):
        return start
    if teacher_exponents is None:
        teacher_exponents = AMONG_TEACHERS if start.further else TEACHER_EXPONENTS

    def likelihood(one: Posterior) -> float:
        return mean_log_likelihood(one, teacher_NC, expert_FMNC, truth_NC)

    best, best_likelihood = start, -np.inf
    for _ in range(_MAX_SWEEPS):
        found = best
        for number in range(len(start.exponents)):
            if np.isnan(expert_FMNC[:, number]).any(axis=-1).all():
                continue  # nothing was measured of this one
            for s_a, s_m in product(teacher_exponents, expert_exponents):
                exponents = (*best.exponents[:number], s_m, *best.exponents[number + 1 :])
                one = start.with_exponents(s_a, exponents)
                if (now := likelihood(one)) > best_likelihood + 1e-12:
                    found, best_likelihood = one, now
            best = found
        if len(start.exponents) < 2 or found == start:
            break
        start = found
    return best


def mean_log_likelihood(
    posterior: Posterior, teacher_NC: NDArray, expert_FMNC: NDArray, truth_NC: NDArray
) -> float:
    """Return the log-likelihood of true labels in nats, the mean over samples and folds.

    The arguments are those of ``fit_exponents``.
    """
    of_folds = [posterior.log_likelihood(teacher_NC, one, truth_NC) for one in expert_FMNC]
    return float(np.mean(of_folds))
