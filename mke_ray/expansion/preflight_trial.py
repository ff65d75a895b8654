"""What a pre-flight trains on the first samples, and what that says of the select part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.expansion.answers import Answers
from mke_ray.expansion.before_witnesses import prior_of
from mke_ray.expansion.fitting import folds_found, selected
from mke_ray.expansion.run import Run, num_in_splits, num_select
from mke_ray.expansion.select_part import SelectPart
from mke_ray.expansion.select_pixels import SelectPixels
from mke_ray.expansion.stages import Labels, TaughtTeacher, fit_folder, of_today
from mke_ray.expansion.witnesses import (
    expansion_objective,
    refined_kind,
    witness_fit,
    witnessed,
)
from mke_ray.expansion.work import folder_name, train_fits
from mke_ray.focus.preflight import LEAST_SAMPLES, Finding, measure
from mke_ray.focus.preflight_words import NO_LABEL_WORDS, ONE_FOLD_WORDS, shortage_words
from mke_ray.focus.select_answers import SelectAnswers
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.index import NUM_USABLE_CODES
from mke_ray.labels.posterior import Posterior, calibrated, fit_exponents
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Split
from mke_ray.train.arms import EXPANSION_ARM, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, FitStore

MOST_PIXELS = 20_000

_SEED = 0


@dataclass
class Looking:
    """Looks ahead; what was found is found once.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The labels of its first samples, or of all.
        teacher: The teacher.
        refs: Unlabeled units that were labelled; None where that is all of them.
    """

    run: Run
    manifest: Manifest
    labels: Labels
    teacher: TaughtTeacher
    refs: Sequence[UnitRef] | None

    def finding(self) -> Finding:
        """Train witnesses and a trial student if they are not there, and measure."""
        select = selected(self.run, self.manifest, self.labels)
        if len(select) < LEAST_SAMPLES:
            num_groups = len(set(select.groups))
            return Finding(shortage_words(len(select), num_groups, least=LEAST_SAMPLES))
        if not (num_labels := self._num_labels()):
            return Finding(NO_LABEL_WORDS)
        folds = self._folds()
        if self.refs is not None and not self._fills_folds(folds):
            return Finding(ONE_FOLD_WORDS)
        fit = self._fit(folds)
        self._train(fit)
        answers = self._answers(select, fit, folds)
        names = {"teacher": self.run.job.teacher.modality, "witnesses": witnessed(self.run.job)}
        return measure(answers, **names, num_labels=num_labels)

    def _answers(
        self, select: SelectPart | SelectPixels, fit: FitSpec, folds: FoldDivision
    ) -> SelectAnswers:
        """Return what teacher, witnesses and a trial student say of the select part."""
        asked = Answers(self.run, self.manifest, self.labels)
        said = asked.predicted([fit], [Split.PROBE], folds, more=self._unlabeled)
        witness_FMNC = select.said(
            said,
            fit.fingerprint(),
            folds,
            num_witnesses=len(witnessed(self.run.job)),
            is_own=any(row.split == Split.PROBE for row in fit.rows),
        )
        start = self._start(select)
        fitted = fit_exponents(start, select.teacher_NC, witness_FMNC, select.truth_NC)
        trial = self._trial_fit(asked, said, Refinement(fit.fingerprint(), folds, fitted))
        self._train(trial)
        of_trial = asked.predicted([trial], [Split.PROBE])
        alone = FoldDivision(())
        answers = SelectAnswers(
            select.truth_NC,
            select.teacher_NC,
            witness_FMNC,
            np.asarray(select.groups),
            np.asarray(start.prior),
            str(self.manifest.label_space.kind),
            select.said(of_trial, trial.fingerprint(), alone, num_witnesses=1, is_own=False)[0, 0],
        )
        return answers.some(_some_rows(len(answers)))

    def _start(self, select: SelectPart | SelectPixels) -> Posterior:
        """Return what is known before any exponent: temperatures and prior."""
        ones = (1.0,) * len(witnessed(self.run.job))
        start = Posterior(1.0, 1.0, ones, (), str(self.manifest.label_space.kind))
        start = calibrated(start, select.teacher_NC, select.truth_NC)
        args = (self.manifest, self.labels.labels)
        prior_C = prior_of(*args, temperature=start.divisor, refs=self._unlabeled)
        return replace(start, prior=tuple(prior_C.tolist()))

    def _trial_fit(self, asked: Answers, said: UnitStore, refinement: Refinement) -> FitSpec:
        """Return the fit of our student of the first samples, which sees no labelled pair."""
        job, kind = self.run.job, self.manifest.label_space.kind
        is_useless = refinement.posterior.is_useless
        labels = self.labels.labels
        if not is_useless:
            labels = asked.derived(said, refinement, refs=self._unlabeled)
        expansion = ExpansionSettings(
            labels=folder_name(labels),
            label_kind="hard" if is_useless else refined_kind(job, kind),
            objective=expansion_objective(job, kind, is_by_witnesses=not is_useless),
            labelled_share=job.expansion.labelled_share,
        )
        num_labelled = num_in_splits(self.manifest, [Split.LABELLED])
        settings = self._settings(num_select=0, num_labelled=num_labelled, expansion=expansion)
        (fit,) = settings.fits([EXPANSION_ARM], [job.seed])
        fit = replace(fit, name="pre-flight/trial", arm="trial", validate_every_steps=0)
        return self._of_today(fit)

    def _train(self, fit: FitSpec) -> None:
        """Train a fit that is not there."""
        self.run.refer(fit_folder(fit.fingerprint()))
        if not FitStore(self.run.root).has(fit.fingerprint()):
            self.run.check_lease()
            train_fits(self.run, [fit], "pre-flight")

    @property
    def _unlabeled(self) -> list[UnitRef]:
        """The unlabeled units that are looked at."""
        if self.refs is not None:
            return list(self.refs)
        return list(self.manifest.unit_refs([Split.UNLABELED]))

    def _folds(self) -> FoldDivision:
        """Return the folds of the unlabeled samples."""
        return folds_found(self.run, self.manifest, self.labels)

    def _fills_folds(self, folds: FoldDivision) -> bool:
        """Return whether the first samples are of several folds."""
        rows = (row for ref in self._unlabeled for row in self.manifest.read_unit(ref))
        found: set[int] = set()
        for row in rows:
            found.add(folds.fold_of(row.group))
            if len(found) > 1:
                return True
        return False

    def _num_labels(self) -> int:
        """Return how many of the unlabeled samples that are looked at have a label."""
        index = self.labels.labels.read_index()
        usable = (index.status(ref.unit) < NUM_USABLE_CODES for ref in self._unlabeled)
        return sum(int(one.sum()) for one in usable)

    def _fit(self, folds: FoldDivision) -> FitSpec:
        """Return the fit of the witnesses: those of the first round, or the same of some rows."""
        settings = self._settings(num_select=num_select(self.run, self.manifest))
        kind = self.manifest.label_space.kind
        return self._of_today(witness_fit(self.run.job, kind, settings, folds=folds, number=0))

    def _settings(self, *, num_select: int, **more: Any) -> ArmSettings:
        """Return what the fits share."""
        names = (folder_name(self.labels.samples), folder_name(self.labels.labels))
        return self.run.arm_settings(
            *names, teacher=self.teacher.fit, num_select=num_select, **more
        )

    def _of_today(self, fit: FitSpec) -> FitSpec:
        """Return a fit that names its samples; of some, one that looks at them often enough."""
        if self.refs is not None:
            unlabeled, *others = fit.rows
            some = replace(unlabeled, most=self.run.job.preflight.samples)
            fit = replace(fit, rows=(some, *others), **self._steps(fit))
        return of_today(fit, self.manifest, self.labels.samples)

    def _steps(self, fit: FitSpec) -> dict[str, Any]:
        """Return the steps of a fit of some samples: not more than those of the run."""
        if fit.global_batch == 0:
            return {}
        keys = self.run.job.preflight
        num_rows = num_in_splits(self.manifest, [Split.UNLABELED])
        of_run = fit.num_steps or -(-(fit.num_epochs or 0) * num_rows // fit.global_batch)
        of_some = -(-keys.epochs * keys.samples // fit.global_batch)
        return {"num_steps": max(1, min(of_run, of_some)), "num_epochs": None}


def _some_rows(num: int) -> np.ndarray:
    """Return all rows, or so many drawn ones as a pre-flight takes of pixels."""
    if num <= MOST_PIXELS:
        return np.arange(num)
    return np.sort(np.random.default_rng(_SEED).choice(num, MOST_PIXELS, replace=False))
