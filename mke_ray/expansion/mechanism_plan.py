"""What is trained and measured to explain a gain: sizes of splits, strengths of noise, labels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from mke_ray import __version__
from mke_ray.config import shown
from mke_ray.config_labels import MechanismConfig
from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.schema import FeatureSpec, LabelKind, decode_spec_from_dict, fingerprint
from mke_ray.train.arms import ARMS
from mke_ray.train.fits import FitSpec

RECORD_NAME = "mechanism.json"
SIZES = ("num_unlabeled", "num_labelled")
LABEL_KINDS = ("hard", "soft")

_VERSION = 1
_PLACES = ("root", "made")


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of the measurement: one draw of the data, with splits of some size.

    Args:
        job: Its configuration; its root is its own.
        sizes: Its ``num_unlabeled`` and ``num_labelled``, of those that the source has.
        is_base: Whether the sizes are those of the job, so that strengths of noise and kinds of
            labels are tried too.
    """

    job: JobConfig
    sizes: dict[str, int]
    is_base: bool

    def variants(self) -> list[tuple[float, str]]:
        """Return the noise and the kinds of labels that are trained, those of the job first."""
        own = (float(self.job.objective["alpha"]), self.job.labels.kind)
        if not self.is_base:
            return [own]
        keys = self.job.mechanism
        tried = [(float(alpha), kind) for kind in keys.label_kinds for alpha in keys.alphas]
        return list(dict.fromkeys([own, *tried]))

    def inputs(self) -> str:
        """Return a fingerprint of all that the record of this setting depends on."""
        job = shown(self.job)
        for key in ("root", "scaling", "ray", "tracking", "verbose", "dry_run", "data_seeds"):
            del job[key]
        for key in SIZES:
            del job["mechanism"][key]
        for key in _PLACES:
            place = str(job["source"].pop(key, ""))
            if not place.startswith(f"{self.job.root}/"):  # data of the user's
                job["source"][key] = place
        return fingerprint([_VERSION, __version__, job, self.variants()])


def settings_of(job: JobConfig) -> list[Setting]:
    """Return the settings of one draw of the data: that of the job, then others of each size."""
    base = {key: int(job.source[key]) for key in SIZES if job.source.get(key) is not None}
    wanted = [base]
    for key in SIZES:
        wanted += [{**base, key: int(size)} for size in getattr(job.mechanism, key)]
    unique = {tuple(sorted(sizes.items())): sizes for sizes in wanted}
    return [Setting(_job_of(job, sizes), sizes, sizes == base) for sizes in unique.values()]


def variants_of(fits: Sequence[FitSpec], setting: Setting) -> Iterator[tuple[FitSpec, float, str]]:
    """Yield every fit with its noise and labels; those of the published loss in all variants.

    The arm of a variant is ``ARM@ALPHA,KIND``, since one arm has one fit per seed.
    """
    own_alpha, own_kind = setting.variants()[0]
    for fit in fits:
        objective = ARMS[fit.arm].objective
        if objective != "student":
            kind = fit.label_kind if ARMS[fit.arm].rows != "pseudo" else own_kind
            yield fit, 0.0 if objective == "plain" else own_alpha, kind
            continue
        for alpha, kind in setting.variants():
            name = f"{fit.arm}@{alpha:g},{kind}"
            varied = {**fit.objective, "alpha": alpha}
            yield (
                replace(fit, arm=name, name=name, objective=varied, label_kind=kind),
                alpha,
                kind,
            )


def check_mechanism(jobs: Sequence[JobConfig], source: Source) -> None:
    """Refuse keys that cannot be measured, before anything is trained.

    Raises:
        ConfigError: It names the key and the way out.
    """
    job = jobs[0]
    if source.label_space.kind is not LabelKind.SINGLE:
        raise ConfigError(
            f"mechanism.enabled=true: labels of kind {source.label_space.kind} have no wrong "
            "samples of one class; measure data with one class per sample"
        )
    decode = decode_spec_from_dict(job.decode)
    not_features = [name for name, one in decode.items() if not isinstance(one, FeatureSpec)]
    if not_features:
        raise ConfigError(
            f"mechanism.enabled=true: decode.{not_features[0]} is no row of features, and the "
            "distance of two pictures or sounds means little; give features (source=table)"
        )
    alpha = job.objective.get("alpha")
    if not isinstance(alpha, int | float):
        raise ConfigError(
            f"objective.alpha={alpha}: mechanism.enabled=true needs one number for all modalities"
        )
    labels = job.labels
    if labels.kind not in LABEL_KINDS or labels.weight or labels.alignment is not None:
        raise ConfigError(
            f"mechanism.enabled=true measures labels of kinds {list(LABEL_KINDS)}, neither weighed "
            f"nor aligned; labels.kind={labels.kind}, labels.weight={dict(labels.weight)}, "
            f"labels.alignment={labels.alignment}"
        )
    _check_numbers(job.mechanism)
    _check_sizes(job)


def _check_numbers(keys: MechanismConfig) -> None:
    """Refuse numbers out of range.

    Raises:
        ConfigError: There is one.
    """
    unknown = sorted(set(keys.label_kinds) - set(LABEL_KINDS))
    if unknown or not keys.label_kinds:
        raise ConfigError(
            f"mechanism.label_kinds={keys.label_kinds}; choose some of {list(LABEL_KINDS)}"
        )
    for key in ("alphas", "radii"):
        values = getattr(keys, key)
        if not all(math.isfinite(one) and one >= 0 for one in values):
            raise ConfigError(f"mechanism.{key}={values}; give numbers from 0 upwards")
    is_rising = all(low < high for low, high in pairwise(keys.radii))
    if len(keys.radii) < 2 or not is_rising:
        raise ConfigError(f"mechanism.radii={keys.radii}; give at least two, each above the last")
    for key in ("max_samples", "num_subsets", "max_batch"):
        if (value := getattr(keys, key)) < 1:
            raise ConfigError(f"mechanism.{key}={value}; give a number from 1 upwards")


def _check_sizes(job: JobConfig) -> None:
    """Refuse sizes that the source cannot be told.

    Raises:
        ConfigError: There is one.
    """
    for key in SIZES:
        sizes = getattr(job.mechanism, key)
        if sizes and job.source.get(key) is None:
            raise ConfigError(
                f"mechanism.{key}={sizes}: source.{key} is not set, so that its size cannot be "
                f"changed; set source.{key}, or mechanism.{key}=[]"
            )
        if not all(one >= 1 for one in sizes):
            raise ConfigError(f"mechanism.{key}={sizes}; give numbers from 1 upwards")


def _job_of(job: JobConfig, sizes: dict[str, int]) -> JobConfig:
    """Return the job of a setting, in a folder of its own below that of the draw."""
    named = [f"{key.removeprefix('num_')}-{size}" for key, size in sizes.items()]
    root = "/".join([job.root, "-".join(named) or "whole"])
    source: dict[str, Any] = {**job.source, **sizes}
    for key in _PLACES:
        place = source.get(key)
        if isinstance(place, str) and place.startswith(f"{job.root}/"):
            source[key] = root + place.removeprefix(job.root)
    fit, most = job.fit, job.mechanism.max_batch
    if fit.global_batch == 0 and sizes.get("num_unlabeled", 0) > most:
        fit = replace(fit, global_batch=most)
    return replace(job, root=root, source=source, fit=fit)


def plain_settings(setting: Setting) -> dict[str, Any]:
    """Return what tells settings apart, as plain data."""
    return {**setting.sizes, "data_seed": setting.job.data_seed, "is_base": setting.is_base}
