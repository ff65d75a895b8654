"""What a pass does, as plain data that crosses from the driver to the workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mke_ray.config import build
from mke_ray.data.manifest import Manifest
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.store import UnitStore
from mke_ray.labels.worker import UnitWorker
from mke_ray.models.teachers import Teacher, check_needs
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


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """One teacher of a pass.

    Args:
        spec: What ``mke_ray.config.build`` makes the teacher from.
        fingerprint: What the teacher said of itself on the driver.
        labels: Where its logits go.
    """

    spec: Mapping[str, Any]
    fingerprint: str
    labels: UnitStore


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
        num_threads: Threads per worker, for decoding and for the teacher alike.
        limits: What one sample may take in the process in which samples are read; None reads
            them in the worker itself, which they can hold up or kill.
        retry: Reasons for which samples are read again, see ``retry_reasons``.
    """

    root: Root
    manifest: Manifest
    source: Mapping[str, Any]
    samples: UnitStore
    teachers: tuple[TeacherPlan, ...] = ()
    max_bad_fraction: float = 0.1
    num_threads: int = 1
    limits: SampleLimits | None = None
    retry: frozenset[str] = frozenset()

    @property
    def decode(self) -> DecodeSpec:
        """What is stored of every modality."""
        return decode_spec_from_dict(self.samples.spec["decode"])

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
    num_threads: int = 1,
) -> LabelPlan:
    """Open the stores of a pass, and check on the driver that its teachers fit what is stored.

    Args:
        root: Folder of the run.
        manifest: The manifest of the run.
        source: Specification of the source, with ``_target_``.
        decode: Plain decode specification of every modality.
        teachers: Specifications of the teachers, with ``_target_``; none only decodes.
        max_bad_fraction: Share of unreadable samples above which the pass stops.
        num_threads: Threads per worker.

    Raises:
        StoreError: A teacher needs more than is stored, or a store was made from something else.
    """
    samples = samples_store(root, decode)
    plans = []
    for spec in teachers:
        teacher: Teacher = build(spec)
        check_needs(teacher, decode_spec_from_dict(decode))
        labels = labels_store(root, decode, teacher=teacher, label_space=manifest.label_space)
        plans.append(TeacherPlan(spec, teacher.fingerprint(), labels))
    return LabelPlan(root, manifest, source, samples, tuple(plans), max_bad_fraction, num_threads)


def samples_store(root: Root, decode: Mapping[str, Mapping[str, Any]]) -> UnitStore:
    """Open or begin the store of the samples of a decode specification.

    Args:
        root: Folder of the run.
        decode: Plain decode specification of every modality.
    """
    plain = decode_spec_to_dict(decode_spec_from_dict(decode))
    folder = root.child("samples", fingerprint(plain))
    return UnitStore.open_or_create(folder, spec={"decode": plain}, schema=samples_schema(plain))


def labels_store(
    root: Root,
    decode: Mapping[str, Mapping[str, Any]],
    *,
    teacher: Teacher,
    label_space: LabelSpace,
) -> UnitStore:
    """Open or begin the store of a teacher's logits on the samples of a decode specification.

    Args:
        root: Folder of the run.
        decode: Plain decode specification of every modality.
        teacher: The teacher.
        label_space: The classes of its logits.
    """
    plain = decode_spec_to_dict(decode_spec_from_dict(decode))
    spec = {
        "samples": fingerprint(plain),
        "teacher": teacher.fingerprint(),
        "modality": teacher.modality,
        "label_space": label_space.to_dict(),
    }
    folder = root.child("labels", fingerprint(spec))
    return UnitStore.open_or_create(folder, spec=spec, schema=LABELS_SCHEMA)
