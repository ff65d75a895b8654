"""The stage that makes our labels: rounds of witnesses and posteriors, then a mean of students."""

# N samples of the probe, M witnesses, F folds, C classes.

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import ConfigError, StoreError
from mke_ray.evaluation import PredictionPlan, run_predictions
from mke_ray.expansion.run import Run, num_in_splits
from mke_ray.expansion.stages import Labels, TaughtTeacher, arm_settings, fit_folder, of_today
from mke_ray.expansion.work import LazyRunner, folder_name, origin_of, train_fits
from mke_ray.labels.derived import (
    Derivation,
    DerivedPlan,
    Ensemble,
    Refinement,
    derive,
    logits_of,
    unflattened,
)
from mke_ray.labels.folds import FoldDivision, balanced_folds, even_folds
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.posterior import Posterior, fit_exponents, probabilities
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.metrics import fit_temperature
from mke_ray.report.progress import stage_progress
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, Split, fingerprint
from mke_ray.train.arms import EXPANSION_ARM, ArmSettings, ExpansionSettings
from mke_ray.train.fits import FitSpec, FitStore, RowSelection

logger = logging.getLogger(__name__)

REFINE_FOLDER = "refine"
WITNESS_ARM = "witness"

_MOST_ROWS_HERE = 4096  # of so few, starting actors takes longer than the work
_MOST_ROWS_COUNTED = 200_000  # of more, hashes alone make folds even
_MKE = "mke_ray.objectives.MKEObjective"
_WITNESS = "mke_ray.objectives.WitnessObjective"


@dataclass(frozen=True, slots=True)
class Refined:
    """What our student learns from.

    Args:
        settings: What its arm is told.
        relabelled: Label store of the last round, also of test and probe; the teacher's own where
            no witness was of any use.
        witnesses: Modalities of the witnesses.
        rounds: The posterior of every round.
    """

    settings: ExpansionSettings
    relabelled: UnitStore
    witnesses: tuple[str, ...]
    rounds: tuple[Posterior, ...]


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


@dataclass(frozen=True, slots=True)
class _Probe:
    """The select part of the probe.

    Args:
        refs: Its units, which may hold rows of the gate part too.
        rows: Per unit the rows that count.
        truth_NC: Whether each sample is of each class.
        teacher_NC: Logits of the teacher.
    """

    refs: list[UnitRef]
    rows: dict[str, list[int]]
    truth_NC: NDArray
    teacher_NC: NDArray


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
        keys, space = self.run.job.expansion, self.manifest.label_space
        folds = self._folds()
        probe = _select_part(self.run, self.manifest, self.labels.labels)
        start = self._start(probe)
        rounds: list[Posterior] = []
        parent, made = self.labels.labels, None
        for number in range(keys.rounds):
            is_last = number == keys.rounds - 1
            fit = of_today(self._witness(number, parent, folds), self.manifest, self.labels.samples)
            self._train([fit], f"witness {number + 1} of {keys.rounds}")
            said = self._predicted([fit], with_test=is_last)
            posterior = self._fitted(start, probe, said, fit.fingerprint(), folds)
            rounds.append(posterior)
            logger.info("round %d: %s", number + 1, _words(posterior, fit.modalities))
            refinement = Refinement(fit.fingerprint(), folds, posterior)
            made = self._derived(said, refinement, with_test=is_last)
            parent = made
        is_useless = not rounds or rounds[-1].is_useless
        if is_useless or made is None:
            return self._fallback(tuple(rounds))
        settings = ExpansionSettings(
            labels=folder_name(made),
            label_kind="soft",
            objective=self._objective(keys.alpha, space),
            labelled_share=keys.labelled_share,
            paired_weight=keys.paired_weight,
        )
        if keys.members > 1:
            settings = replace(settings, labels=folder_name(self._mean_of_members(settings)))
        return Refined(settings, made, tuple(self._witnessed()), tuple(rounds))

    def _fallback(self, rounds: tuple[Posterior, ...]) -> Refined:
        """Return the published way with stronger noise, for data whose witnesses know nothing."""
        keys = self.run.job.expansion
        logger.warning(
            "no witness of %s is of any use on the select part of the probe: %s learns the "
            "teacher's own labels, with input noise %s",
            self._witnessed(),
            EXPANSION_ARM,
            keys.fallback_alpha,
        )
        settings = ExpansionSettings(
            labels=folder_name(self.labels.labels),
            label_kind="hard",
            objective=self._objective(keys.fallback_alpha, self.manifest.label_space),
            labelled_share=keys.labelled_share,
            paired_weight=keys.paired_weight,
        )
        return Refined(settings, self.labels.labels, tuple(self._witnessed()), rounds)

    def _objective(self, alpha: float, space: LabelSpace) -> dict[str, Any]:
        """Return the objective of our student."""
        share = self.run.job.expansion.modality_dropout
        dropout = dict.fromkeys(self.run.job.student.encoders, share) if share else None
        kind = str(space.kind)
        return {"_target_": _MKE, "alpha": alpha, "modality_dropout": dropout, "kind": kind}

    def _witnessed(self) -> list[str]:
        """Return the modalities that the student reads and the teacher does not."""
        job = self.run.job
        return sorted(name for name in job.student.encoders if name != job.teacher.modality)

    def _settings(self, expansion: ExpansionSettings | None = None) -> ArmSettings:
        """Return what the arms share."""
        args = (self.run, self.manifest, self.labels, self.teacher)
        return arm_settings(*args, expansion=expansion)

    def _witness(self, number: int, parent: UnitStore, folds: FoldDivision) -> FitSpec:
        """Return the fit of the witnesses of a round."""
        settings, keys = self._settings(), self.run.job.expansion
        template, others = settings.template, self._witnessed()
        student = template.student
        return replace(
            template,
            name=f"{WITNESS_ARM}/round={number + 1}",
            arm=WITNESS_ARM,
            labels=folder_name(parent),
            student={
                "num_folds": folds.num_folds,
                "encoders": {name: student["encoders"][name] for name in others},
                "head_hidden": list(settings.unimodal_head_hidden),
                "dropout": student["dropout"],
            },
            objective={
                "_target_": _WITNESS,
                "num_folds": folds.num_folds,
                "alpha": keys.witness_alpha,
                "kind": str(self.manifest.label_space.kind),
            },
            rows=(RowSelection(Split.UNLABELED),),
            views={name: view for name, view in template.views.items() if name in others},
            label_kind="hard" if number == 0 else "soft",
            temperature=1.0,
            init_from=None,
            folds=folds.to_dict(),
            validate_every_steps=0,
            **_shortened(template, keys.witness_steps),
        )

    def _mean_of_members(self, settings: ExpansionSettings) -> UnitStore:
        """Train several students of the refined labels, and return their mean as labels."""
        seeds = [self.run.job.seed + one for one in range(self.run.job.expansion.members)]
        fits = [
            of_today(replace(one, validate_every_steps=0), self.manifest, self.labels.samples)
            for one in self._settings(settings).fits([EXPANSION_ARM], seeds)
        ]
        self._train(fits, "members")
        said = self._predicted(fits, with_test=False, with_probe=False)
        members = tuple(one.fingerprint() for one in fits)
        ensemble = Ensemble(members, str(self.manifest.label_space.kind))
        return self._derived(said, ensemble, with_test=False, with_probe=False)

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

    def _refs(self, *, with_test: bool, with_probe: bool = True) -> list[UnitRef]:
        """Return the units that networks look at."""
        splits = [Split.UNLABELED, *([Split.PROBE] if with_probe else [])]
        return list(self.manifest.unit_refs([*splits, *([Split.TEST] if with_test else [])]))

    def _predicted(
        self, fits: Sequence[FitSpec], *, with_test: bool, with_probe: bool = True
    ) -> UnitStore:
        """Return what networks say, computed where it is not there."""
        run, store = self.run, FitStore(self.run.root)
        plan = PredictionPlan(
            root=run.root,
            samples=folder_name(self.labels.samples),
            decode=run.job.decode,
            students={one.fingerprint(): store.student_folder(one.fingerprint()) for one in fits},
            classes=run.classes(),
            device=run.labelling_device,
            origin=origin_of(run, run.job.labelling.num_cpus),
        )
        refs = self._refs(with_test=with_test, with_probe=with_probe)
        run.refer(f"predictions/{plan.name}")
        with stage_progress(f"ask {fits[0].arm}", unit="samples") as progress:
            return run_predictions(plan, refs, runner=self._runner(refs).run, progress=progress)

    def _derived(
        self,
        said: UnitStore,
        derivation: Derivation,
        *,
        with_test: bool,
        with_probe: bool = True,
    ) -> UnitStore:
        """Return labels derived from what networks said, computed where they are not there."""
        plan = DerivedPlan(self.run.root, self.manifest, self.labels.labels, said, derivation)
        self.run.refer(f"labels/{plan.name}")
        refs = self._refs(with_test=with_test, with_probe=with_probe)
        with stage_progress("refine labels", unit="samples") as progress:
            return derive(plan, refs, runner=self._runner(refs), progress=progress)

    def _runner(self, refs: Sequence[UnitRef]) -> Runner:
        """Return what works on units: this process where there is little."""
        is_little = sum(ref.num_rows for ref in refs) <= _MOST_ROWS_HERE
        return LocalRunner() if is_little else LazyRunner(self.run)

    def _folds(self) -> FoldDivision:
        """Return the folds of the unlabeled samples."""
        number = self.run.job.expansion.folds
        if num_in_splits(self.manifest, [Split.UNLABELED]) > _MOST_ROWS_COUNTED:
            return even_folds(number)
        sizes = Counter(
            row.group
            for ref in self.manifest.unit_refs([Split.UNLABELED])
            for row in self.manifest.read_unit(ref)
        )
        return balanced_folds(list(sizes), list(sizes.values()), number)

    def _start(self, probe: _Probe) -> Posterior:
        """Return what is known before any witness: temperature and prior."""
        space = self.manifest.label_space
        truth = probe.truth_NC if space.kind is LabelKind.MULTI else probe.truth_NC.argmax(axis=1)
        temperature = fit_temperature(probe.teacher_NC, truth) if len(probe.teacher_NC) else 1.0

        def made() -> dict[str, Any]:
            prior_C = self._prior(temperature)
            ones = (1.0,) * len(self._witnessed())
            start = Posterior(temperature, 1.0, ones, tuple(prior_C.tolist()), str(space.kind))
            return start.to_dict()

        return Posterior.from_dict(self._kept(["start", temperature], made))

    def _prior(self, temperature: float) -> NDArray:
        """Return the mean of the teacher's probabilities over the unlabeled samples [C]."""
        space = self.manifest.label_space
        sum_C, number = np.zeros(space.num_classes), 0
        for ref in self.manifest.unit_refs([Split.UNLABELED]):
            logits_BC = logits_of(self.labels.labels.read(ref.unit), "logits", space.num_classes)
            logits_BC = logits_BC[~np.isnan(logits_BC).any(axis=1)]
            said_BC = probabilities(logits_BC, temperature=temperature, kind=space.kind)
            sum_C, number = sum_C + said_BC.sum(axis=0), number + len(said_BC)
        if number == 0:
            raise ConfigError("no unlabeled sample has a label of the teacher; nothing to refine")
        return sum_C / number

    def _fitted(
        self, start: Posterior, probe: _Probe, said: UnitStore, fit: str, folds: FoldDivision
    ) -> Posterior:
        """Return the posterior with the exponents that fit the select part best."""

        def made() -> dict[str, Any]:
            witness_FMNC = _said_of(probe, said, fit, folds, self.manifest.label_space)
            args = (probe.teacher_NC, witness_FMNC, probe.truth_NC)
            return fit_exponents(start, *args).to_dict()

        return Posterior.from_dict(self._kept(["exponents", start.to_dict(), fit], made))

    def _kept(self, key: list[Any], make: Any) -> dict[str, Any]:
        """Return what was found for a key, found once: a later start need not read the stores."""
        names = [folder_name(self.labels.labels), self.manifest.digest(Split)]
        name = f"{fingerprint([*names, *key, self.run.job.gate.select_fraction])}.json"
        folder = self.run.root.child(REFINE_FOLDER)
        if not folder.exists(name):
            folder.create(name, json.dumps(make(), indent=1).encode())
        return json.loads(folder.read(name))


def _select_part(run: Run, manifest: Manifest, labels: UnitStore) -> _Probe:
    """Return the select part of the probe with the teacher's logits."""
    space, fraction = manifest.label_space, run.job.gate.select_fraction
    refs, rows, truth, logits = [], {}, [], []
    for ref in manifest.unit_refs([Split.PROBE]):
        teacher_BC = logits_of(labels.read(ref.unit), "logits", space.num_classes)
        found = [
            (number, row)
            for number, row in enumerate(manifest.read_unit(ref))
            if row.labels is not None
            and (row.labels or space.kind is LabelKind.MULTI)
            and not row.mark
            and probe_part(row.group, select_fraction=fraction) == SELECT
            and not np.isnan(teacher_BC[number]).any()
        ]
        if not found:
            continue
        refs.append(ref)
        rows[ref.unit] = [number for number, _ in found]
        truth += [_truth(row, space) for _, row in found]
        logits.append(teacher_BC[rows[ref.unit]])
    if not refs:
        empty_NC = np.zeros((0, space.num_classes))
        return _Probe([], {}, empty_NC.astype(bool), empty_NC)
    return _Probe(refs, rows, np.stack(truth), np.concatenate(logits))


def _truth(row: ManifestRow, space: LabelSpace) -> NDArray:
    """Return of which classes a row is [C]."""
    truth_C = np.zeros(space.num_classes, dtype=bool)
    truth_C[list(row.labels or ())] = True
    return truth_C


def _said_of(
    probe: _Probe, said: UnitStore, fit: str, folds: FoldDivision, space: LabelSpace
) -> NDArray:
    """Return what the witnesses say of the probe [F, M, N, C]."""
    found: list[NDArray] = []
    for ref in probe.refs:
        said_BX = logits_of(said.read(ref.unit, columns=["sample_id", fit]), fit, 0)
        found.append(said_BX[probe.rows[ref.unit]])
    width = max((one.shape[1] for one in found), default=0)
    if width == 0:
        return np.full((folds.num_folds, 1, len(probe.truth_NC), space.num_classes), np.nan)
    whole = [one if one.shape[1] else np.full((len(one), width), np.nan) for one in found]
    of_folds_MFNC = unflattened(np.concatenate(whole), folds.num_folds, space.num_classes)
    return of_folds_MFNC.transpose(1, 0, 2, 3)


def _shortened(template: FitSpec, share: float) -> dict[str, int]:
    """Return the steps or epochs of a fit that is a share as long."""
    if template.num_steps is not None:
        return {"num_steps": max(1, round(share * template.num_steps))}
    return {"num_epochs": max(1, round(share * (template.num_epochs or 1)))}


def _words(posterior: Posterior, modalities: Sequence[str]) -> str:
    """Return exponents in words."""
    witnesses = ", ".join(
        f"witness of {name} {one:g}"
        for name, one in zip(sorted(modalities), posterior.witnesses, strict=True)
    )
    return f"teacher {posterior.teacher:g} (temperature {posterior.temperature:.2f}), {witnesses}"
