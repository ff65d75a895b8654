"""Rounds of witnesses and posteriors: what each found, and which of them counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from mke_ray.labels.openset import Tilt
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.store import UnitStore
from mke_ray.train.arms import ExpansionSettings


@dataclass(frozen=True, slots=True)
class Round:
    """One round of witnesses.

    Args:
        posterior: How their answers and the teachers' became one.
        log_likelihood: How likely that makes the true labels of the select part; None where these
            are too few to fit anything.
        tilt: How the unlabeled samples differ from labelled pairs; None where nobody asks, or
            nothing can be told.
    """

    posterior: Posterior
    log_likelihood: float | None
    tilt: Tilt | None = None


@dataclass(frozen=True, slots=True)
class Refined:
    """What our student learns from.

    Args:
        settings: What its arm is told.
        relabelled: Label store of the round that counts, also of test and probe; the teacher's own
            where no witness was of any use.
        witnesses: Modalities of the witnesses.
        rounds: The rounds.
        chosen: The round whose labels count, from 0.
        teachers: Names of the further teachers that took part.
    """

    settings: ExpansionSettings
    relabelled: UnitStore
    witnesses: tuple[str, ...]
    rounds: tuple[Round, ...]
    chosen: int
    teachers: tuple[str, ...] = ()

    @property
    def is_by_witnesses(self) -> bool:
        """Whether a witness was of any use, so that its labels are not the teacher's own."""
        return not self.rounds[self.chosen].posterior.is_useless


def chosen_round(rounds: Sequence[Round]) -> int:
    """Return the number of the round, from 0, that makes the select part likeliest.

    Of equal ones it is the first, and where nothing was fitted the last of all.
    """
    likelihoods = [one.log_likelihood for one in rounds if one.log_likelihood is not None]
    if len(likelihoods) < len(rounds):
        return len(rounds) - 1
    return likelihoods.index(max(likelihoods))


def exponents_in_words(
    posterior: Posterior, modalities: Sequence[str], teachers: Sequence[str]
) -> str:
    """Return exponents in words.

    Args:
        posterior: The posterior.
        modalities: Modalities of its witnesses.
        teachers: Names of its further teachers.
    """
    said = [f"teacher {posterior.teacher:g} (temperature {posterior.temperature:.2f})"]
    further = zip(teachers, posterior.further, strict=True)
    said += [
        f"teacher {name} {one.exponent:g} (temperature {one.temperature:.2f})"
        for name, one in further
    ]
    witnesses = zip(modalities, posterior.witnesses, strict=True)
    return ", ".join([*said, *(f"witness of {name} {one:g}" for name, one in witnesses)])
