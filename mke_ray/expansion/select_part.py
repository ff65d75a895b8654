"""The select part of the probe: what is known of it, and what networks say of it."""

# B rows of a unit, N samples of the part, M witnesses, K further teachers, F folds, C classes.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.derivations import unflattened
from mke_ray.labels.derived import logits_of
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, Split


@dataclass(frozen=True, slots=True)
class SelectPart:
    """The labelled samples by which temperature and exponents are chosen.

    Args:
        refs: Units that hold any; they may hold rows of the gate part too.
        rows: Per unit the rows that count.
        groups: Group of every sample.
        truth_NC: Whether each sample is of each class.
        teacher_NC: Logits of the teacher.
        further_KNC: Logits of the further teachers, NaN where one has none.
    """

    refs: list[UnitRef]
    rows: dict[str, list[int]]
    groups: list[str]
    truth_NC: NDArray
    teacher_NC: NDArray
    further_KNC: NDArray

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.truth_NC)

    def said(
        self, store: UnitStore, fit: str, folds: FoldDivision, *, num_witnesses: int, is_own: bool
    ) -> NDArray:
        """Return what witnesses say of the samples, NaN where they saw nothing.

        Args:
            store: Store of what networks said.
            fit: The column of the witnesses.
            folds: The folds.
            num_witnesses: Number of witnesses M.
            is_own: Whether they learnt from these samples too, so that only the network of the
                own fold of each counts.

        Returns:
            [F, M, N, C]; [1, M, N, C] where only the own fold counts.
        """
        num_classes = self.truth_NC.shape[1]
        width = num_witnesses * folds.num_folds * num_classes
        found = [np.zeros((0, width))]
        for ref in self.refs:
            table = store.read(ref.unit, columns=["sample_id", fit])
            said_BX = logits_of(table, fit, width)
            found.append(said_BX[self.rows[ref.unit]])
        of_folds_MFNC = unflattened(np.concatenate(found), folds.num_folds, num_classes)
        if not is_own:
            return of_folds_MFNC.transpose(1, 0, 2, 3)
        fold_N = np.asarray([folds.fold_of(group) for group in self.groups], dtype=int)
        return of_folds_MFNC[:, fold_N, np.arange(len(self))][None]


def select_part(
    manifest: Manifest, labels: UnitStore, *, fraction: float, more: Sequence[UnitStore] = ()
) -> SelectPart:
    """Return the select part of the probe with the logits of the teachers.

    Args:
        manifest: The samples.
        labels: The teacher's labels.
        fraction: Share of the probe's groups that is the select part.
        more: The labels of the further teachers.
    """
    space = manifest.label_space
    refs: list[UnitRef] = []
    rows: dict[str, list[int]] = {}
    groups: list[str] = []
    truth = [np.zeros((0, space.num_classes), dtype=bool)]
    logits = [np.zeros((0, space.num_classes))]
    for ref in manifest.unit_refs([Split.PROBE]):
        teacher_BC = logits_of(labels.read(ref.unit), "logits", space.num_classes)
        found = [
            (number, row)
            for number, row in enumerate(manifest.read_unit(ref))
            if _counts(row, space, fraction) and not np.isnan(teacher_BC[number]).any()
        ]
        if found:
            refs.append(ref)
            rows[ref.unit] = [number for number, _ in found]
            groups += [row.group for _, row in found]
            truth.append(np.stack([_truth(row, space) for _, row in found]))
            logits.append(teacher_BC[rows[ref.unit]])
    further = [_logits_in(one, refs, rows, space.num_classes) for one in more]
    further_KNC = np.asarray(further).reshape(len(more), len(groups), space.num_classes)
    truth_NC, teacher_NC = np.concatenate(truth), np.concatenate(logits)
    return SelectPart(refs, rows, groups, truth_NC, teacher_NC, further_KNC)


def _logits_in(
    store: UnitStore, refs: Sequence[UnitRef], rows: Mapping[str, list[int]], num_classes: int
) -> NDArray:
    """Return the logits of a label store in some rows, NaN where it has none [N, C]."""
    found = [np.zeros((0, num_classes))]
    for ref in refs:
        found.append(logits_of(store.read(ref.unit), "logits", num_classes)[rows[ref.unit]])
    return np.concatenate(found)


def _counts(row: ManifestRow, space: LabelSpace, fraction: float) -> bool:
    """Return whether a row of the probe is in use, has a true label and is of the select part."""
    is_known = row.labels is not None if space.kind is LabelKind.MULTI else bool(row.labels)
    is_select = probe_part(row.group, select_fraction=fraction) == SELECT
    return is_known and is_select and not row.mark


def _truth(row: ManifestRow, space: LabelSpace) -> NDArray:
    """Return of which classes a row is [C]."""
    truth_C = np.zeros(space.num_classes, dtype=bool)
    truth_C[list(row.labels or ())] = True
    return truth_C
