"""The select part of the probe where labels are dense: some pixels of every sample."""

# N pixels of all samples, M witnesses, K further teachers, C classes.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.dense import DenseForm, Packed, mask_rows, packed_rows
from mke_ray.labels.dense_pixels import form_of_answers, from_stored, pixel_logs
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.sample_reader import SampleReader
from mke_ray.labels.store import UnitStore
from mke_ray.schema import IGNORE, MASK, MaskSpec, Split, decode_spec_from_dict

MOST_PIXELS = 200_000  # of the whole part; more say nothing new of a few numbers

_SEED = 0


@dataclass(frozen=True, slots=True)
class _Some:
    """Pixels of one sample.

    Args:
        unit: Its unit.
        row: Its row in the unit.
        group: Its group.
        pixels: Where they are, row after row of the class map.
    """

    unit: str
    row: int
    group: str
    pixels: NDArray


@dataclass(frozen=True, slots=True)
class SelectPixels:
    """The labelled pixels by which temperature and exponents are chosen; see ``SelectPart``.

    Args:
        samples: Which they are.
        form: The form of the teacher's labels.
        truth_NC: Whether each pixel is of each class.
        teacher_NC: Log-probabilities of the teacher.
        further_KNC: Log-probabilities of the further teachers, NaN where one has none.
    """

    samples: list[_Some]
    form: DenseForm
    truth_NC: NDArray
    teacher_NC: NDArray
    further_KNC: NDArray

    def __len__(self) -> int:
        """Return the number of samples, not of pixels."""
        return len(self.samples)

    @property
    def groups(self) -> list[str]:
        """Group of every pixel."""
        return [one.group for one in self.samples for _ in one.pixels]

    def said(
        self, store: UnitStore, fit: str, folds: FoldDivision, *, num_witnesses: int, is_own: bool
    ) -> NDArray:
        """Return the log-probabilities of witnesses, those of its own fold for every sample.

        The arguments are those of ``SelectPart.said``.

        Returns:
            [1, M, N, C].
        """
        del folds, is_own  # of the probe, answers of the own fold alone are stored
        form = form_of_answers(store.spec, self.form)
        found = [np.zeros((num_witnesses, 0, form.num_classes))]
        columns: dict[str, list[Any]] = {}
        for one in self.samples:
            if one.unit not in columns:
                columns = {one.unit: store.read(one.unit, columns=[fit]).column(fit).to_pylist()}
            answers = from_stored(columns[one.unit][one.row], num_witnesses)
            found.append(np.stack([pixel_logs(each, form)[one.pixels] for each in answers]))
        return np.concatenate(found, axis=1)[None]


def select_pixels(
    manifest: Manifest,
    labels: UnitStore,
    samples: SampleReader,
    *,
    fraction: float,
    more: Sequence[UnitStore] = (),
) -> SelectPixels:
    """Return pixels of the select part of the probe with the labels of the teachers.

    Of every sample equally many are drawn, at most as many as all together may be.

    Args:
        manifest: The samples.
        labels: The teacher's labels.
        samples: Reads the true class maps.
        fraction: Share of the probe's groups that is the select part.
        more: The labels of the further teachers.
    """
    form = DenseForm.of_spec(labels.spec)
    if form is None:
        raise ValueError(f"{labels.root.uri} holds no dense labels")
    spec = decode_spec_from_dict(samples.samples.spec["decode"])[MASK]
    if not isinstance(spec, MaskSpec):
        raise TypeError(f"{MASK} of {samples.samples.root.uri} is no class map")
    chosen = [
        (ref, rows)
        for ref in manifest.unit_refs([Split.PROBE])
        if (rows := _rows_of(manifest, ref, fraction))
    ]
    at_most = max(1, MOST_PIXELS // max(1, sum(len(rows) for _, rows in chosen)))
    found: list[_Some] = []
    truth, teacher = [np.zeros(0, dtype=int)], [np.zeros((0, form.num_classes))]
    for ref, rows in chosen:
        packed = packed_rows(labels.read(ref.unit))
        table = samples.read(ref.unit, [*samples.small_columns, MASK])
        truth_BHW = mask_rows(table.column(MASK).to_pylist(), spec)
        for row, group in rows:
            label, truth_N = packed[row], truth_BHW[row].ravel()
            pixels = _drawn(truth_N, at_most, seed=[_SEED, ref.row_group, row])
            if label is not None and len(pixels):
                found.append(_Some(ref.unit, row, group, pixels))
                truth.append(truth_N[pixels])
                teacher.append(pixel_logs(label, form)[pixels])
    truth_NC = np.eye(form.num_classes, dtype=bool)[np.concatenate(truth)]
    further = [_logs_at(one, found, form) for one in more]
    further_KNC = np.asarray(further).reshape(len(more), *truth_NC.shape)
    return SelectPixels(found, form, truth_NC, np.concatenate(teacher), further_KNC)


def _logs_at(store: UnitStore, samples: Sequence[_Some], like: DenseForm) -> NDArray:
    """Return the log-probabilities of a label store at some pixels, NaN where it has none [N, C].

    Args:
        store: A label store.
        samples: Where they are.
        like: The form of its labels, if it does not say.
    """
    form = DenseForm.of_spec(store.spec) or like
    found = [np.zeros((0, form.num_classes))]
    packed: dict[str, list[Packed | None]] = {}
    for one in samples:
        if one.unit not in packed:
            packed = {one.unit: packed_rows(store.read(one.unit))}
        found.append(pixel_logs(packed[one.unit][one.row], form)[one.pixels])
    return np.concatenate(found)


def _rows_of(manifest: Manifest, ref: UnitRef, fraction: float) -> list[tuple[int, str]]:
    """Return rows of a unit that are in use, have a class map and are of the select part.

    Each comes with its group.
    """
    return [
        (number, row.group)
        for number, row in enumerate(manifest.read_unit(ref))
        if row.labels is not None
        and not row.mark
        and probe_part(row.group, select_fraction=fraction) == SELECT
    ]


def _drawn(truth_N: NDArray, at_most: int, *, seed: list[int]) -> NDArray:
    """Return pixels that have a true class, some of them where there are more than allowed."""
    pixels = np.flatnonzero(truth_N != IGNORE)
    if len(pixels) <= at_most:
        return pixels
    return np.sort(np.random.default_rng(seed).choice(pixels, at_most, replace=False))
