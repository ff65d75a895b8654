"""The stage that makes our labels: rounds of witnesses and posteriors, then a mean of students."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import StoreError
from mke_ray.evaluation import PredictionPlan, run_predictions
from mke_ray.evaluation.packed import Packing
from mke_ray.expansion.before_witnesses import folds_of, prior_of
from mke_ray.expansion.label_rules import FREEMATCH, kept
from mke_ray.expansion.relating import find_tilt
from mke_ray.expansion.run import Run
from mke_ray.expansion.select_part import SelectPart, select_part
from mke_ray.expansion.select_pixels import SelectPixels, select_pixels
from mke_ray.expansion.stages import (
    Labels,
    TaughtTeacher,
    arm_settings,
    fit_folder,
    label_rules,
    of_today,
)
from mke_ray.expansion.witnesses import expansion_objective, refined_kind, witness_fit, witnessed
from mke_ray.expansion.work import LazyRunner, WithoutGpus, folder_name, origin_of, train_fits
from mke_ray.labels.dense import DenseForm
from mke_ray.labels.derived import (
    Derivation,
    DerivedPlan,
    Ensemble,
    Refinement,
    derive,
)
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.openset import Tilt
from mke_ray.labels.posterior import (
    Posterior,
    calibrated,
    fit_exponents,
    mean_log_likelihood,
)
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.labels.store import UnitStore
from mke_ray.report.progress import stage_progress
from mke_ray.schema import WEIGHT, LabelKind, Split
from mke_ray.train.arms import EXPANSION_ARM, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, FitStore, revisions_of

logger = logging.getLogger(__name__)

REFINE_FOLDER = "refine"
LEAST_SELECT = 20  # of fewer, a temperature and exponents are chosen by chance

_ANSWERED_CLASSES = 2  # times as many classes of a pixel are kept of a witness as of a label
_MOST_ROWS_HERE = 4096  # of so few, starting actors takes longer than the work


@dataclass(frozen=True, slots=True)
class Round:
    """One round of witnesses.

    Args:
        posterior: How their answers and the teacher's became one.
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
    """

    settings: ExpansionSettings
    relabelled: UnitStore
    witnesses: tuple[str, ...]
    rounds: tuple[Round, ...]
    chosen: int


def refine_stage(
    run: Run, manifest: Manifest, labels: Labels, teacher: TaughtTeacher, *, is_known: bool = False
) -> Refined | None:
    """Train the witnesses, refine the labels, and make the labels that our student learns.

    What is there already is not done again.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        teacher: The teacher.
        is_known: Whether everything must be there already.

    Returns:
        None where the run trains the published student alone.

    Raises:
        StoreError: It must be there, and is not.
    """
    if not run.job.expansion.enabled:
        return None
    with run.clock.stage("refine"):
        return _Refining(run, manifest, labels, teacher, is_known).refined()


@dataclass(slots=True)
class _Refining:
    """Makes our labels, step by step."""

    run: Run
    manifest: Manifest
    labels: Labels
    teacher: TaughtTeacher
    is_known: bool

    def refined(self) -> Refined:
        """Return what our student learns from."""
        num_rounds = self.run.job.expansion.rounds
        select = self._select()
        folds, start = self._folds(), self._start(select)
        rounds: list[Round] = []
        made = [self.labels.labels]
        for number in range(num_rounds):
            fit = self._witness(number, made[-1], folds)
            self._train([fit], f"witness {number + 1} of {num_rounds}")
            said = self._predicted([fit], [Split.UNLABELED, Split.PROBE, Split.TEST], folds)
            rounds.append(self._fitted(start, select, said, fit, folds))
            posterior, tilt = rounds[-1].posterior, rounds[-1].tilt
            logger.info("round %d: %s", number + 1, _words(posterior, witnessed(self.run.job)))
            if chosen_round(rounds) != number:
                logger.info(
                    "round %d makes the select part no likelier: no more rounds", number + 1
                )
                break
            tilt = tilt if tilt is not None and tilt.is_certain else None
            made.append(self._derived(said, Refinement(fit.fingerprint(), folds, posterior, tilt)))
        chosen = chosen_round(rounds)
        is_useless = rounds[chosen].posterior.is_useless
        settings = self._student_settings(None if is_useless else made[chosen + 1])
        relabelled = self.labels.labels if is_useless else made[chosen + 1]
        names = tuple(witnessed(self.run.job))
        return Refined(settings, relabelled, names, tuple(rounds), chosen)

    def _student_settings(self, refined: UnitStore | None) -> ExpansionSettings:
        """Return what our student is told, of the teacher's labels where none are refined."""
        keys, kind = self.run.job.expansion, self.manifest.label_space.kind
        settings = ExpansionSettings(
            labels=folder_name(refined or self.labels.labels),
            label_kind=refined_kind(self.run.job, kind) if refined else "hard",
            objective=expansion_objective(
                self.run.job,
                kind,
                alpha=keys.alpha if refined else keys.fallback_alpha,
            ),
            labelled_share=keys.labelled_share,
            paired_weight=keys.paired_weight,
        )
        if refined is None:
            logger.warning(
                "no witness of %s is of any use on the select part of the probe: %s learns the "
                "teacher's own labels, with input noise %s",
                witnessed(self.run.job),
                EXPANSION_ARM,
                keys.fallback_alpha,
            )
            return self._weighed(settings)
        if keys.members == 1:
            return settings
        mean = self._mean_of_members(settings, weighed=refined if _is_weighed(refined) else None)
        return replace(settings, labels=folder_name(mean))

    def _weighed(self, settings: ExpansionSettings) -> ExpansionSettings:
        """Return settings by which labels are weighed as in FreeMatch, but those of pixels."""
        if self.manifest.label_space.kind is LabelKind.DENSE:
            return settings
        rules = label_rules(self.run, self.manifest, self.labels)
        return replace(settings, label_rule=rules.weighed(FREEMATCH))

    def _settings(self, expansion: ExpansionSettings | None = None) -> ArmSettings:
        """Return what the arms share."""
        args = (self.run, self.manifest, self.labels, self.teacher)
        return arm_settings(*args, expansion=expansion)

    def _witness(self, number: int, parent: UnitStore, folds: FoldDivision) -> FitSpec:
        """Return the fit of the witnesses of a round."""
        kind = self.manifest.label_space.kind
        fit = witness_fit(self.run.job, kind, self._settings(), folds=folds, number=number)
        return of_today(
            replace(fit, labels=folder_name(parent)), self.manifest, self.labels.samples
        )

    def _mean_of_members(
        self, settings: ExpansionSettings, *, weighed: UnitStore | None
    ) -> UnitStore:
        """Train several students of the refined labels, and return their mean as labels."""
        seeds = [self.run.job.seed + one for one in range(self.run.job.expansion.members)]
        fits = [
            of_today(replace(one, validate_every_steps=0), self.manifest, self.labels.samples)
            for one in self._settings(settings).fits([EXPANSION_ARM], seeds)
        ]
        self._train(fits, "members")
        said = self._predicted(fits, [Split.UNLABELED])
        members = tuple(one.fingerprint() for one in fits)
        ensemble = Ensemble(members, str(self.manifest.label_space.kind))
        return self._derived(said, ensemble, [Split.UNLABELED], weighed=weighed)

    def _train(self, fits: Sequence[FitSpec], title: str) -> None:
        """Train fits that are not there.

        Raises:
            StoreError: Everything had to be there.
        """
        store = FitStore(self.run.root)
        self.run.check_lease()
        self.run.refer(*(fit_folder(one.fingerprint()) for one in fits))
        if all(store.has(one.fingerprint()) for one in fits):
            return
        if self.is_known:
            raise StoreError(
                f"{self.run.root.uri}: the labels of {EXPANSION_ARM} are not refined yet; run "
                "jobs/train.py first, with the same settings"
            )
        train_fits(self.run, fits, title)

    def _select(self) -> SelectPart | SelectPixels:
        """Return the select part of the probe."""
        fraction, labels = self.run.job.gate.select_fraction, self.labels
        if self.manifest.label_space.kind is not LabelKind.DENSE:
            return select_part(self.manifest, labels.labels, fraction=fraction)
        reader = sample_reader(labels.samples, self.run.root, origin_of(self.run))
        return select_pixels(self.manifest, labels.labels, reader, fraction=fraction)

    def _packing(self, folds: FoldDivision | None) -> Packing | None:
        """Return how answers are kept where labels are dense; None where they are not."""
        form = DenseForm.of_spec(self.labels.labels.spec)
        if form is None:
            return None
        top_k = min(form.num_classes, _ANSWERED_CLASSES * form.top_k)
        return Packing(replace(form, top_k=top_k), self.manifest, folds)

    def _predicted(
        self, fits: Sequence[FitSpec], splits: Sequence[str], folds: FoldDivision | None = None
    ) -> UnitStore:
        """Return what networks say of some splits, computed where it is not there."""
        run, store = self.run, FitStore(self.run.root)
        plan = PredictionPlan(
            root=run.root,
            samples=folder_name(self.labels.samples),
            decode=run.job.decode,
            students={one.fingerprint(): store.student_folder(one.fingerprint()) for one in fits},
            classes=run.classes(),
            device=run.labelling_device,
            origin=origin_of(run, run.job.labelling.num_cpus),
            packing=self._packing(folds),
        )
        refs = list(self.manifest.unit_refs(splits))
        run.refer(f"predictions/{plan.name}")
        is_light = plan.origin is None and plan.device == "cpu" and _is_little(refs)
        runner = LocalRunner() if is_light else LazyRunner(run)
        with stage_progress(f"ask {fits[0].name.partition('/')[0]}", unit="samples") as progress:
            return run_predictions(plan, refs, runner=runner.run, progress=progress)

    def _derived(
        self,
        said: UnitStore,
        derivation: Derivation,
        splits: Sequence[str] = (Split.UNLABELED, Split.PROBE, Split.TEST),
        *,
        weighed: UnitStore | None = None,
    ) -> UnitStore:
        """Return labels derived from what networks said, computed where they are not there."""
        args = (self.run.root, self.manifest, self.labels.labels, said, derivation)
        plan = DerivedPlan(*args, weighed=weighed)
        self.run.refer(f"labels/{plan.name}")
        refs = list(self.manifest.unit_refs(splits))
        with stage_progress("refine labels", unit="samples") as progress:
            runner = LocalRunner() if _is_little(refs) else WithoutGpus(self.run)
            return derive(plan, refs, runner=runner, progress=progress)

    def _folds(self) -> FoldDivision:
        """Return the folds of the unlabeled samples."""
        number, seed = self.run.job.expansion.folds, self.run.job.seed

        def made() -> dict[str, Any]:
            return folds_of(self.manifest, number, seed=seed).to_dict()

        return FoldDivision.from_dict(self._kept(["folds", number, seed], made))

    def _start(self, select: SelectPart | SelectPixels) -> Posterior:
        """Return what is known before any witness: temperature and prior."""
        space = self.manifest.label_space

        def made() -> dict[str, Any]:
            start = Posterior(1.0, 1.0, (), (), str(space.kind))
            if len(select) >= LEAST_SELECT:
                start = calibrated(start, select.teacher_NC, select.truth_NC)
            prior_C = prior_of(self.manifest, self.labels.labels, temperature=start.divisor)
            ones, prior = (1.0,) * len(witnessed(self.run.job)), tuple(prior_C.tolist())
            return replace(start, witnesses=ones, prior=prior).to_dict()

        return Posterior.from_dict(self._kept(["start"], made))

    def _fitted(
        self,
        start: Posterior,
        select: SelectPart | SelectPixels,
        said: UnitStore,
        fit: FitSpec,
        folds: FoldDivision,
    ) -> Round:
        """Return the posterior with the exponents that fit the select part best."""

        def made() -> dict[str, Any]:
            if len(select) < LEAST_SELECT:
                return {"posterior": start.to_dict(), "log_likelihood": None}
            refinement = Refinement(fit.fingerprint(), folds, start)
            witness_FMNC = self._said_of(select, said, refinement, fit)
            args = (select.teacher_NC, witness_FMNC, select.truth_NC)
            fitted = fit_exponents(start, *args)
            likelihood = mean_log_likelihood(fitted, *args)
            return {"posterior": fitted.to_dict(), "log_likelihood": likelihood}

        kept = self._kept(["exponents", fit.fingerprint()], made)
        posterior = Posterior.from_dict(kept["posterior"])
        refinement = Refinement(fit.fingerprint(), folds, posterior)
        tilt = self._tilt(refinement, select, said, fit)
        return Round(posterior, kept["log_likelihood"], tilt)

    def _tilt(
        self,
        refinement: Refinement,
        select: SelectPart | SelectPixels,
        said: UnitStore,
        fit: FitSpec,
    ) -> Tilt | None:
        """Return how the unlabeled samples differ from pairs, None where nothing can be told."""
        posterior = refinement.posterior
        is_told = posterior.kind == LabelKind.SINGLE and not posterior.is_useless
        if not (self.run.job.expansion.open_set and is_told and isinstance(select, SelectPart)):
            return None
        if len(select) < LEAST_SELECT:
            return None

        def made() -> dict[str, Any]:
            found = find_tilt(
                self.manifest,
                self.labels.labels,
                said,
                refinement,
                teacher_KC=select.teacher_NC,
                witness_FMKC=self._said_of(select, said, refinement, fit),
                num_groups=len(set(select.groups)),
            )
            return found.to_dict()

        return Tilt.from_dict(self._kept(["tilt", refinement.to_dict()], made))

    def _said_of(
        self,
        select: SelectPart | SelectPixels,
        said: UnitStore,
        refinement: Refinement,
        fit: FitSpec,
    ) -> NDArray:
        """Return what witnesses say of the select part [F, M, N, C]."""
        return select.said(
            said,
            refinement.witness,
            refinement.folds,
            num_witnesses=len(refinement.posterior.witnesses),
            is_own=any(row.split == Split.PROBE for row in fit.rows),
        )

    def _kept(self, key: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was found for a key, found once: a later start need not read the stores."""
        made_of = [
            folder_name(self.labels.labels),
            self.manifest.digest(Split),
            revisions_of(self.labels.samples, Split),
            self.run.job.gate.select_fraction,
            *key,
        ]
        return kept(self.run.root.child(REFINE_FOLDER), made_of, make)


def chosen_round(rounds: Sequence[Round]) -> int:
    """Return the number of the round, from 0, that makes the select part likeliest.

    Of equal ones it is the first, and where nothing was fitted the last of all.
    """
    likelihoods = [one.log_likelihood for one in rounds if one.log_likelihood is not None]
    if len(likelihoods) < len(rounds):
        return len(rounds) - 1
    return likelihoods.index(max(likelihoods))


def _is_little(refs: Sequence[UnitRef]) -> bool:
    """Return whether units hold so few rows that this process is the quickest."""
    return sum(ref.num_rows for ref in refs) <= _MOST_ROWS_HERE


def _is_weighed(labels: UnitStore) -> bool:
    """Return whether labels count differently."""
    return WEIGHT in labels.schema.names


def _words(posterior: Posterior, modalities: Sequence[str]) -> str:
    """Return exponents in words."""
    witnesses = ", ".join(
        f"witness of {name} {one:g}"
        for name, one in zip(modalities, posterior.witnesses, strict=True)
    )
    return f"teacher {posterior.teacher:g} (temperature {posterior.temperature:.2f}), {witnesses}"
