"""What the select part of the probe chooses: temperatures, exponents, and what looks irrelevant."""

# N samples, M witnesses, K further teachers, F folds, C classes.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.before_witnesses import folds_of, prior_of
from mke_ray.expansion.findings import REFINE_FOLDER, kept
from mke_ray.expansion.relating import find_tilt
from mke_ray.expansion.rounds import Round
from mke_ray.expansion.run import Run
from mke_ray.expansion.select_part import SelectPart, select_part
from mke_ray.expansion.select_pixels import SelectPixels, select_pixels
from mke_ray.expansion.stages import Labels
from mke_ray.expansion.witnesses import witnessed
from mke_ray.expansion.work import folder_name, origin_of
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.openset import Tilt
from mke_ray.labels.posterior import (
    FurtherTeacher,
    Posterior,
    calibrated,
    fit_exponents,
    mean_log_likelihood,
)
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelKind, Split
from mke_ray.train.fits import FitSpec, revisions_of

LEAST_SELECT = 20  # of fewer, a temperature and exponents are chosen by chance


_START_VERSION = 2  # one temperature for every class where there can be many


def selected(
    run: Run, manifest: Manifest, labels: Labels, more: Sequence[UnitStore] = ()
) -> SelectPart | SelectPixels:
    """Return the select part of the probe; where labels are dense, some of its pixels.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The labels of the teacher.
        more: The labels of further teachers.
    """
    fraction = run.job.gate.select_fraction
    if manifest.label_space.kind is not LabelKind.DENSE:
        return select_part(manifest, labels.labels, fraction=fraction, more=more)
    reader = sample_reader(labels.samples, run.root, origin_of(run))
    return select_pixels(manifest, labels.labels, reader, fraction=fraction, more=more)


def folds_found(run: Run, manifest: Manifest, labels: Labels) -> FoldDivision:
    """Return the folds of the unlabeled samples, found once.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The labels of the teacher.
    """
    number, seed = run.job.expansion.folds, run.job.seed

    def made() -> dict[str, Any]:
        return folds_of(manifest, number, seed=seed).to_dict()

    return FoldDivision.from_dict(_kept_of(run, manifest, labels, ["folds", number, seed], made))


def _kept_of(
    run: Run, manifest: Manifest, labels: Labels, key: list[Any], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return what was found for a key about labels and samples, found once."""
    made_of = [
        folder_name(labels.labels),
        manifest.digest(Split),
        revisions_of(labels.samples, Split),
        run.job.gate.select_fraction,
        *key,
    ]
    return kept(run.root.child(REFINE_FOLDER), made_of, make)


@dataclass
class Fitting:
    """Fits posteriors on the select part; what was found is found once.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The labels of the teachers.
        further: Label stores of the further teachers that take part, by their names.
    """

    run: Run
    manifest: Manifest
    labels: Labels
    further: dict[str, UnitStore]

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the folders of the label stores of the further teachers."""
        return tuple(map(folder_name, self.further.values()))

    @cached_property
    def select(self) -> SelectPart | SelectPixels:
        """The select part of the probe."""
        return selected(self.run, self.manifest, self.labels, list(self.further.values()))

    def folds(self) -> FoldDivision:
        """Return the folds of the unlabeled samples."""
        return folds_found(self.run, self.manifest, self.labels)

    def start(self) -> Posterior:
        """Return what is known before any exponent: temperatures and prior."""
        kind = str(self.manifest.label_space.kind)

        def made() -> dict[str, Any]:
            select, start = self.select, Posterior(1.0, 1.0, (), (), kind)
            if len(select) >= LEAST_SELECT:
                start = calibrated(start, select.teacher_NC, select.truth_NC)
            prior_C = prior_of(self.manifest, self.labels.labels, temperature=start.divisor)
            ones, prior = (1.0,) * len(witnessed(self.run.job)), tuple(prior_C.tolist())
            further = tuple(self._calibrated(kind, one_NC) for one_NC in select.further_KNC)
            return replace(start, witnesses=ones, prior=prior, further=further).to_dict()

        return Posterior.from_dict(self._kept(["start", _START_VERSION, *self.teachers], made))

    def combined(self, start: Posterior) -> Posterior:
        """Return the posterior of the teachers alone, before there is any witness."""
        start = replace(start, witnesses=())

        def made() -> dict[str, Any]:
            if len(self.select) < LEAST_SELECT:
                return start.to_dict()
            args = (self.select.teacher_NC, self.select.further_KNC[None], self.select.truth_NC)
            return fit_exponents(start, *args).to_dict()

        return Posterior.from_dict(self._kept(["combined", *self.teachers], made))

    def better(self, start: Posterior) -> list[str]:
        """Return the further teachers that alone make the select part likelier than the first.

        Each is compared with the first on those samples that it answers.
        """
        select, found = self.select, replace(start, witnesses=(), further=())
        better: list[str] = []
        for name, one, one_NC in zip(self.further, start.further, select.further_KNC, strict=True):
            is_there_N = ~np.isnan(one_NC).any(axis=1)
            if min(int(is_there_N.sum()), len(select)) < LEAST_SELECT:
                continue
            nobody_MNC, truth_NC = one_NC[None][:0, is_there_N], select.truth_NC[is_there_N]
            first = found.log_likelihood(select.teacher_NC[is_there_N], nobody_MNC, truth_NC)
            each = one.class_temperatures
            alone = replace(found, temperature=one.temperature, class_temperatures=each)
            if alone.log_likelihood(one_NC[is_there_N], nobody_MNC, truth_NC) > first:
                better.append(name)
        return better

    def round(self, start: Posterior, said: UnitStore, fit: FitSpec, folds: FoldDivision) -> Round:
        """Return the posterior with the exponents that fit the select part best."""
        select = self.select

        def made() -> dict[str, Any]:
            if len(select) < LEAST_SELECT:
                return {"posterior": start.to_dict(), "log_likelihood": None}
            expert_FMNC = self._said_of(said, self.refinement(fit, folds, start), fit)
            args = (select.teacher_NC, expert_FMNC, select.truth_NC)
            fitted = fit_exponents(start, *args)
            likelihood = mean_log_likelihood(fitted, *args)
            return {"posterior": fitted.to_dict(), "log_likelihood": likelihood}

        found = self._kept(["exponents", fit.fingerprint(), *self.teachers], made)
        posterior = Posterior.from_dict(found["posterior"])
        tilt = self._tilt(self.refinement(fit, folds, posterior), said, fit)
        return Round(posterior, found["log_likelihood"], tilt)

    def refinement(
        self, fit: FitSpec, folds: FoldDivision, posterior: Posterior, tilt: Tilt | None = None
    ) -> Refinement:
        """Return how the labels of a round are made."""
        return Refinement(fit.fingerprint(), folds, posterior, tilt, self.teachers)

    def _calibrated(self, kind: str, logits_NC: NDArray) -> FurtherTeacher:
        """Return a further teacher with its temperatures, 1 where too few samples tell."""
        is_there_N = ~np.isnan(logits_NC).any(axis=1)
        if min(int(is_there_N.sum()), len(self.select)) < LEAST_SELECT:
            return FurtherTeacher()
        args = (logits_NC[is_there_N], self.select.truth_NC[is_there_N])
        found = calibrated(Posterior(1.0, 1.0, (), (), kind), *args)
        return FurtherTeacher(found.temperature, class_temperatures=found.class_temperatures)

    def _tilt(self, refinement: Refinement, said: UnitStore, fit: FitSpec) -> Tilt | None:
        """Return how the unlabeled samples differ from pairs, None where nothing can be told."""
        posterior, select = refinement.posterior, self.select
        is_told = posterior.kind == LabelKind.SINGLE and not posterior.is_useless
        if not (self.run.job.expansion.open_set and is_told and isinstance(select, SelectPart)):
            return None
        if len(select) < LEAST_SELECT:
            return None

        def made() -> dict[str, Any]:
            found = find_tilt(
                self.manifest,
                [self.labels.labels, *self.further.values()],
                said,
                refinement,
                teacher_KC=select.teacher_NC,
                expert_FMKC=self._said_of(said, refinement, fit),
                num_groups=len(set(select.groups)),
            )
            return found.to_dict()

        return Tilt.from_dict(self._kept(["tilt", refinement.to_dict()], made))

    def _said_of(self, said: UnitStore, refinement: Refinement, fit: FitSpec) -> NDArray:
        """Return what witnesses, then further teachers, say of the select part [F, M + K, N, C]."""
        witness_FMNC = self.select.said(
            said,
            refinement.witness,
            refinement.folds,
            num_witnesses=len(refinement.posterior.witnesses),
            is_own=any(row.split == Split.PROBE for row in fit.rows),
        )
        further_KNC = self.select.further_KNC
        of_folds = np.broadcast_to(further_KNC, (len(witness_FMNC), *further_KNC.shape))
        return np.concatenate([witness_FMNC, of_folds], axis=1)

    def _kept(self, key: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was found for a key, found once: a later start need not read the stores."""
        return _kept_of(self.run, self.manifest, self.labels, key, make)
