"""Which rows a fit may use, from the indexes of the stores and, where it must be, the manifest."""

# R rows of a unit, N rows of some units.

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mke_ray.data.manifest import evenly
from mke_ray.errors import StoreError
from mke_ray.labels.counts import marked_rows
from mke_ray.labels.index import NUM_USABLE_CODES, PRESENT_PREFIX, Index
from mke_ray.labels.probe import ProbeDivision
from mke_ray.schema import MASK
from mke_ray.train.blocks import UnitReader
from mke_ray.train.fits import RowSelection
from mke_ray.train.plan import PlanEntry

_UNITS_AT_ONCE = 4096


def usable_entries(
    reader: UnitReader, selections: Sequence[RowSelection], division: ProbeDivision
) -> list[PlanEntry]:
    """Return the rows that some selections may use, from the indexes.

    Only selections with true labels or a part of the probe look into the manifest.

    Args:
        reader: The stores.
        selections: Which rows are wanted.
        division: How the probe is divided.
    """
    entries = []
    for number, selection in enumerate(selections):
        usable = dict(_usable_units(reader, selection))
        if selection.targets == "true" or selection.part is not None:
            _leave_known(reader, usable, selection, division=division)
        entries += [PlanEntry(unit, number, usable_R) for unit, usable_R in usable.items()]
    return entries


def _usable_units(reader: UnitReader, selection: RowSelection) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each unit of a selection and which of its rows may be used, bool [R].

    A row needs a visible modality and, where pseudo-labels are wanted, a label. The rows of a few
    thousand units are looked at together.
    """
    table = _chosen(reader, selection)
    labels = _labels_of(reader, table, selection)
    for start in range(0, table.num_rows, _UNITS_AT_ONCE):
        part = table.slice(start, _UNITS_AT_ONCE)
        usable_N = _shown(reader, part, selection)
        if labels is not None:
            usable_N &= _labelled(reader, part, labels.slice(start, _UNITS_AT_ONCE))
        ends = np.cumsum(part.column("num_rows").to_numpy())
        yield from zip(part.column("unit").to_pylist(), np.split(usable_N, ends[:-1]), strict=True)


def _chosen(reader: UnitReader, selection: RowSelection) -> pa.Table:
    """Return the entries of the units that a selection looks at, sorted by unit."""
    table = _of_split(reader.sample_index, selection.split)
    if selection.most is None:
        return table
    refs = evenly(list(reader.manifest.unit_refs([selection.split])), selection.most)
    return table.filter(pc.field("unit").isin([ref.unit for ref in refs]))


def _of_split(index: Index, split: str) -> pa.Table:
    """Return the entries of a split, sorted by unit."""
    return index.table.filter(pc.field("split") == str(split))


def _labels_of(reader: UnitReader, samples: pa.Table, selection: RowSelection) -> pa.Table | None:
    """Return the entries of the label store for some units of the sample store, in their order."""
    if reader.label_index is None or selection.targets != "pseudo":
        return None
    labels = _of_split(reader.label_index, selection.split)
    if labels.column("unit").equals(samples.column("unit")):
        return labels
    return reader.label_index.select(samples.column("unit").to_pylist()).table


def _shown(reader: UnitReader, samples: pa.Table, selection: RowSelection) -> np.ndarray:
    """Return which rows of some units can be read and have a visible modality, bool [N].

    Of dense labels, where true ones are wanted, the class map must have been read too.
    """
    shown_N = np.zeros(int(np.sum(samples.column("num_rows").to_numpy())), dtype=bool)
    for name in reader.decode:
        if not selection.modalities or name in selection.modalities:
            shown_N |= _codes(samples, PRESENT_PREFIX + name) == 1
    if selection.targets == "true" and reader.targets.is_dense:
        shown_N &= _codes(samples, PRESENT_PREFIX + MASK) == 1
    return shown_N & (_codes(samples, "status") < NUM_USABLE_CODES) & ~_marked(reader, samples)


def _marked(reader: UnitReader, samples: pa.Table) -> np.ndarray:
    """Return which rows of some units must not be used, as the manifest says, bool [N]."""
    ends = np.cumsum(samples.column("num_rows").to_numpy())
    marked_N = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=bool)
    end_of = dict(zip(samples.column("unit").to_pylist(), ends.tolist(), strict=True))
    for unit, marked_R in marked_rows(reader.manifest, end_of):
        marked_N[end_of[unit] - len(marked_R) : end_of[unit]] = marked_R
    return marked_N


def _labelled(reader: UnitReader, samples: pa.Table, labels: pa.Table) -> np.ndarray:
    """Return which rows of some units have a pseudo-label, bool [N].

    Raises:
        StoreError: The two stores have units of other sizes.
    """
    if not labels.column("num_rows").equals(samples.column("num_rows")):
        raise StoreError(
            f"units of {reader.samples.root.uri} have other numbers of rows than in the label "
            "store; labels were written for another manifest, write them again"
        )
    labelled_N = _codes(labels, "status") < NUM_USABLE_CODES
    if reader.teacher_modality is not None:
        labelled_N &= _codes(samples, PRESENT_PREFIX + reader.teacher_modality) == 1
    return labelled_N


def _codes(table: pa.Table, column: str) -> np.ndarray:
    """Return the byte of each row of some units, one unit after the other, uint8 [N].

    Raises:
        StoreError: The store has no such column, so it was made without that modality.
    """
    if column not in table.column_names:
        raise StoreError(
            f"the sample store knows nothing of {column.removeprefix(PRESENT_PREFIX)!r}; it has "
            f"{table.column_names}"
        )
    return np.frombuffer(b"".join(table.column(column).to_pylist()), np.uint8)


def _leave_known(
    reader: UnitReader,
    usable: dict[str, np.ndarray],
    selection: RowSelection,
    *,
    division: ProbeDivision,
) -> None:
    """Take the rows away of which the manifest does not know what is wanted, part after part."""
    refs = [reader.manifest_ref(unit) for unit, usable_R in usable.items() if usable_R.any()]
    for ref in sorted(refs, key=lambda one: (one.part, one.row_group)):
        known_R = _known(reader, ref.unit, selection, division=division)
        usable[ref.unit] = usable[ref.unit] & known_R


def _known(
    reader: UnitReader, unit: str, selection: RowSelection, *, division: ProbeDivision
) -> np.ndarray:
    """Return which rows of a unit have true labels and are in the part wanted, bool [R]."""
    known = []
    for row in reader.manifest_rows(unit):
        has_label = selection.targets != "true" or reader.targets.is_known(row)
        part = selection.part and division.part_of(row.group)
        known.append(has_label and part == selection.part)
    return np.asarray(known, dtype=bool)
