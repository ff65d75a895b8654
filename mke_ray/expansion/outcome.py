"""What a run leaves for people: the report, the exported student, the MLflow run."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch

from mke_ray import __version__
from mke_ray.config import shown, to_yaml
from mke_ray.data.manifest import Manifest
from mke_ray.data.text_files import text_tokenizers
from mke_ray.evaluation import TEACHER, Evaluation, EvaluationPlan
from mke_ray.evaluation.calibration import Calibration
from mke_ray.evaluation.contribution import Contribution
from mke_ray.evaluation.predictions import stored_batch
from mke_ray.expansion.drawn import data_drawn
from mke_ray.expansion.known_groups import known_shared_groups
from mke_ray.expansion.preflight_end import preflight_figures
from mke_ray.expansion.rounds import Refined
from mke_ray.expansion.run import TEACHER_ARM, Run
from mke_ray.expansion.source_notes import source_notes
from mke_ray.expansion.stages import Labels, TaughtTeacher
from mke_ray.expansion.teacher_words import teacher_words
from mke_ray.expansion.work import origin_of
from mke_ray.focus.preflight import Preflight
from mke_ray.gate import GateDecision
from mke_ray.labels.counts import counts_in_use, marked_rows
from mke_ray.labels.doubles import DoublesReport
from mke_ray.labels.openset import SCORES, Tilt
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.labels.unreadable import unreadable_samples
from mke_ray.models.student import Network
from mke_ray.report import (
    DoublePair,
    FitHistory,
    Picture,
    RefinementRound,
    ReportContent,
    Throughput,
    UnreadableFile,
    class_gain_picture,
    decision_boundaries,
    sample_cards,
    scenes_of,
    scenes_picture,
)
from mke_ray.report.style import arm_title
from mke_ray.schema import FeatureSpec, LabelKind, Split, fingerprint
from mke_ray.storage import Root
from mke_ray.train.fits import FitSpec, FitStore

MAX_UNREADABLE = 300
INPUTS_NAME = "report/inputs.json"
_PACKAGES = ("ray", "torch", "deepspeed", "av", "mlflow", "hydra-core", "pyarrow")


_REPORT_VERSION = 5  # what a report says; a root that has an older one gets a new one


@dataclass(slots=True)
class Outcome:
    """Everything that was found in a run.

    Args:
        manifest: The samples.
        teacher: The teacher.
        labels: The stores.
        fits: The fits of the arms.
        evaluation: What was measured.
        decision: What the gate said.
        doubles: What occurs twice, None where nobody looked.
        compared: What the evaluation compared, for pictures of scenes with dense labels.
        refined: How the labels of our student were made; None where it is not trained.
        calibration: How far the teacher's confidence is from its accuracy.
        student_calibration: The same of the student, with the temperature it is exported with.
        contribution: What each modality contributes to the shipped student; None of one modality.
        preflight: What was to be expected; None where nobody looked ahead.
    """

    manifest: Manifest
    teacher: TaughtTeacher
    labels: Labels
    fits: Sequence[FitSpec]
    evaluation: Evaluation
    decision: GateDecision
    doubles: DoublesReport | None = None
    compared: EvaluationPlan | None = None
    refined: Refined | None = None
    calibration: Calibration | None = None
    student_calibration: Calibration | None = None
    contribution: Contribution | None = None
    preflight: Preflight | None = None

    def inputs(self) -> str:
        """Return a fingerprint of all that the report depends on, apart from times."""
        fits = [one.fingerprint() for one in self.fits]
        found = self.doubles.to_dict() if self.doubles else None
        uri, rows = self.labels.labels.root.uri, self.manifest.digest(Split)
        samples = self.labels.report.samples.revisions(Split)
        known = [
            __version__,
            _REPORT_VERSION,
            uri,
            fits,
            rows,
            samples,
            self.decision.reason,
            found,
            *sorted(self.evaluation.arms[TEACHER].further),
            [] if self.contribution is None else [one.level for one in self.contribution.noisy],
        ]
        rounds = self.refined.rounds if self.refined else ()
        tilts = [one.tilt.to_dict() for one in rounds if one.tilt is not None]
        ahead = [] if self.preflight is None else [self.preflight.to_dict()]
        return fingerprint([*known, *([tilts] if tilts else []), *ahead])


def report_content(run: Run, outcome: Outcome) -> ReportContent:
    """Gather what the report says."""
    manifest, labels = outcome.manifest, outcome.labels
    counts = counts_in_use(labels.samples, manifest, labels.report.samples)
    histories = [_history(run.root, one) for one in outcome.fits]
    if outcome.teacher.fit is not None:
        store = FitStore(run.root)
        histories.insert(0, FitHistory(TEACHER_ARM, 0, store.history(outcome.teacher.fit)))
    return ReportContent(
        experiment=run.job.name,
        seed=run.job.seed,
        evaluation=outcome.evaluation,
        decision=outcome.decision,
        shipped=run.shipped,
        counts=counts,
        num_pseudo_labels=_num_pseudo_labels(labels, manifest),
        seconds=run.clock.seconds(),
        splits=manifest.meta["counts"],
        marked=manifest.meta["marked"],
        unreadable=_unreadable(manifest, labels),
        histories=histories,
        cards=sample_cards(
            outcome.evaluation.examples,
            sample_reader(labels.samples, run.root, origin_of(run)),
            decode=run.decode,
            classes=manifest.label_space.classes,
            tokenizers=text_tokenizers(run.decode, run.job.source.get("tokenizers", {})),
        ),
        pictures=[
            *preflight_figures(run, outcome.preflight),
            *_boundaries(run, outcome),
            *_dense_pictures(outcome),
        ],
        config_yaml=to_yaml(run.job),
        config=shown(run.job),
        fingerprints=_fingerprints(outcome),
        versions=_versions(),
        shared_groups=known_shared_groups(run.root, manifest),
        source_notes=source_notes(run.root),
        refinement=_refinement(outcome.refined),
        calibration=outcome.calibration,
        student_calibration=outcome.student_calibration,
        classes=manifest.label_space.classes,
        contribution=outcome.contribution,
        preflight=None if outcome.preflight is None else outcome.preflight.to_dict(),
        taught=teacher_words(run.job.teacher),
        throughput=_throughput(labels),
        cost_per_hour=run.job.labelling.cost_per_hour,
        drawn=data_drawn(run.job),
        **_doubles(outcome.doubles),
    )


def _throughput(labels: Labels) -> Throughput | None:
    """Return what the pass over the source took in all its starts, None where that is unknown."""
    state = labels.report.state
    total = state.total
    if not total.num_samples:
        return None
    return Throughput(
        num_samples=total.num_samples,
        samples_per_s=state.rate_in_all,
        wall_s=total.wall_s,
        num_starts=total.num_starts,
        shares=total.shares(),
        num_decoded=total.num_decoded,
        media_s=total.duration_s,
        num_bytes_read=total.num_bytes_read,
        num_bytes_written=total.num_bytes_written,
        num_untold=state.num_untold,
    )


def _doubles(found: DoublesReport | None) -> dict[str, Any]:
    """Return what the report says of samples that occur twice."""
    if found is None:
        return {}
    return {
        "doubles": found.counts,
        "num_excluded_doubles": found.num_excluded,
        "double_pairs": [
            DoublePair(pair["key"], pair["kind"], pair["other_key"], pair["distance"])
            for pair in found.pairs
        ],
    }


def _refinement(refined: Refined | None) -> list[RefinementRound]:
    """Return the rounds of a refinement as the report shows them."""
    if refined is None:
        return []
    return [
        RefinementRound(
            one.posterior.temperature,
            one.posterior.teacher,
            dict(zip(refined.witnesses, one.posterior.witnesses, strict=True)),
            one.log_likelihood,
            is_used=number == refined.chosen,
            teachers={
                name: (further.exponent, further.temperature)
                for name, further in zip(refined.teachers, one.posterior.further, strict=True)
            },
            open_set=None if one.tilt is None else _open_set(one.tilt),
        )
        for number, one in enumerate(refined.rounds)
    ]


def _open_set(tilt: Tilt) -> dict[str, Any]:
    """Return how the unlabeled samples differ from labelled pairs, as the report has it."""
    return {
        "is_certain": tilt.is_certain,
        "share": tilt.share if tilt.is_certain else 0.0,
        "slopes": dict(zip(SCORES, tilt.slopes, strict=True)),
        "likelihood_ratio": tilt.likelihood_ratio,
    }


def is_reported(root: Root, outcome: Outcome) -> bool:
    """Return whether the report of exactly this outcome is there."""
    try:
        return json.loads(root.read(INPUTS_NAME))["inputs"] == outcome.inputs()
    except FileNotFoundError:
        return False


def mark_reported(root: Root, outcome: Outcome) -> None:
    """Remember what the report was made from."""
    root.write(INPUTS_NAME, json.dumps({"inputs": outcome.inputs()}).encode())


def _unreadable(manifest: Manifest, labels: Labels) -> list[UnreadableFile]:
    """Return the first samples that are not whole, those that gave nothing before the others."""
    found: dict[str, list[UnreadableFile]] = {"bad": [], "retry": [], "partial": []}
    for one in unreadable_samples(labels.samples, manifest, labels.report.samples):
        if len(found[one.status]) < MAX_UNREADABLE:
            found[one.status].append(UnreadableFile(one.key, one.error, one.status))
    return [file for files in found.values() for file in files]


def _history(root: Root, fit: FitSpec) -> FitHistory:
    """Return the logged steps of a fit."""
    return FitHistory(fit.arm, fit.seed, FitStore(root).history(fit.fingerprint()))


def _num_pseudo_labels(labels: Labels, manifest: Manifest) -> int:
    """Return how many unlabeled samples in use have a pseudo-label."""
    index = labels.labels.read_index()
    units = index.units(Split.UNLABELED)
    num_labelled = sum(int((index.status(unit) == 0).sum()) for unit in units)
    marked = marked_rows(manifest, units)
    return num_labelled - sum(int((index.status(unit)[one_B] == 0).sum()) for unit, one_B in marked)


def _fingerprints(outcome: Outcome) -> dict[str, str]:
    """Return the fingerprints that name the stores and networks of a run."""
    named = {
        "samples": outcome.labels.samples.root.uri.rsplit("/", 1)[-1],
        "labels": outcome.labels.labels.root.uri.rsplit("/", 1)[-1],
    }
    if outcome.teacher.fit is not None:
        named["teacher"] = outcome.teacher.fit
    return named | {one.name: one.fingerprint() for one in outcome.fits}


def _versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    named = {"mke_ray": __version__, "python": platform.python_version()}
    return named | {name: metadata.version(name) for name in _PACKAGES}


def _boundaries(run: Run, outcome: Outcome) -> list[Picture]:
    """Draw the decision boundaries where the data are points of a plane with two classes."""
    specs = list(run.decode.values())
    is_plane = len(specs) == 2 and all(s == FeatureSpec(1) for s in specs)
    if not is_plane or outcome.manifest.label_space.num_classes != 2:
        return []
    points_N2, labels_N = _test_points(run, outcome)
    fits = {"Teacher": outcome.teacher.fit}
    for fit in outcome.fits:
        fits.setdefault(arm_title(fit.arm), fit.fingerprint())
    store, classes = FitStore(run.root), run.classes()
    predictors = {
        title: _Predictor(store.load(fit, classes).student, tuple(run.decode))
        for title, fit in fits.items()
        if fit is not None
    }
    return [decision_boundaries(points_N2, labels_N, predictors)]


def _dense_pictures(outcome: Outcome) -> list[Picture]:
    """Draw scenes and the gain by class where labels are dense."""
    if outcome.compared is None or outcome.manifest.label_space.kind is not LabelKind.DENSE:
        return []
    classes, evaluation = outcome.manifest.label_space.classes, outcome.evaluation
    drawn = [
        scenes_picture(scenes_of(evaluation, outcome.compared), classes),
        class_gain_picture(evaluation.arms, shipped=outcome.compared.shipped, classes=classes),
    ]
    return [one for one in drawn if one is not None]


def _test_points(run: Run, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Return the test points [N, 2] and their classes [N]."""
    points, labels = [], []
    samples = sample_reader(outcome.labels.samples, run.root, origin_of(run))
    for ref in outcome.manifest.unit_refs([Split.TEST]):
        table = samples.read(ref.unit, samples.small_columns + list(run.decode))
        arrays, _ = stored_batch(table, run.decode)
        rows = outcome.manifest.read_unit(ref)
        shown = [number for number, row in enumerate(rows) if not row.mark]
        points.append(torch.cat([arrays[name][shown] for name in run.decode], dim=1).numpy())
        labels += [row.labels[0] if row.labels else 0 for row in rows if not row.mark]
    return np.concatenate(points), np.asarray(labels)


@dataclass(frozen=True, slots=True)
class _Predictor:
    """Probability of class 1 over the plane."""

    student: Network
    modalities: tuple[str, ...]

    @torch.inference_mode()
    def __call__(self, grid_G2: Any) -> np.ndarray:
        """Return the probability of class 1 [G] at points [G, 2]."""
        grid = torch.as_tensor(np.asarray(grid_G2), dtype=torch.float32)
        arrays = {name: grid[:, number : number + 1] for number, name in enumerate(self.modalities)}
        present = {name: torch.ones(len(grid), dtype=torch.bool) for name in self.modalities}
        mine = {name: arrays[name] for name in self.student.modalities}
        return self.student(mine, present).softmax(dim=1)[:, 1].numpy()
