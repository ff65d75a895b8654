"""One teacher of a pass in a worker: what it reads of stored samples, and its logits."""

# B samples, C classes, X any; of dense labels logits are [B, C, H, W].

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from mke_ray.config import build
from mke_ray.data.codec import decode_modality, empty_modality
from mke_ray.data.manifest import UnitRef
from mke_ray.errors import StoreError
from mke_ray.labels.dense import DenseForm, dense_columns
from mke_ray.labels.sample_reader import PRESENT
from mke_ray.models.teachers import ManyTeacher, Teacher
from mke_ray.schema import DecodeSpec, Status

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan, TeacherPlan


@dataclass(frozen=True, slots=True)
class Shown:
    """What a teacher is shown of some samples.

    Args:
        arrays: Per modality that it reads the arrays as they are stored [B, ...].
        present: Per modality whether each sample has it [B], bool.
    """

    arrays: dict[str, np.ndarray]
    present: dict[str, np.ndarray]


class Teaching:
    """One teacher at work; it is built once, when needed.

    Several units may be unpacked and labelled at once, each in a thread of its own; the locks let
    one of them be unpacked and one be with the teacher.

    Args:
        plan: The whole pass.
        teacher: Its teacher.
        unpacking: Lock around the unpacking of stored samples.
        predicting: Lock around what teachers compute.
    """

    def __init__(
        self,
        plan: "LabelPlan",
        teacher: "TeacherPlan",
        *,
        unpacking: threading.Lock,
        predicting: threading.Lock,
    ) -> None:
        self.teacher = teacher
        self.unpacking = unpacking
        self.predicting = predicting
        self._plan = plan
        self._decode: DecodeSpec = {name: plan.decode[name] for name in teacher.modalities}
        self._form = DenseForm.of_spec(teacher.labels.spec)
        self._built: Teacher | ManyTeacher | None = None

    def present(self, samples: pa.Table) -> list[int]:
        """Return the rows of a unit that have a modality of the teacher."""
        has_MB = [self._has(samples, name) for name in self.teacher.modalities]
        return [row for row, has_M in enumerate(zip(*has_MB, strict=True)) if any(has_M)]

    def unpacked(self, samples: pa.Table, rows: list[int]) -> Shown | None:
        """Return the arrays of some rows as they are stored; None for no rows."""
        if not rows:
            return None
        present = {name: np.array(self._has(samples, name))[rows] for name in self._decode}
        arrays = {
            name: self._arrays(samples.column(name), rows, present[name], name)
            for name in self._decode
        }
        return Shown(arrays, present)

    def predicted(self, shown: Shown | None) -> np.ndarray:
        """Return float32 logits of one unit, the whole unit as one batch.

        Returns:
            [B, C]; of dense labels [B, C, H, W].

        Raises:
            StoreError: The teacher is another than on the driver.
        """
        teacher = self._teacher()
        if shown is None:
            return np.zeros((0, *self._shape), np.float32)
        with self.teacher.computing.running():
            logits_BC = torch.as_tensor(
                teacher.predict(shown.arrays, shown.present)
                if isinstance(teacher, ManyTeacher)
                else teacher.predict(shown.arrays[teacher.modality])
            )
        return logits_BC.to(device="cpu", dtype=torch.float32).numpy()

    def table(
        self, ref: UnitRef, samples: pa.Table, rows: list[int], logits_BC: np.ndarray
    ) -> pa.Table:
        """Return the labels of a unit, null where all that the teacher reads is missing.

        Raises:
            StoreError: They are of another shape than the classes, or not finite.
        """
        self._check_logits(ref, logits_BC, rows)
        status = samples.column("status").to_pylist()
        logits: list[np.ndarray | None] = [None] * len(status)
        for row, logits_C in zip(rows, logits_BC, strict=True):
            logits[row], status[row] = logits_C, str(Status.OK)
        kept = {"sample_id": samples.column("sample_id"), "status": status}
        if self._form is None:
            said = {"logits": logits}
        else:
            pack = self._form.pack
            said = dense_columns([None if one is None else pack(one) for one in logits])
        return pa.table({**kept, **said}, schema=self.teacher.labels.schema)

    @property
    def _shape(self) -> tuple[int, ...]:
        """Shape of the logits of a sample."""
        if self.teacher.num_answers is not None:
            return (self.teacher.num_answers,)
        return self._form.logits_shape if self._form else (self._plan.label_space.num_classes,)

    @staticmethod
    def _has(samples: pa.Table, modality: str) -> list[bool]:
        """Return whether each row of a unit has a modality."""
        return [one == PRESENT for one in samples.column(f"{modality}_status").to_pylist()]

    def _arrays(
        self, column: pa.ChunkedArray, rows: list[int], has_B: np.ndarray, modality: str
    ) -> np.ndarray:
        """Return the arrays of a modality of some rows [B, ...], empty where one lacks it."""
        spec, num_threads = self._decode[modality], self._plan.threads_of_teachers

        def one(place: int) -> np.ndarray:
            pieces = column[rows[place]].as_py() if has_B[place] else None
            return empty_modality(spec) if pieces is None else decode_modality(pieces, spec)

        places = range(len(rows))
        if num_threads == 1:
            return np.stack([one(place) for place in places])
        with ThreadPoolExecutor(num_threads) as pool:
            return np.stack(list(pool.map(one, places)))

    def _teacher(self) -> Teacher | ManyTeacher:
        """Return the teacher, built once, and the same that the driver saw."""
        if self._built is None:
            plan = self.teacher
            teacher: Teacher | ManyTeacher = build(plan.spec)
            if teacher.fingerprint() != plan.fingerprint:
                raise StoreError(
                    f"the teacher {plan.spec.get('_target_')} has fingerprint "
                    f"{teacher.fingerprint()} on this worker and {plan.fingerprint} on the "
                    "driver; give all nodes the same weights"
                )
            plan.computing.prepare(teacher)
            self._built = teacher
        return self._built

    def _check_logits(self, ref: UnitRef, logits_BC: np.ndarray, rows: list[int]) -> None:
        """Refuse logits of another shape, or that are not finite."""
        wanted = (len(rows), *self._shape)
        if logits_BC.shape != wanted:
            raise StoreError(
                f"the teacher gave logits of shape {logits_BC.shape} for unit {ref.unit}, "
                f"expected {wanted}: its classes are not those of the source, "
                f"{list(self._plan.label_space.classes)}"
                + (", or not one for each stored pixel" if self._form else "")
            )
        flat_BX = logits_BC.reshape(len(rows), math.prod(self._shape))
        is_finite_B = np.isfinite(flat_BX).all(axis=1)
        if not is_finite_B.all():
            place = int(np.flatnonzero(~is_finite_B)[0])
            key = self._plan.manifest.read_unit(ref)[rows[place]].key
            raise StoreError(
                f"the teacher gave logits that are not finite for {int((~is_finite_B).sum())} of "
                f"{len(rows)} samples of unit {ref.unit}, for example {key}: "
                f"{_some_of(flat_BX[place])}; look at its predict and its weights"
            )


def _some_of(logits_X: np.ndarray) -> list[float]:
    """Return the first logits of a sample, from the first that is not finite on if it is dense."""
    first = int(np.flatnonzero(~np.isfinite(logits_X))[0])
    return logits_X[first if first >= 5 else 0 :][:5].tolist()
