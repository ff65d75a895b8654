"""The stage that makes our labels: rounds of witnesses and posteriors, then a mean of students."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mke_ray.data.manifest import Manifest
from mke_ray.errors import StoreError
from mke_ray.expansion.answers import Answers
from mke_ray.expansion.fitting import Fitting
from mke_ray.expansion.label_rules import FREEMATCH
from mke_ray.expansion.rounds import Refined, Round, chosen_round, exponents_in_words
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import (
    Labels,
    TaughtTeacher,
    arm_settings,
    fit_folder,
    label_rules,
    of_today,
)
from mke_ray.expansion.witness_checks import ALL_TEACHERS
from mke_ray.expansion.witnesses import expansion_objective, refined_kind, witness_fit, witnessed
from mke_ray.expansion.work import folder_name, train_fits
from mke_ray.labels.derivations import Combination, Ensemble
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.store import UnitStore
from mke_ray.schema import WEIGHT, LabelKind, Split
from mke_ray.train.arms import EXPANSION_ARM, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, FitStore

logger = logging.getLogger(__name__)


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


def refine_apart(
    run: Run, manifest: Manifest, labels: Labels, teacher: TaughtTeacher, *, is_known: bool = False
) -> Refined:
    """Refine labels as ``refine_stage`` does, by networks that learn no labelled pair.

    Temperatures, exponents and the round are still chosen by the select part of the probe, as ever;
    but a network that learnt its pairs teaches others to know them. Its time is none of the run's.

    Args:
        run: The run, whose student is ours.
        manifest: Its samples.
        labels: The teacher's labels.
        teacher: The teacher.
        is_known: Whether everything must be there already.

    Raises:
        StoreError: It must be there, and is not.
    """
    keys = replace(run.job.expansion, paired_weight=0.0, witness_paired_weight=0.0)
    apart = replace(run, job=replace(run.job, expansion=keys))
    return _Refining(apart, manifest, labels, teacher, is_known).refined()


@dataclass
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
        folds, start = self._fitting.folds(), self._fitting.start()
        rounds: list[Round] = []
        made = [self._first_labels(start)]
        for number in range(num_rounds):
            fit = self._witness(number, made[-1], folds)
            self._train([fit], f"witness {number + 1} of {num_rounds}")
            splits = [Split.UNLABELED, Split.PROBE, Split.TEST]
            said = self._answers.predicted([fit], splits, folds)
            rounds.append(self._fitting.round(start, said, fit, folds))
            posterior, tilt = rounds[-1].posterior, rounds[-1].tilt
            logger.info("round %d: %s", number + 1, self._in_words(posterior))
            if chosen_round(rounds) != number:
                logger.info(
                    "round %d makes the select part no likelier: no more rounds", number + 1
                )
                break
            tilt = tilt if tilt is not None and tilt.is_certain else None
            refinement = self._fitting.refinement(fit, folds, posterior, tilt)
            made.append(self._answers.derived(said, refinement))
        chosen = chosen_round(rounds)
        is_useless = rounds[chosen].posterior.is_useless
        settings = self._student_settings(None if is_useless else made[chosen + 1])
        relabelled = self.labels.labels if is_useless else made[chosen + 1]
        names = tuple(witnessed(self.run.job))
        further = tuple(self._fitting.further)
        return Refined(settings, relabelled, names, tuple(rounds), chosen, further)

    def _first_labels(self, start: Posterior) -> UnitStore:
        """Return what the first witnesses learn: the labels of all teachers that take part."""
        if not start.further:
            return self.labels.labels
        combined = self._fitting.combined(start)
        logger.info("before any witness: %s", self._in_words(combined))
        if better := self._fitting.better(start):
            logger.warning(
                "more_teachers: %s alone makes the select part of the probe likelier than teacher, "
                "which the gate compares the student with; put the best teacher first",
                ", ".join(better),
            )
        if combined.is_useless:
            return self.labels.labels
        combination = Combination(self._fitting.teachers, combined)
        return self._answers.derived(None, combination, [Split.UNLABELED])

    def _in_words(self, posterior: Posterior) -> str:
        """Return the exponents of a posterior in words."""
        witnesses = witnessed(self.run.job) if posterior.witnesses else []
        return exponents_in_words(posterior, witnesses, list(self._fitting.further))

    @cached_property
    def _fitting(self) -> Fitting:
        is_all = self.run.job.expansion.teachers == ALL_TEACHERS
        further = dict(self.labels.more) if is_all else {}
        return Fitting(self.run, self.manifest, self.labels, further)

    @cached_property
    def _answers(self) -> Answers:
        return Answers(self.run, self.manifest, self.labels)

    def _student_settings(self, refined: UnitStore | None) -> ExpansionSettings:
        """Return what our student is told, of the teacher's labels where none are refined."""
        keys, kind = self.run.job.expansion, self.manifest.label_space.kind
        settings = ExpansionSettings(
            labels=folder_name(refined or self.labels.labels),
            label_kind=refined_kind(self.run.job, kind) if refined else "hard",
            objective=expansion_objective(self.run.job, kind, is_by_witnesses=refined is not None),
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
        said = self._answers.predicted(fits, [Split.UNLABELED])
        members = tuple(one.fingerprint() for one in fits)
        ensemble = Ensemble(members, str(self.manifest.label_space.kind))
        return self._answers.derived(said, ensemble, [Split.UNLABELED], weighed=weighed)

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


def _is_weighed(labels: UnitStore) -> bool:
    """Return whether labels count differently."""
    return WEIGHT in labels.schema.names
