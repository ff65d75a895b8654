"""One setting of the measurement: train and evaluate its students, and measure its geometry."""

# N samples, C classes, D features.

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mke_ray.data.manifest import META, Manifest, UnitRef
from mke_ray.errors import ConfigError
from mke_ray.evaluation import TEACHER, Evaluation
from mke_ray.evaluation.predictions import stored_batch
from mke_ray.evaluation.unit_rows import read_columns
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.mechanism_plan import RECORD_NAME, Setting, plain_settings, variants_of
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import (
    Labels,
    evaluate_stage,
    train_stage,
)
from mke_ray.expansion.whole import before_training
from mke_ray.expansion.work import origin_of
from mke_ray.labels.posterior import probabilities
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.mechanism import (
    Denoising,
    class_expansions,
    crossings,
    denoising,
    error_bound,
    noise_average,
    noise_space,
)
from mke_ray.schema import LabelKind, Split
from mke_ray.storage import Root, open_root
from mke_ray.train.arms import ARMS
from mke_ray.train.fits import FitSpec

_VARIED = ("student", "plain")


@dataclass(frozen=True, slots=True, eq=False)
class TaughtSamples:
    """Unlabeled samples whose true class is known.

    Args:
        arrays: Per modality the features [N, D].
        truth_N: True classes.
        logits_NC: The teacher's logits.
    """

    arrays: Mapping[str, np.ndarray]
    truth_N: np.ndarray
    logits_NC: np.ndarray

    @property
    def said(self) -> np.ndarray:
        """The teacher's classes."""
        return self.logits_NC.argmax(axis=1)

    def targets(self, kind: str, temperature: float) -> np.ndarray:
        """Return the pseudo-labels as probabilities [N, C]."""
        if kind == "hard":
            return np.eye(self.logits_NC.shape[1])[self.said]
        return probabilities(self.logits_NC, temperature=temperature, kind=LabelKind.SINGLE)


def measure_setting(setting: Setting) -> dict[str, Any]:
    """Return the record of a setting, made now or read where it is there already.

    Raises:
        ConfigError: It cannot be trained or measured.
    """
    folder, inputs = open_root(setting.job.root, setting.job.storage.options), setting.inputs()
    if (known := known_record(setting)) is not None:
        return known
    with open_run(setting.job) as run:
        record = {"inputs": inputs, **plain_settings(setting), **_measured(run, setting)}
    folder.write(RECORD_NAME, json.dumps(record, allow_nan=False).encode())
    return record


def known_record(setting: Setting) -> dict[str, Any] | None:
    """Return the record of a setting that was measured before, None where it was not.

    One of other samples than the manifest lists by now is none, nor is one that does not say of
    which it is.
    """
    folder = open_root(setting.job.root, setting.job.storage.options)
    if not folder.exists(RECORD_NAME):
        return None
    record = json.loads(folder.read(RECORD_NAME))
    is_of_setting = record["inputs"] == setting.inputs()
    return record if is_of_setting and record.get("data") == _listed(folder) else None


def _listed(folder: Root) -> str:
    """Return the digest of all samples that the manifest of a run lists, "" where there is none."""
    if not folder.exists(f"manifest/{META}"):
        return ""
    return Manifest.open(folder.child("manifest")).digest(Split)


def spaces_of(job: Any) -> dict[str, tuple[str, ...]]:
    """Return what distances are measured in: each modality alone, the teacher's first, and all."""
    names = sorted(job.student.encoders, key=lambda name: (name != job.teacher.modality, name))
    return {**{name: (name,) for name in names}, " + ".join(names): tuple(names)}


def geometry(samples: TaughtSamples, setting: Setting) -> dict[str, Any]:
    """Return expansion, crossing and the bound of the theorem over the radii, by space."""
    job, truth_N = setting.job, samples.truth_N
    radii, found = list(job.mechanism.radii), {}
    for name, modalities in spaces_of(job).items():
        points_ND = noise_space(samples.arrays, modalities)
        expansions = class_expansions(
            points_ND,
            truth_N,
            samples.said,
            radii=radii,
            num_subsets=job.mechanism.num_subsets,
            seed=job.data_seed,
        )
        half_R = crossings(points_ND, truth_N, radii=[radius / 2 for radius in radii])
        bound_R = error_bound(expansions, half_R, num_samples=len(truth_N))
        found[name] = {
            "crossing": crossings(points_ND, truth_N, radii=radii).tolist(),
            "bound": [None if np.isnan(one) else float(one) for one in bound_R],
            "classes": [
                {
                    "class": one.true_class,
                    "num_samples": one.num_samples,
                    "num_wrong": one.num_wrong,
                    "expansion": one.ratio_R.tolist(),
                    "expansion_of_subsets": one.subset_ratio_R.tolist(),
                    "factor": [None if np.isinf(c) else float(c) for c in one.factor_R],
                }
                for one in expansions
            ],
        }
    return found


def taught_samples(run: Run, manifest: Manifest, labels: Labels) -> TaughtSamples:
    """Read at most ``mechanism.max_samples`` unlabeled samples with a known truth, by chance.

    Features are standardised where the encoder of their modality does so.

    Raises:
        ConfigError: There is none.
    """
    most, encoders = run.job.mechanism.max_samples, run.job.student.encoders
    rng = np.random.default_rng([run.job.seed, run.job.data_seed])
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    read, num_read = [], 0
    for number in rng.permutation(len(refs)):
        some = _taught_unit(run, manifest, labels, refs[number], rng)
        read.append(some)
        num_read += len(some.truth_N)
        if num_read >= most:
            break
    if not num_read:
        raise ConfigError(
            "mechanism.enabled=true: no unlabeled sample with all modalities and a label has a "
            "known true class; give the unlabeled rows of the source their classes, for reporting"
        )
    arrays = {name: np.concatenate([one.arrays[name] for one in read])[:most] for name in encoders}
    return TaughtSamples(
        {name: _seen(values_ND, encoders[name]) for name, values_ND in arrays.items()},
        np.concatenate([one.truth_N for one in read])[:most],
        np.concatenate([one.logits_NC for one in read])[:most],
    )


def _taught_unit(
    run: Run, manifest: Manifest, labels: Labels, ref: UnitRef, rng: np.random.Generator
) -> TaughtSamples:
    """Return the samples of a unit that are whole, labelled, and of a known class, shuffled."""
    names, rows = list(run.job.student.encoders), manifest.read_unit(ref)
    reader = sample_reader(labels.samples, run.root, origin_of(run))
    table = reader.read(ref.unit, reader.small_columns + names)
    batch, present = stored_batch(table, {name: run.decode[name] for name in names})
    said = read_columns(labels.labels, labels.labels.read_index(), ref, rows, ["logits"])
    logits = said.column("logits").to_pylist()
    chosen = [
        number
        for number in rng.permutation(len(rows))
        if all(bool(present[name][number]) for name in names)
        and rows[number].labels
        and not rows[number].mark
        and logits[number] is not None
    ]
    return TaughtSamples(
        {name: batch[name].numpy()[chosen] for name in names},
        np.asarray([(rows[number].labels or [0])[0] for number in chosen], dtype=np.int64),
        np.asarray([logits[number] for number in chosen], dtype=float).reshape(len(chosen), -1),
    )


def _measured(run: Run, setting: Setting) -> dict[str, Any]:
    """Carry out the stages of a setting and return what was found."""
    found = before_training(run)
    manifest, labels = found.manifest, found.labels
    varied = list(variants_of(found.fits, setting))
    train_stage(run, [fit for fit, _, _ in varied])
    relabelled = None if found.refined is None else found.refined.relabelled
    _, evaluation = evaluate_stage(
        run, manifest, labels, [fit for fit, _, _ in varied], relabelled=relabelled
    )
    samples = taught_samples(run, manifest, labels)
    return {
        "data": manifest.digest(Split),
        "teacher": _teacher(evaluation, samples),
        "num_measured": len(samples.truth_N),
        "radii": list(setting.job.mechanism.radii),
        "spaces": geometry(samples, setting) if setting.is_base else {},
        "students": [
            _student(one, evaluation=evaluation, samples=samples, setting=setting) for one in varied
        ],
        "samples": _plane(samples) if setting.is_base else None,
    }


def _teacher(evaluation: Evaluation, samples: TaughtSamples) -> dict[str, Any]:
    """Return how good the teacher is."""
    flow = evaluation.teacher_flow
    accuracy = None if flow is None else flow.teacher_accuracy
    return {
        "test": evaluation.arms[TEACHER].value,
        "unlabeled_error": None if accuracy is None else 1.0 - accuracy,
        "measured_error": float((samples.said != samples.truth_N).mean()),
    }


def _student(
    variant: tuple[FitSpec, float, str],
    *,
    evaluation: Evaluation,
    samples: TaughtSamples,
    setting: Setting,
) -> dict[str, Any]:
    """Return what a student did, and what averaging over its noise would do."""
    fit, alpha, kind = variant
    result, arm = evaluation.arms[fit.arm], fit.arm.partition("@")[0]
    observed = None
    if (flow := result.flow) is not None and flow.num:
        error = (flow.num_wrong - flow.num_corrected + flow.num_corrupted) / flow.num
        observed = asdict(Denoising(error, flow.corrected, flow.corrupted))
    predicted = None
    if ARMS[arm].objective in _VARIED:
        modalities = list(fit.student["encoders"])
        points_ND = noise_space(samples.arrays, modalities)
        target_NC = samples.targets(kind, fit.temperature)
        said_N = noise_average(points_ND, target_NC, alpha=alpha).argmax(axis=1)
        predicted = asdict(denoising(samples.truth_N, samples.said, said_N))
    return {
        "arm": arm,
        "alpha": alpha,
        "kind": kind,
        "seed": fit.seed,
        "is_own": (alpha, kind) == setting.variants()[0] or "@" not in fit.arm,
        "test": result.value,
        "gain": result.gain,
        "observed": observed,
        "predicted": predicted,
    }


def _plane(samples: TaughtSamples) -> dict[str, Any] | None:
    """Return the samples themselves where they are points of a plane, to draw them."""
    if any(one_ND.shape[1] != 1 for one_ND in samples.arrays.values()) or len(samples.arrays) != 2:
        return None
    return {
        "points": {
            name: [round(float(one), 4) for one in one_ND[:, 0]]
            for name, one_ND in samples.arrays.items()
        },
        "truth": samples.truth_N.tolist(),
        "said": samples.said.tolist(),
    }


def _seen(values_ND: np.ndarray, encoder: Mapping[str, Any]) -> np.ndarray:
    """Return features as the encoder sees them: standardised, unless it is told not to."""
    values_ND = values_ND.reshape(len(values_ND), -1).astype(float)
    if not encoder.get("normalise", True):
        return values_ND
    deviation_D = values_ND.std(axis=0)
    return (values_ND - values_ND.mean(axis=0)) / np.where(deviation_D > 0, deviation_D, 1.0)
