"""What a pass does, as plain data that crosses from the driver to the workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mke_ray.config import build
from mke_ray.data.manifest import Manifest
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.dense import DEFAULT_TOP_K, dense_form, labels_schema
from mke_ray.labels.origin import Origin
from mke_ray.labels.store import UnitStore
from mke_ray.labels.worker import UnitWorker
from mke_ray.models.computing import Computing
from mke_ray.models.teachers import ManyTeacher, Teacher, check_needs, modalities_of
from mke_ray.schema import (
    LABELS_SCHEMA,
    DecodeSpec,
    LabelSpace,
    decode_spec_from_dict,
    decode_spec_to_dict,
    fingerprint,
    samples_schema,
)
from mke_ray.storage import Root

DEFAULT_COMPUTING = Computing()


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """One teacher of a pass.

    Args:
        spec: What ``mke_ray.config.build`` makes the teacher from.
        fingerprint: What the teacher said of itself on the driver.
        modalities: The modalities that it reads; a sample is asked about where it has any.
        labels: Where its logits go.
        computing: How it computes.
        num_answers: Numbers that it gives of each sample; None for one for each class.
    """

    spec: Mapping[str, Any]
    fingerprint: str
    modalities: tuple[str, ...]
    labels: UnitStore
    computing: Computing = DEFAULT_COMPUTING
    num_answers: int | None = None


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """One pass over the units of a manifest.

    Args:
        root: Folder of the run.
        manifest: The manifest of the run.
        source: What ``mke_ray.config.build`` makes the source from.
        samples: Where decoded samples go; its spec holds the decode specification.
        teachers: The teachers; none for a pass that only decodes.
        max_bad_fraction: Share of unreadable samples above which the pass stops.
        num_few: Of fewer samples than these the pass stops only where none can be read.
        num_threads: Threads per worker, for decoding and for the teacher alike.
        limits: What one sample may take in the process in which samples are read; None reads
            them in the worker itself, which they can hold up or kill.
        retry: Reasons for which samples are read again, see ``retry_reasons``.
        unretried: Splits whose samples are not read again all the same.
        units_ahead: Units that are decoded while another one is with the teacher; 0 begins a
            unit when the one before it is written.
        teacher_threads: Threads of workers that only label; None takes ``num_threads``.
        units_per_call: Units that a worker is given at a time.
    """

    root: Root
    manifest: Manifest
    source: Mapping[str, Any]
    samples: UnitStore
    teachers: tuple[TeacherPlan, ...] = ()
    max_bad_fraction: float = 0.1
    num_few: int = 0
    num_threads: int = 1
    limits: SampleLimits | None = None
    retry: frozenset[str] = frozenset()
    unretried: frozenset[str] = frozenset()
    units_ahead: int = 0
    teacher_threads: int | None = None
    units_per_call: int = 1

    @property
    def threads_of_teachers(self) -> int:
        """Threads of whatever labels."""
        return self.teacher_threads or self.num_threads

    @property
    def units_at_once(self) -> int:
        """Units in work at once: those ahead, one with the teacher, one that is written."""
        return self.units_ahead + 2 if self.units_ahead else 1

    def forbids(self, num_unreadable: int, num_samples: int) -> bool:
        """Return whether so many of so many samples are too many unreadable ones."""
        if num_samples < self.num_few:
            return num_unreadable == num_samples > 0
        return num_unreadable > self.max_bad_fraction * num_samples

    def retry_of(self, split: str) -> frozenset[str]:
        """Return the reasons for which samples of a split are read again."""
        return frozenset() if split in self.unretried else self.retry

    @property
    def decodes(self) -> bool:
        """A pass stores samples."""
        return True

    @property
    def computes(self) -> bool:
        """Whether there are teachers."""
        return bool(self.teachers)

    @property
    def decode(self) -> DecodeSpec:
        """What is stored of every modality."""
        return decode_spec_from_dict(self.samples.spec["decode"])

    @property
    def origin(self) -> Origin:
        """Where samples are read."""
        return Origin(self.source, self.num_threads, self.limits)

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the logits."""
        return self.manifest.label_space

    def worker(self) -> UnitWorker:
        """Return what works on the units of this plan."""
        return UnitWorker(self)

    @property
    def stores(self) -> tuple[UnitStore, ...]:
        """Every store that the pass fills."""
        return (self.samples, *(teacher.labels for teacher in self.teachers))


def make_plan(
    root: Root,
    *,
    manifest: Manifest,
    source: Mapping[str, Any],
    decode: Mapping[str, Mapping[str, Any]],
    teachers: Sequence[Mapping[str, Any]] = (),
    max_bad_fraction: float = 0.1,
    computing: Computing = DEFAULT_COMPUTING,
) -> LabelPlan:
    """Open the stores of a pass, and check on the driver that its teachers fit what is stored.

    Args:
        root: Folder of the run.
        manifest: The manifest of the run.
        source: Specification of the source, with ``_target_``.
        decode: Plain decode specification of every modality.
        teachers: Specifications of the teachers, with ``_target_``; none only decodes.
        max_bad_fraction: Share of unreadable samples above which the pass stops.
        computing: How the teachers compute.

    Raises:
        ConfigError: A teacher cannot compute like that.
        StoreError: A teacher needs more than is stored, or a store was made from something else.
    """
    samples = samples_store(root, decode)
    plan = LabelPlan(root, manifest, source, samples, (), max_bad_fraction)
    return with_teachers(plan, teachers, computing=computing)


def with_teachers(
    plan: LabelPlan,
    teachers: Sequence[Mapping[str, Any]],
    *,
    computing: Computing = DEFAULT_COMPUTING,
    top_k: int = DEFAULT_TOP_K,
) -> LabelPlan:
    """Open the label stores of teachers, checked on the driver, and return the plan with them.

    Args:
        plan: A plan with a sample store and without teachers.
        teachers: Specifications of the teachers, with ``_target_``.
        computing: How the teachers compute.
        top_k: Classes kept of each pixel of dense labels.

    Raises:
        ConfigError: A teacher cannot compute like that, or its labels would not fit what is
            stored.
        StoreError: A teacher needs more than is stored, or a store was made from something else.
    """
    plans = []
    for number, spec in enumerate(teachers):
        teacher: Teacher | ManyTeacher = build(spec)
        check_needs(teacher, plan.decode)
        computing.check(teacher, key=f"teacher {number}")
        labels = labels_store(
            plan.root,
            plan.samples,
            teacher=teacher,
            label_space=plan.label_space,
            computing=computing,
            top_k=top_k,
        )
        read = modalities_of(teacher)
        plans.append(TeacherPlan(spec, teacher.fingerprint(), read, labels, computing))
    return replace(plan, teachers=tuple(plans))


def samples_store(
    root: Root, decode: Mapping[str, Mapping[str, Any]], *, media: bool = True
) -> UnitStore:
    """Open or begin the store of the samples of a decode specification.

    Args:
        root: Folder of the run.
        decode: Plain decode specification of every modality.
        media: Whether the store keeps the media, or only what became of every sample.
    """
    plain = decode_spec_to_dict(decode_spec_from_dict(decode))
    spec = {"decode": plain} if media else {"decode": plain, "media": False}
    folder = root.child("samples", fingerprint(plain if media else spec))
    return UnitStore.open_or_create(folder, spec=spec, schema=samples_schema(plain, media=media))


def labels_store(
    root: Root,
    samples: UnitStore,
    *,
    teacher: Teacher | ManyTeacher,
    label_space: LabelSpace,
    computing: Computing = DEFAULT_COMPUTING,
    top_k: int = DEFAULT_TOP_K,
) -> UnitStore:
    """Open or begin the store of a teacher's logits on the samples of a store.

    Args:
        root: Folder of the run.
        samples: The sample store.
        teacher: The teacher.
        label_space: The classes of its logits.
        computing: How it computes; what is not the default makes a store of its own.
        top_k: Classes kept of each pixel of dense labels.

    Raises:
        ConfigError: Dense labels would not fit what is stored.
    """
    decode = decode_spec_from_dict(samples.spec["decode"])
    read = modalities_of(teacher)
    form = dense_form(decode, read[0], label_space=label_space, top_k=top_k)
    spec = {
        "samples": samples.name,
        "teacher": teacher.fingerprint(),
        **(
            {"modalities": list(read)}
            if isinstance(teacher, ManyTeacher)
            else {"modality": read[0]}
        ),
        "label_space": label_space.to_dict(),
        **({"computing": computing.spec} if computing.spec else {}),
        **({"dense": form.to_dict()} if form else {}),
    }
    folder = root.child("labels", fingerprint(spec))
    return UnitStore.open_or_create(folder, spec=spec, schema=labels_schema(form, LABELS_SCHEMA))
