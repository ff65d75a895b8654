"""The stage that tells what each modality is worth to the shipped student, whole or under noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray.data.manifest import Manifest
from mke_ray.evaluation import EvaluationPlan, PredictionPlan, run_predictions
from mke_ray.evaluation.contribution import (
    Contribution,
    contribution_plan,
    measure_contribution,
)
from mke_ray.evaluation.noise import Spread
from mke_ray.evaluation.predictions import PREDICTIONS_FOLDER, stored_batch
from mke_ray.expansion.compacting import compact_store
from mke_ray.expansion.findings import REFINE_FOLDER, kept
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels
from mke_ray.expansion.work import PassShown, folder_name, light_runner, origin_of
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.report.progress import stage_progress
from mke_ray.schema import FeatureSpec, LabelKind, Split
from mke_ray.train.fits import FitSpec, FitStore, revisions_of


def contribution_stage(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    fits: Sequence[FitSpec],
    compared: EvaluationPlan,
) -> Contribution | None:
    """Predict the test split with modalities hidden or noisy, and compare with the whole.

    It is the network that the gate judges. What is there already is not predicted again.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The stores.
        fits: The fits of the arms, finished.
        compared: What the evaluation of the arms compared.

    Returns:
        None where the student reads one modality.
    """
    shipped = next(one for one in fits if one.arm == run.shipped)
    modalities, fit = list(shipped.student["encoders"]), shipped.fingerprint()
    if len(modalities) < 2:
        return None
    levels = run.job.noise_levels
    plan = contribution_plan(
        PredictionPlan(
            root=run.root,
            samples=folder_name(labels.samples),
            decode=run.job.decode,
            students={},
            classes=run.classes(),
            device=run.labelling_device,
            origin=origin_of(run, run.job.labelling.num_cpus),
            is_dense=manifest.label_space.kind is LabelKind.DENSE,
        ),
        fit=fit,
        folder=FitStore(run.root).student_folder(fit),
        modalities=modalities,
        noise_levels=levels,
        spread=_spreads(run, manifest, labels, modalities) if levels else None,
    )
    run.refer(f"{PREDICTIONS_FOLDER}/{plan.name}")
    refs = list(manifest.unit_refs([Split.TEST]))
    with stage_progress("hide modalities", unit="samples") as progress:
        runner = light_runner(plan, refs) or LazyRunner(run.working_runner, PassShown(progress).say)
        predictions = run_predictions(plan, refs, runner=runner.run, progress=progress)
    return measure_contribution(
        compared,
        compact_store(run, predictions, refs),
        fit=fit,
        modalities=modalities,
        noise=plan.noise,
        knows_gaps=_knows_gaps(shipped.objective.get("modality_dropout") or {}, modalities),
    )


def _spreads(
    run: Run, manifest: Manifest, labels: Labels, modalities: Sequence[str]
) -> dict[str, list[float]]:
    """Return the standard deviation of each feature over the test split, found once."""
    decode = {name: run.decode[name] for name in modalities}
    names = [name for name, spec in decode.items() if isinstance(spec, FeatureSpec)]
    if not names:
        return {}
    rows = [manifest.digest([Split.TEST]), revisions_of(labels.samples, [Split.TEST])]

    def found() -> dict[str, Any]:
        samples = sample_reader(labels.samples, run.root, origin_of(run))
        spreads = {name: Spread() for name in names}
        for ref in manifest.unit_refs([Split.TEST]):
            table = samples.read(ref.unit, [*samples.small_columns, *names])
            arrays, present = stored_batch(table, {name: decode[name] for name in names})
            for name in names:
                spreads[name].add(arrays[name][present[name]])
        return {name: value for name, one in spreads.items() if (value := one.value())}

    made_of = [labels.labels.name, *rows, "spread", sorted(names)]
    return kept(run.root.child(REFINE_FOLDER), made_of, found)


def _knows_gaps(dropout: Mapping[str, float], modalities: Sequence[str]) -> bool:
    """Return whether every modality was missing now and then in training."""
    return all(dropout.get(one, 0.0) > 0 for one in modalities)
