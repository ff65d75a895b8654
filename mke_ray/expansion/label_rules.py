"""What the teacher's labels are weighed and aligned by: checked before a run, made once in it."""

# N decisions, K decisions of a row, L alternatives of a decision, C classes.

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.config import build
from mke_ray.config_labels import LabelsConfig
from mke_ray.data.manifest import Manifest
from mke_ray.errors import ConfigError
from mke_ray.expansion.findings import STATISTICS_FOLDER, kept
from mke_ray.labels.decisions import num_alternatives
from mke_ray.labels.label_pass import statistics_of
from mke_ray.labels.label_rule import LABEL_KINDS, alignment_ratio
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.label_weights import LabelWeight
from mke_ray.labels.store import UnitStore
from mke_ray.report.progress import stage_progress
from mke_ray.schema import LabelKind, LabelSpace, Split
from mke_ray.storage import Root
from mke_ray.train.fits import revisions_of

FREEMATCH: Mapping[str, Any] = {"_target_": "mke_ray.labels.label_weights.FreeMatch"}

_LEAST_COUNT = 0.5  # of a class without a labelled sample, which may have unlabeled ones

_UNIFORM, _LABELLED = "uniform", "labelled"


class LabelRules:
    """Makes the plain rule of a fit's pseudo-labels, with statistics that are gathered once.

    Args:
        root: Root of the run.
        manifest: Its samples.
        samples: The sample store.
        labels: The teacher's labels.
    """

    def __init__(
        self, root: Root, manifest: Manifest, *, samples: UnitStore, labels: UnitStore
    ) -> None:
        self._root = root
        self._manifest = manifest
        self._samples = samples
        self._labels = labels

    def configured(self, keys: LabelsConfig) -> dict[str, Any]:
        """Return what ``FitSpec.label_rule`` is by the section ``labels``; empty by default."""
        rule: dict[str, Any] = {}
        if keys.kind == "sharpened":
            rule["sharpening"] = keys.sharpening
        if keys.alignment is not None:
            mean_KL = self._statistics(keys.temperature, None).mean_KL
            prior_KL = self._prior(keys.alignment)
            rule["ratio"] = alignment_ratio(mean_KL, prior_KL).tolist()
        if keys.weight:
            rule |= self.weighed(keys.weight, temperature=keys.temperature, ratio=rule.get("ratio"))
        return rule

    def weighed(
        self, weight: Mapping[str, Any], *, temperature: float = 1.0, ratio: Any = None
    ) -> dict[str, Any]:
        """Return the part of a rule that weighs labels.

        Args:
            weight: ``_target_`` and arguments of a ``LabelWeight``.
            temperature: Divides the teacher's logits.
            ratio: What probabilities are multiplied with before [K, L]; None with nothing.
        """
        statistics = self._statistics(temperature, ratio)
        fitted = build_weight(weight).fit(statistics)
        return {"weight": dict(weight), "fitted": json.loads(json.dumps(fitted))}

    def _statistics(self, temperature: float, ratio: Any) -> LabelStatistics:
        """Return the statistics of all unlabeled samples, gathered once for a root."""
        splits = [Split.UNLABELED]
        made_of = [
            self._labels.name,
            self._manifest.digest(splits),
            revisions_of(self._samples, splits),
            temperature,
            ratio,
        ]

        def made() -> dict[str, Any]:
            ratio_KL = None if ratio is None else np.asarray(ratio)
            args = (self._manifest, self._labels)
            with stage_progress("label statistics", unit="units") as progress:
                return statistics_of(
                    *args, temperature=temperature, ratio_KL=ratio_KL, progress=progress
                ).to_dict()

        return LabelStatistics.from_dict(kept(self._root.child(STATISTICS_FOLDER), made_of, made))

    def _prior(self, alignment: Any) -> NDArray:
        """Return the shares [K, L] that the alternatives should have."""
        space = self._manifest.label_space
        if alignment == _UNIFORM:
            shape = num_alternatives(space.num_classes, space.kind)
            return np.full(shape, 1.0 / shape[1])
        prior_C = labelled_prior(self._manifest) if alignment == _LABELLED else np.array(alignment)
        is_multi = space.kind == LabelKind.MULTI
        return np.stack([1.0 - prior_C, prior_C], axis=1) if is_multi else prior_C[None]


def build_weight(spec: Mapping[str, Any]) -> LabelWeight:
    """Build what ``labels.weight`` names.

    Raises:
        ConfigError: There is no such class, or its arguments do not fit.
    """
    try:
        return build(spec, LabelWeight)  # type: ignore[type-abstract]
    except ConfigError as error:
        if str(error).startswith("labels.weight"):
            raise
        raise ConfigError(
            f"labels.weight: {error}; choose label_weight=none, fixed, top_fraction, "
            "class_balanced, freematch or softmatch, or a class of yours (docs/labels.md)"
        ) from None


def check_labels(keys: LabelsConfig, space: LabelSpace) -> None:
    """Refuse a section ``labels`` that cannot work, before there are any labels.

    Raises:
        ConfigError: It names the key.
    """
    if keys.kind not in LABEL_KINDS:
        raise ConfigError(f"labels.kind={keys.kind!r}; choose one of {list(LABEL_KINDS)}")
    if not 0 < keys.sharpening <= 1:
        raise ConfigError(
            f"labels.sharpening={keys.sharpening}; give a temperature above 0 and up to 1"
        )
    _check_alignment(keys.alignment, space)
    if keys.weight:
        _try_weight(build_weight(keys.weight), space)


def labelled_prior(manifest: Manifest) -> NDArray:
    """Return the share of labelled samples that are of each class [C], never 0.

    Raises:
        ConfigError: There are none.
    """
    space, num_C, num = manifest.label_space, np.zeros(manifest.label_space.num_classes), 0
    for ref in manifest.unit_refs([Split.LABELLED]):
        for row in manifest.read_unit(ref):
            if (
                row.mark
                or row.labels is None
                or (space.kind == LabelKind.SINGLE and not row.labels)
            ):
                continue
            num_C[list(row.labels)] += 1.0
            num += 1
    if num == 0:
        raise ConfigError(
            "labels.alignment=labelled, but no sample of split=labelled has a label; give a list "
            "of shares, or null"
        )
    return np.maximum(num_C, _LEAST_COUNT) / num


def _check_alignment(alignment: Any, space: LabelSpace) -> None:
    """Refuse shares that make no sense.

    Raises:
        ConfigError: It names the key.
    """
    if alignment is None:
        return
    is_multi, is_dense = space.kind == LabelKind.MULTI, space.kind == LabelKind.DENSE
    if alignment == _UNIFORM and is_multi:
        raise ConfigError(
            "labels.alignment=uniform would make every class as frequent as its absence; where "
            "many classes may hold, give labelled or a list of shares"
        )
    if alignment == _LABELLED and is_dense:
        raise ConfigError(
            "labels.alignment=labelled does not count pixels of class maps; give a list of the "
            f"shares of the {space.num_classes} classes, or uniform"
        )
    if alignment in (_UNIFORM, _LABELLED):
        return
    is_list = isinstance(alignment, list) and all(isinstance(x, int | float) for x in alignment)
    fits = is_list and len(alignment) == space.num_classes and all(0 < x < 1 for x in alignment)
    if not fits or not (is_multi or abs(sum(alignment) - 1.0) < 1e-3):
        raise ConfigError(
            f"labels.alignment={alignment!r}; give uniform, labelled, or the shares of the "
            f"{space.num_classes} classes between 0 and 1{'' if is_multi else ' that sum to 1'}"
        )


def _try_weight(weight: LabelWeight, space: LabelSpace) -> None:
    """Refuse a class that does not give every decision a weight.

    Raises:
        ConfigError: It does not.
    """
    num_decisions, num_others = num_alternatives(space.num_classes, space.kind)
    surer_NKL = np.full((2, num_decisions, num_others), 0.1 / (num_others - 1))
    surer_NKL[:, :, 0] = 0.9
    fitted = weight.fit(LabelStatistics.of(surer_NKL))
    try:
        fitted = json.loads(json.dumps(fitted))
    except TypeError as error:
        raise ConfigError(
            f"labels.weight: fit() of {type(weight).__name__} returned what JSON cannot carry: "
            f"{error}; return numbers, texts, lists and dicts"
        ) from None
    weight_NK = np.asarray(weight.weights(surer_NKL, fitted))
    if weight_NK.shape != (2, num_decisions) or not (weight_NK >= 0).all():
        raise ConfigError(
            f"labels.weight: weights() of {type(weight).__name__} returned {weight_NK.shape} for "
            f"probabilities {surer_NKL.shape}; return a number from 0 for each decision [N, K]"
        )
