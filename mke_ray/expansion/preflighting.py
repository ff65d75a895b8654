"""The stage that says, after the first few thousand labels, whether a student is to be expected."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from mke_ray.config_preflight import OFF, STOP
from mke_ray.data.manifest import Manifest, UnitRef, evenly
from mke_ray.expansion.answers import Answers
from mke_ray.expansion.before_witnesses import folds_of, prior_of
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.findings import REFINE_FOLDER, kept
from mke_ray.expansion.fitting import selected
from mke_ray.expansion.run import Run, num_in_splits, num_select
from mke_ray.expansion.select_part import SelectPart
from mke_ray.expansion.select_pixels import SelectPixels
from mke_ray.expansion.stages import Labels, TaughtTeacher, fit_folder, label_some, of_today
from mke_ray.expansion.witnesses import (
    expansion_objective,
    refined_kind,
    witness_fit,
    witnessed,
)
from mke_ray.expansion.work import folder_name, train_fits
from mke_ray.focus.preflight import LEAST_SAMPLES, Preflight, Verdict, preflight
from mke_ray.focus.preflight_page import (
    JSON_NAME,
    PAGE_NAME,
    badge_of,
    preflight_pictures,
    write_preflight,
)
from mke_ray.focus.preflight_words import shortage_words
from mke_ray.focus.select_answers import SelectAnswers
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.posterior import Posterior, calibrated, fit_exponents
from mke_ray.labels.store import UnitStore
from mke_ray.report.page import REPORT_FOLDER
from mke_ray.report.style import Picture
from mke_ray.schema import Split
from mke_ray.train.arms import EXPANSION_ARM, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, FitStore, revisions_of

logger = logging.getLogger(__name__)

PREFLIGHT_NAME = f"{REPORT_FOLDER}/{JSON_NAME}"
MOST_PIXELS = 20_000

_VERSION = 1
_SEED = 0


def is_wanted(run: Run) -> bool:
    """Return whether a run is looked at ahead: the published student alone has no witnesses."""
    return run.job.preflight.mode != OFF and run.job.expansion.enabled


def first_units(run: Run, manifest: Manifest) -> list[UnitRef] | None:
    """Return the unlabeled units that a pre-flight looks at, None where that is all of them."""
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    some = evenly(refs, run.job.preflight.samples)
    return None if len(some) == len(refs) else some


def preflight_ahead(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> Preflight | None:
    """Label the first samples and look ahead, before the rest is labelled.

    Returns:
        None where nobody asks, or where all samples are so few that they are labelled first.
    """
    if not is_wanted(run) or (refs := first_units(run, manifest)) is None:
        return None
    ahead = [*manifest.unit_refs([Split.PROBE]), *refs]
    labels = label_some(run, manifest, teacher, ahead, "label for the pre-flight")
    manifest, _ = doubles_stage(run, manifest)
    return _looked(run, manifest, labels, teacher, refs)


def preflight_of_all(
    run: Run, manifest: Manifest, labels: Labels, teacher: TaughtTeacher
) -> Preflight | None:
    """Look ahead where all samples are labelled: the witnesses are those of the first round.

    Returns:
        None where nobody asks.
    """
    return _looked(run, manifest, labels, teacher, None) if is_wanted(run) else None


def is_to_stop(run: Run, found: Preflight) -> bool:
    """Return whether a run ends with its pre-flight."""
    return run.job.preflight.mode == STOP and found.verdict == Verdict.NO_GO


def known_preflight(run: Run) -> Preflight | None:
    """Return what the pre-flight of a run found, None where there was none."""
    if not is_wanted(run) or not run.root.exists(PREFLIGHT_NAME):
        return None
    return Preflight.from_dict(json.loads(run.root.read(PREFLIGHT_NAME)))


def _looked(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    teacher: TaughtTeacher,
    refs: Sequence[UnitRef] | None,
) -> Preflight:
    """Look ahead, keep what was found in the report, and say it."""
    with run.clock.stage("preflight"):
        found = _Looking(run, manifest, labels, teacher, refs).found()
    page = write_preflight(
        run.root, found, name=run.job.name, **_named(run), end=_what_follows(run, found)
    )
    say = logger.warning if found.verdict == Verdict.NO_GO else logger.info
    say("pre-flight: %s", found.said)
    for reason in found.reasons:
        logger.info("  %s", reason)
    logger.info("pre-flight: %s", page)
    return found


def end_with_preflight(
    run: Run, found: Preflight, *, console: Console | None = None
) -> dict[str, Any]:
    """End a run that is not worth its training, and say so.

    Args:
        run: The run.
        found: What its pre-flight found.
        console: Where the end is printed; None prints nothing.

    Returns:
        What stands in the place of ``report/metrics.json``.
    """
    if (tracker := run.tracker()) is not None:
        tracker.log_metrics(preflight_numbers(found.to_dict()))
        tracker.set_tags({"verdict": f"pre-flight: {found.verdict}"})
        tracker.finish()
    if console is not None:
        word, _ = badge_of(found.verdict)
        console.print(Text.assemble((f"{word}. ", "bold red"), found.said))
        for reason in found.reasons:
            console.print(f"  {reason}")
        console.print(_what_follows(run, found))
        console.print(f"Report: {run.root.child('report', PAGE_NAME).uri}", soft_wrap=True)
    return {"experiment": run.job.name, "seed": run.job.seed, "preflight": found.to_dict()}


def preflight_numbers(plain: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the numbers of a pre-flight that are compared between runs, none of none.

    Args:
        plain: Plain data of a pre-flight.
    """
    if plain is None or plain["gain"] is None:
        return {}
    evidence = plain["evidence"]
    gamma = evidence["gamma"]
    found = {
        "gain": plain["gain"],
        "probability": plain["probability"],
        "teacher": evidence["teacher"]["value"],
        "witness": evidence["witness"]["value"],
        "joined": evidence["joined"]["value"],
        **({} if gamma is None else {"gamma": gamma["value"]}),
    }
    return {f"preflight/{name}": value for name, value in found.items()}


def preflight_figures(run: Run, found: Preflight | None) -> list[Picture]:
    """Return the figures of a pre-flight, none where there was none."""
    return [] if found is None else preflight_pictures(found.evidence, **_named(run))


def _named(run: Run) -> dict[str, Any]:
    """Return the modalities of teacher and witnesses."""
    return {"teacher": run.job.teacher.modality, "witnesses": witnessed(run.job)}


def _what_follows(run: Run, found: Preflight) -> str:
    """Say what becomes of a run after its pre-flight."""
    if is_to_stop(run, found):
        return (
            "The run ends here (preflight=stop), before more is labelled and trained. "
            "preflight=warn goes on all the same; what is labelled is kept."
        )
    return f"The run goes on (preflight={run.job.preflight.mode}); the gate has the last word."


@dataclass
class _Looking:
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

    def found(self) -> Preflight:
        """Return what is to be expected."""
        folds = self._folds()
        fit = self._fit(folds)
        made_of = [
            folder_name(self.labels.labels),
            self.manifest.digest(Split),
            revisions_of(self.labels.samples, Split),
            self.run.job.gate.select_fraction,
            "preflight",
            _VERSION,
            fit.fingerprint(),
            asdict(self.run.job.preflight),
        ]
        plain = kept(
            self.run.root.child(REFINE_FOLDER), made_of, lambda: self._made(fit, folds).to_dict()
        )
        return Preflight.from_dict(plain)

    def _made(self, fit: FitSpec, folds: FoldDivision) -> Preflight:
        """Train witnesses and a trial student if they are not there, and say what follows."""
        keys, select = self.run.job.preflight, selected(self.run, self.manifest, self.labels)
        if len(select) < LEAST_SAMPLES:
            said = shortage_words(len(select), len(set(select.groups)), least=LEAST_SAMPLES)
            return Preflight(Verdict.UNSURE, said, worth=keys.worth)
        self._train(fit)
        return preflight(
            self._answers(select, fit, folds),
            teacher=self.run.job.teacher.modality,
            witnesses=witnessed(self.run.job),
            worth=keys.worth,
            certainty=keys.certainty,
            num_labels=sum(ref.num_rows for ref in self._unlabeled),
        )

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
        number, seed = self.run.job.expansion.folds, self.run.job.seed

        def made() -> dict[str, Any]:
            return folds_of(self.manifest, number, seed=seed).to_dict()

        made_of = [folder_name(self.labels.labels), self.manifest.digest(Split), "folds", number]
        folder = self.run.root.child(REFINE_FOLDER)
        return FoldDivision.from_dict(kept(folder, [*made_of, seed], made))

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
        """Return a fit that names its samples; of some, one of a bounded number of steps."""
        if self.refs is not None:
            keys, (first, *others) = self.run.job.preflight, fit.rows
            fit = replace(fit, rows=(replace(first, most=keys.samples), *others))
            if fit.global_batch > 0:
                fit = replace(fit, num_steps=None, num_epochs=keys.epochs)
        return of_today(fit, self.manifest, self.labels.samples)


def _some_rows(num: int) -> np.ndarray:
    """Return all rows, or so many drawn ones as a pre-flight takes of pixels."""
    if num <= MOST_PIXELS:
        return np.arange(num)
    return np.sort(np.random.default_rng(_SEED).choice(num, MOST_PIXELS, replace=False))
