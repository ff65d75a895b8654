"""The pass that asks a student: the labelling pass, with the student in the teacher's place."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from mke_ray.config import build
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import PassReport, run_pass
from mke_ray.labels.labelling_keys import computing_of, plan_keys
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.pass_words import summary
from mke_ray.labels.plan import LabelPlan, TeacherPlan, samples_store, with_teachers
from mke_ray.labels.ray_metrics import RayMetrics
from mke_ray.labels.spilling import Spilling
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import retry_reasons
from mke_ray.models.whole_student import ExplainedStudent
from mke_ray.predict.setting import Setting
from mke_ray.report.progress import PassShown, stage_progress
from mke_ray.schema import LABELS_SCHEMA, decode_spec_to_dict, fingerprint

logger = logging.getLogger(__name__)

_MB = 1 << 20
_NUM_FEW = 20  # of fewer samples, those that can be read are answered


def asking_plan(setting: Setting, manifest: Manifest) -> LabelPlan:
    """Return the plan of the pass: what the student says, and with ``explain`` why.

    Raises:
        ConfigError: The student cannot compute like that, or reads too much to be explained.
        StoreError: A store was made from something else.
    """
    job, labelling = setting.job, setting.job.labelling
    samples = samples_store(setting.root, decode_spec_to_dict(setting.decode), media=job.samples)
    plan = LabelPlan(
        setting.root,
        manifest,
        job.source,
        samples,
        retry=retry_reasons(job.retry),
        num_few=_NUM_FEW,
        **plan_keys(labelling),
    )
    computing = computing_of(labelling)
    asked = with_teachers(
        plan, [setting.student_spec()], computing=computing, top_k=labelling.top_k
    )
    if not job.explain:
        return asked
    return replace(asked, teachers=(*asked.teachers, _explainer(setting, samples)))


def ask(setting: Setting, plan: LabelPlan, refs: Sequence[UnitRef]) -> PassReport:
    """Bring the pass to its end with its progress, and its small files into parts.

    Raises:
        MediaError: More samples are unreadable than ``labelling.max_bad_fraction`` allows, or of a
            few samples all are.
    """
    spilling = Spilling()
    with stage_progress("predict", unit="samples") as progress:
        shown = PassShown(progress)
        report = run_pass(
            plan,
            refs,
            LazyRunner(setting.runner, shown.say, spilling),
            progress=shown.tell,
            lease=setting.lease,
            cost_per_hour=setting.job.labelling.cost_per_hour,
            watchers=[RayMetrics(setting.job.name)],
        )
    if report.num_units_run:
        for said in summary(report.state, num_bytes_spilled=spilling.num_bytes()):
            logger.info("%s", said)
    samples, *labels = _compacted(setting, plan, refs, report)
    return replace(report, samples=samples, labels=tuple(labels))


def _explainer(setting: Setting, samples: UnitStore) -> TeacherPlan:
    """Return what asks for the explanations, into a store of their own."""
    spec, computing = setting.student_spec("ExplainedStudent"), computing_of(setting.job.labelling)
    explained: ExplainedStudent = build(spec)
    made_of = {
        "samples": samples.name,
        "explained": explained.fingerprint(),
        "modalities": list(explained.modalities),
        **({"computing": computing.spec} if computing.spec else {}),
    }
    folder = setting.root.child("labels", fingerprint(made_of))
    return TeacherPlan(
        spec,
        explained.fingerprint(),
        explained.modalities,
        UnitStore.open_or_create(folder, spec=made_of, schema=LABELS_SCHEMA),
        computing,
        num_answers=explained.num_answers,
    )


def _compacted(
    setting: Setting, plan: LabelPlan, refs: Sequence[UnitRef], report: PassReport
) -> tuple:
    """Return the indexes of the stores once their units lie in parts."""
    indexes = [report.samples, *report.labels]
    part_bytes = int(setting.job.labelling.part_mb * _MB)
    if not part_bytes:
        return tuple(indexes)
    with stage_progress("compact", unit="units") as shown:
        return compact(
            CompactionPlan(setting.root, plan.stores),
            refs,
            indexes,
            LazyRunner(setting.runner, lambda text: shown(0, 0, text), is_light=True),
            part_bytes=part_bytes,
            progress=shown,
            lease=setting.lease,
        )
