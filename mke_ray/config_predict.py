"""What the jobs can be told that put a student to use: predict and export."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from mke_ray.config_schema import LabellingConfig, RayConfig, StorageConfig


@dataclass
class StudentFilesConfig:
    """Where an exported student lies.

    Args:
        path: Folder of the student (``student/`` of a run), here or in an object store.
        classes: The user's own encoders and fusions that the student is made of, as
            ``package.Class``; no class is ever found by a name that was read from its files.
        options: Options of the file system of the path; credentials belong in the environment.
    """

    path: str = "???"
    classes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class PredictConfig:
    """What ``jobs/predict.py`` can be told.

    Args:
        name: Name of the run, in its lease and its metrics.
        root: Folder or object-store URI that holds all that the run writes, one for each student
            and source.
        student: The student.
        source: The videos or tables, and how they are listed; classes that are missing are those of
            the student.
        labelling: How the pass is carried out, as in ``jobs/label.py``.
        explain: Say of every answer what each modality does to it.
        samples: ``on`` keeps decoded samples, for further students of the same arrays.
        seed: Seed of a source that makes its own data.
        data_seed: The same.
        retry: ``io`` reads samples again that a store did not give, ``[io, timeout]`` also bad ones
            of that reason.
        refresh: Look at the source again for new, changed and deleted files.
        accept_loss: Go on although much of what an earlier run listed is gone from the source.
        verify: Prove that every row is stored exactly once, row by row and by digests.
        dry_run: Read two samples, answer them, and write nothing.
        verbose: Show the log lines of Ray too.
        allow_targets: Packages outside ``mke_ray`` whose classes ``_target_`` may name.
        storage: How the root is reached and guarded.
        ray: Where Ray runs.
    """

    filled_in_later: ClassVar[tuple[str, ...]] = ("source.classes",)

    name: str = "predict"
    root: str = "???"
    student: StudentFilesConfig = field(default_factory=StudentFilesConfig)
    source: dict[str, Any] = field(default_factory=dict)
    labelling: LabellingConfig = field(default_factory=LabellingConfig)
    explain: bool = False
    samples: bool = False
    seed: int = 0
    data_seed: int = "${seed}"  # type: ignore[assignment]
    retry: Any = None
    refresh: bool = True
    accept_loss: bool = False
    verify: bool = False
    dry_run: bool = False
    verbose: bool = False
    allow_targets: list[str] = field(default_factory=list)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)


@dataclass
class ExportConfig:
    """What ``jobs/export.py`` can be told.

    Args:
        root: Root of a run, or the folder of an exported student.
        format: ``onnx``, or ``torch`` for a file of torch.export.
        classes: The user's own encoders and fusions that the student is made of.
        verbose: Log more.
        storage: How the root is reached.
    """

    root: str = "???"
    format: str = "onnx"
    classes: list[str] = field(default_factory=list)
    verbose: bool = False
    storage: StorageConfig = field(default_factory=StorageConfig)
