"""The end of a promoted student: its files, and its registered version with its origin."""

import json
from importlib import metadata

import numpy as np

from mke_ray import __version__
from mke_ray.config import shown
from mke_ray.expansion.model_card import model_card
from mke_ray.expansion.outcome import Outcome
from mke_ray.expansion.run import Run
from mke_ray.models import pyfunc
from mke_ray.models.exporting import PRESENT_SUFFIX, example_inputs
from mke_ray.models.weights import CARD_NAME, SPEC_NAME, WEIGHTS_NAME, load_student, save_student
from mke_ray.registry import DIGEST_TAG, LoggedData, ModelPackage
from mke_ray.schema import (
    LabelKind,
    Split,
    decode_spec_from_dict,
    fingerprint,
    stored_dtype,
    stored_shape,
)
from mke_ray.storage import Root
from mke_ray.tracking import Tracker
from mke_ray.train.fits import FitStore

STUDENT_FOLDER = "student"

_USES = {
    Split.LABELLED: "teacher",
    Split.UNLABELED: "train",
    Split.PROBE: "select and gate",
    Split.TEST: "test",
}
_MAX_DESCRIPTION = 5000  # letters, as MLflow's databases have it
_MAX_INPUT_VALUES = 200_000  # of an example, which is kept as text


def export_student(run: Run, outcome: Outcome, *, temperature: float) -> str | None:
    """Write ``student/`` if the student was promoted.

    Args:
        run: The run.
        outcome: What was found.
        temperature: Temperature fitted on the select part of the probe.

    Returns:
        Where it is, None if the teacher is kept.
    """
    folder = run.root.child(STUDENT_FOLDER)
    for name in list(folder.names()):  # of an earlier student, in any format
        folder.delete(name)
    if not outcome.decision.promoted:
        return None
    fit = outcome.evaluation.columns[run.shipped][0]
    loaded = FitStore(run.root).load(fit, run.classes())
    save_student(
        folder,
        loaded.student,
        spec=loaded.spec,
        label_space=loaded.label_space,
        temperature=temperature,
        card=model_card(run, outcome, temperature=temperature),
        extra={
            "fit": fit,
            "gate": outcome.decision.to_dict(),
            "decode": run.job.decode,
            "views": run.job.views,
            "origin": origin_of(run, outcome),
        },
    )
    return folder.uri


def origin_of(run: Run, outcome: Outcome) -> dict[str, str]:
    """Return what a student was made from, from the samples to the labels."""
    return {
        "root": run.root.uri,
        "manifest": outcome.manifest.digest(Split),
        "samples": outcome.labels.samples.name,
        "labels": outcome.labels.labels.name,
        "teacher": outcome.teacher.fit or "brought",
        "fit": outcome.evaluation.columns[run.shipped][0],
        "verdict": str(outcome.decision.verdict),
        "mke_ray": __version__,
    }


def record_origin(run: Run, outcome: Outcome, tracker: Tracker) -> None:
    """Record in MLflow what a run was made from.

    Args:
        run: The run.
        outcome: What was found.
        tracker: Its MLflow run.
    """
    tracker.log_datasets(_data_sets(run, outcome))
    tracker.set_tags({f"origin.{name}": text for name, text in origin_of(run, outcome).items()})


def register_student(run: Run, outcome: Outcome, tracker: Tracker) -> None:
    """Register the student in MLflow if it was promoted.

    Args:
        run: The run, whose student is exported.
        outcome: What was found.
        tracker: Its MLflow run.
    """
    keys = run.job.tracking
    if outcome.decision.promoted and keys.alias is not None:
        folder, origin = run.root.child(STUDENT_FOLDER), origin_of(run, outcome)
        named = {"name": keys.model or run.job.name, "alias": keys.alias}
        tracker.register(package_of(folder, run, origin, **named))


def _data_sets(run: Run, outcome: Outcome) -> list[LoggedData]:
    """Return the splits of the source as data sets."""
    manifest = outcome.manifest
    source = shown(run.job)["source"]
    uri = str(source.get("root") or source.get("table") or source.get("_target_"))
    return [
        LoggedData(
            f"{run.job.name}/{split}",
            fingerprint([manifest.digest([split])]),
            uri,
            _USES[split],
            manifest.meta["counts"][split],
        )
        for split in Split
        if manifest.meta["counts"].get(split)
    ]


def package_of(
    folder: Root, run: Run, origin: dict[str, str], *, name: str, alias: str
) -> ModelPackage:
    """Return an exported student as it is registered.

    Args:
        folder: Where it is.
        run: The run.
        origin: What it was made from.
        name: Name of the registered model.
        alias: Alias that its version gets.
    """
    loaded = load_student(folder, classes=run.classes())
    specs, modalities = decode_spec_from_dict(loaded.decode), loaded.student.modalities
    names = [*modalities, *(one + PRESENT_SUFFIX for one in modalities)]
    example = example_inputs(modalities, specs, 1, seed=1)
    is_dense = loaded.label_space.kind == LabelKind.DENSE
    size = stored_shape(specs[modalities[0]])[:2] if is_dense else ()
    arrays = {one: (stored_dtype(specs[one]), stored_shape(specs[one])) for one in modalities}
    flags = {one + PRESENT_SUFFIX: ("bool", ()) for one in modalities}
    files = {one: folder.read(one) for one in (SPEC_NAME, WEIGHTS_NAME, CARD_NAME)}
    is_small = sum(int(np.prod(one.shape)) for one in example) <= _MAX_INPUT_VALUES
    return ModelPackage(
        name=name,
        alias=alias,
        files=files,
        loader=pyfunc.__name__,
        inputs={**arrays, **flags},
        output=("probabilities", (loaded.label_space.num_classes, *size)),
        example={key: one.numpy() for key, one in zip(names, example, strict=True)}
        if is_small
        else {},
        requirements=[f"mke-ray=={__version__}", f"torch=={metadata.version('torch')}"],
        tags={
            **origin,
            DIGEST_TAG: fingerprint([loaded.digest, loaded.temperature, loaded.extra["gate"]]),
            "student": loaded.digest,
            "gate": json.dumps(loaded.extra["gate"])[:500],
        },
        description=files[CARD_NAME].decode()[:_MAX_DESCRIPTION],
    )
