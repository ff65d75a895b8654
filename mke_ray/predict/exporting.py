"""jobs/export.py: an exported student as a file that other runtimes read, beside its own files."""

import logging
from collections.abc import Mapping, Sequence

from mke_ray.config import find_class
from mke_ray.config_predict import ExportConfig
from mke_ray.errors import StoreError
from mke_ray.models.exporting import exported
from mke_ray.models.weights import SPEC_NAME, load_student
from mke_ray.storage import Root, open_root

logger = logging.getLogger(__name__)

STUDENT_FOLDER = "student"


def export(jobs: Sequence[ExportConfig]) -> None:
    """Write the students of some roots in the formats asked for."""
    for job in jobs:
        root = open_root(job.root, job.storage.options, patience_s=job.storage.patience_s)
        folder = folder_of_student(root)
        classes = {target: find_class(target) for target in job.classes}
        for name in export_student(folder, format=job.format, classes=classes):
            logger.info("wrote %s, compared with the student", f"{folder.uri}/{name}")


def export_student(
    path: str | Root, *, format: str = "onnx", classes: Mapping[str, type] | None = None
) -> list[str]:
    """Write a student in another format into its folder.

    Args:
        path: Folder of the student.
        format: ``onnx`` or ``torch`` (torch.export).
        classes: The user's own encoders and fusions, see ``load_student``.

    Returns:
        Names of the files, the network first.

    Raises:
        ConfigError: The network cannot be written in the format, or does not compute the same.
        StoreError: The folder holds no whole student.
    """
    root = path if isinstance(path, Root) else open_root(str(path))
    files = exported(load_student(root, classes=classes), format=format)
    for name, content in files.items():
        root.write(name, content)
    return list(files)


def folder_of_student(root: Root) -> Root:
    """Return the folder of the student of a run, or the folder itself where it is one.

    Raises:
        StoreError: There is none.
    """
    for folder in (root, root.child(STUDENT_FOLDER)):
        if folder.exists(SPEC_NAME):
            return folder
    raise StoreError(
        f"root={root.uri} holds no exported student ({SPEC_NAME}): a run leaves one below "
        f"{STUDENT_FOLDER}/ where its gate promotes the student; correct root, or see report/"
    )
