"""Ray Tune's question for the next trial, answered by Optuna from the trials that are on record."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from mke_ray.errors import ConfigError
from mke_ray.search.candidates import Candidate
from mke_ray.search.ledger import FAILED, STOPPED, USUAL, Begun, Ledger, TrialRecord
from mke_ray.search.space import Space
from mke_ray.search.trial import CURVE, QUALITY
from mke_ray.seeds import mix_integers

logger = logging.getLogger(__name__)

NUMBER = "number"

_NUM_AT_RANDOM = 8  # trials before the sampler learns from them

_STATES = {FAILED: TrialState.FAIL, STOPPED: TrialState.PRUNED}


@dataclass(frozen=True, slots=True)
class StudySettings:
    """How Optuna looks for the next trial.

    Args:
        sampler: ``tpe`` or ``random``.
        seed: Seed of the sampler.
        cost: None searches for quality alone; ``seconds`` or ``parameters`` is a second goal.
    """

    sampler: str
    seed: int
    cost: str | None = None

    def study(self, number: int = 0) -> optuna.Study:
        """Return an empty study.

        Args:
            number: The trial that is drawn next.
        """
        directions = ["maximize"] if self.cost is None else ["maximize", "minimize"]
        return optuna.create_study(sampler=self.sampler_of(number), directions=directions)

    def sampler_of(self, number: int) -> optuna.samplers.BaseSampler:
        """Return what draws a trial: the same whatever was drawn before by this process.

        Args:
            number: The trial.
        """
        seed = mix_integers(self.seed, number) % (1 << 31)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {
            "tpe": lambda: optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, n_startup_trials=_NUM_AT_RANDOM
            ),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        if self.sampler not in samplers:
            raise ConfigError(f"search.sampler={self.sampler!r}; choose one of {[*samplers]}")
        with warnings.catch_warnings():  # keys are drawn together, which Optuna calls experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return samplers[self.sampler]()


def study_of(settings: StudySettings, space: Space, records: Sequence[TrialRecord]) -> optuna.Study:
    """Return a study of the trials that have ended.

    Args:
        settings: How it looks for the next one.
        space: What was searched.
        records: The trials; those of configurations outside the space are left out.
    """
    study = settings.study()
    study.add_trials([frozen(one, space, settings.cost) for one in records if one.params])
    return study


def frozen(record: TrialRecord, space: Space, cost: str | None) -> FrozenTrial:
    """Return a trial that has ended as Optuna knows trials."""
    drawn = FixedTrial(dict(record.params))
    space.draw(drawn)
    quality = record.quality
    state = TrialState.FAIL if quality is None else _STATES.get(record.state, TrialState.COMPLETE)
    values: list[float] = []
    if state is TrialState.COMPLETE and quality is not None:
        values = [quality, *([] if cost is None else [record.cost(cost)])]
    return create_trial(
        state=state,
        values=values or None,
        params=dict(record.params),
        distributions=drawn.distributions,
        intermediate_values={}
        if cost is not None
        else {one["step"]: one["quality"] for one in record.curve},
    )


class LedgerSearcher(Searcher):
    """Gives trials to Ray Tune, each under a number, and writes what becomes of them.

    First come those that an earlier driver had begun and that have not ended, then the others by
    number: number 0 is the configuration as it is, the rest are what Optuna draws. Everything that
    it knows is in the ledger: nothing of Tune's own is read again.

    Args:
        ledger: Where trials are written.
        space: What is searched.
        settings: How.
        candidate: Makes what a trial trains of its values.
        usual: Values of the configuration as it is, as far as it is in the space.
        num_trials: Trials in all, those that have ended too.
        on_end: Called with every trial that ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        settings: StudySettings,
        *,
        candidate: Callable[[Mapping[str, Any]], Candidate],
        usual: Mapping[str, Any],
        num_trials: int,
        on_end: Callable[[TrialRecord], None] = lambda _: None,
    ) -> None:
        super().__init__(metric=QUALITY, mode="max")
        self._ledger, self._space, self._settings = ledger, space, settings
        self._candidate, self._on_end = candidate, on_end
        ended = ledger.ended()
        self._study = study_of(settings, space, ended)
        self._next = _upcoming(ended, ledger.interrupted(), num_trials)
        self._usual = space.params_of(usual)
        self._running: dict[str, tuple[Begun, optuna.trial.Trial | None, Candidate]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return what the next trial trains.

        A configuration that does not fit is on record as failed, and the one after it is returned.

        Args:
            trial_id: What Tune calls the trial.

        Returns:
            What ``train_trial`` takes.
        """
        for wanted in self._next:
            trial = self._trial_of(wanted)
            values = {} if trial is None else self._space.draw(trial)
            params = {} if trial is None else trial.params
            begun = Begun(wanted.number, params, values)
            self._ledger.begin(begun)
            try:
                candidate = self._candidate(values)
            except ConfigError as error:
                self._write(begun, trial, FAILED, {}, reason=str(error))
                continue
            self._running[trial_id] = (begun, trial, candidate)
            return {
                NUMBER: begun.number,
                "fit": candidate.fit.to_dict(),
                "engine": dict(candidate.engine),
                "scaling": dict(candidate.scaling),
            }
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take no note: ``ended`` is told why a trial ended too."""

    def ended(self, trial_id: str, state: str, result: Mapping[str, Any], reason: str = "") -> None:
        """Write what became of a trial.

        Args:
            trial_id: What Tune calls the trial.
            state: ``finished``, ``stopped`` or ``failed``.
            result: Its last report; empty where there was none.
            reason: Why it failed.
        """
        if trial_id not in self._running:
            return
        begun, trial, candidate = self._running.pop(trial_id)
        self._write(begun, trial, state, result, reason=reason, fit=candidate.fit.fingerprint())

    def number_of(self, trial_id: str) -> int | None:
        """Return the number of a running trial."""
        return self._running[trial_id][0].number if trial_id in self._running else None

    def __reduce__(self) -> Any:
        """Stand for nothing in what Tune keeps to go on from: a search goes on from its ledger."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file, which Tune expects: the ledger has it all."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""

    def _trial_of(self, begun: Begun) -> optuna.trial.Trial | None:
        """Return the trial of Optuna that draws what a trial is to be; None draws nothing."""
        params = begun.params
        if begun.number == USUAL and not params:
            if self._usual is None:
                return None
            params = self._usual
        if params:
            self._study.enqueue_trial(dict(params))
        self._study.sampler = self._settings.sampler_of(begun.number)
        return self._study.ask()

    def _write(
        self,
        begun: Begun,
        trial: optuna.trial.Trial | None,
        state: str,
        result: Mapping[str, Any],
        *,
        reason: str,
        fit: str = "",
    ) -> None:
        """Write the record of a trial and tell Optuna."""
        record = TrialRecord(
            begun.number,
            state,
            begun.params,
            begun.values,
            curve=tuple(result.get(CURVE, ())),
            fit=fit,
            num_parameters=int(result.get("num_parameters", 0)),
            reason=reason,
            full_samples=int(result.get("full_samples", 0)),
        )
        self._ledger.end(record)
        self._on_end(record)
        if trial is None:
            return
        known = frozen(record, self._space, self._settings.cost)
        if self._settings.cost is None:
            for step, quality in known.intermediate_values.items():
                trial.report(quality, step)
        self._study.tell(trial, values=known.values, state=known.state)


def _upcoming(
    ended: Sequence[TrialRecord], interrupted: Sequence[Begun], num_trials: int
) -> Iterator[Begun]:
    """Yield the trials that are still to be made: those that were begun first."""
    known = {one.number for one in (*ended, *interrupted)}
    yield from (one for one in interrupted if one.number < num_trials)
    yield from (Begun(number) for number in range(num_trials) if number not in known)
