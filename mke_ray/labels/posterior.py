"""The posterior of a teacher and of witnesses of the other modalities: refined labels.

Source:
    The E-step of a mixture whose classes are seen by conditionally independent views, with the
    teacher held fixed; kin are co-training (Blum, Mitchell, COLT 1998) and co-EM (Nigam, Ghani,
    CIKM 2000). Exponents stand in for the independence that does not hold and for witnesses that
    learnt from noisy labels and are less sure than they could be.
"""

# N samples, M witnesses, C classes, F folds.

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

_LEAST = 1e-6
_MAX_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Posterior:
    """How the logits of a teacher and of witnesses become one.

    Of one class per sample: ``log q = s_a log p_a + sum_m s_m (log p_m - log prior)``, normalised.
    Of many: the same of the log-odds of every class. A witness that saw nothing adds nothing.

    Args:
        temperature: Divides the teacher's logits.
        teacher: Exponent s_a of the teacher.
        witnesses: Exponent s_m of each witness.
        prior: Probability of each class [C]: the mean of the teacher's over the unlabeled samples.
        kind: ``single`` or ``multi``.
        class_temperatures: Of many classes the temperature of each [C]; empty takes the one.
    """

    temperature: float
    teacher: float
    witnesses: tuple[float, ...]
    prior: tuple[float, ...]
    kind: str = LabelKind.SINGLE
    class_temperatures: tuple[float, ...] = ()

    @property
    def divisor(self) -> float | NDArray:
        """What the teacher's logits are divided by: a number, or one for each class [C]."""
        each = self.class_temperatures
        return np.asarray(each) if each else self.temperature

    @property
    def is_useless(self) -> bool:
        """Whether no witness has a say."""
        return not any(self.witnesses)

    def logits(self, teacher_NC: NDArray, witness_MNC: NDArray) -> NDArray:
        """Return refined logits [N, C], of which the softmax or sigmoid is the posterior.

        Args:
            teacher_NC: Logits of the teacher [N, C], NaN where it has none; then so are these.
            witness_MNC: Logits of the witnesses [M, N, C], NaN where one saw nothing.
        """
        found_NC = self.teacher * self._log(np.asarray(teacher_NC, np.float64) / self.divisor)
        for exponent, one_NC in zip(self.witnesses, witness_MNC, strict=True):
            more_NC = self._log(np.asarray(one_NC, np.float64)) - self.log_prior
            found_NC = found_NC + exponent * np.where(np.isnan(more_NC), 0.0, more_NC)
        return found_NC if self.kind == LabelKind.MULTI else log_softmax(found_NC, axis=1)

    def log_likelihood(self, teacher_NC: NDArray, witness_MNC: NDArray, truth_NC: NDArray) -> float:
        """Return the mean log-likelihood of true labels in nats, over samples (and classes)."""
        found_NC = self.logits(teacher_NC, witness_MNC)
        if self.kind == LabelKind.MULTI:
            return float(np.where(truth_NC, log_expit(found_NC), log_expit(-found_NC)).mean())
        return float(found_NC[np.asarray(truth_NC, bool)].mean())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, of which the name of a label store is made."""
        return {
            "temperature": self.temperature,
            "teacher": self.teacher,
            "witnesses": list(self.witnesses),
            "prior": list(self.prior),
            "kind": str(self.kind),
            **({"class_temperatures": list(each)} if (each := self.class_temperatures) else {}),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Posterior":
        """Build a posterior from plain data."""
        exponents, prior = tuple(plain["witnesses"]), tuple(plain["prior"])
        return cls(
            plain["temperature"],
            plain["teacher"],
            exponents,
            prior,
            plain["kind"],
            tuple(plain.get("class_temperatures", ())),
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
    witness_FMNC: NDArray,
    truth_NC: NDArray,
    *,
    teacher_exponents: Sequence[float] = TEACHER_EXPONENTS,
    witness_exponents: Sequence[float] = WITNESS_EXPONENTS,
) -> Posterior:
    """Return the posterior with those exponents of a grid that make true labels likeliest.

    The network of every fold is asked apart, as each unlabeled sample is judged by a single one. Of
    one witness the whole grid is tried, of several one after the other until nothing gains. One
    that saw none of the samples keeps its exponent.

    Args:
        start: What to start from.
        teacher_NC: Logits of the teacher on labelled samples [N, C].
        witness_FMNC: Logits of the network of every fold of every witness [F, M, N, C].
        truth_NC: Whether each sample is of each class [N, C].
        teacher_exponents: Exponents of the teacher to try.
        witness_exponents: Exponents of a witness to try.
    """
    if not len(teacher_NC):
        return start

    def likelihood(one: Posterior) -> float:
        return mean_log_likelihood(one, teacher_NC, witness_FMNC, truth_NC)

    def tried(s_a: float, others: tuple[float, ...]) -> Posterior:
        return replace(start, teacher=s_a, witnesses=others)

    best, best_likelihood = start, -np.inf
    for _ in range(_MAX_SWEEPS):
        found = best
        for number in range(len(start.witnesses)):
            if np.isnan(witness_FMNC[:, number]).any(axis=-1).all():
                continue  # nothing was measured of this one
            for s_a, s_m in product(teacher_exponents, witness_exponents):
                exponents = (*best.witnesses[:number], s_m, *best.witnesses[number + 1 :])
                one = tried(s_a, exponents)
                if (now := likelihood(one)) > best_likelihood + 1e-12:
                    found, best_likelihood = one, now
            best = found
        if len(start.witnesses) < 2 or found == start:
            break
        start = found
    return best


def mean_log_likelihood(
    posterior: Posterior, teacher_NC: NDArray, witness_FMNC: NDArray, truth_NC: NDArray
) -> float:
    """Return the log-likelihood of true labels in nats, the mean over samples and folds.

    The arguments are those of ``fit_exponents``.
    """
    of_folds = [posterior.log_likelihood(teacher_NC, one, truth_NC) for one in witness_FMNC]
    return float(np.mean(of_folds))
