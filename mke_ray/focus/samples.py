"""Samples as batches: streamed from a source or from the stores of a run, or all together."""

# B samples, C classes, N samples of a table.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mke_ray.data.codec import decode_modality
from mke_ray.data.manifest import Manifest
from mke_ray.data.manifest.parts import digest_of, manifest_row
from mke_ray.data.sources import Source
from mke_ray.errors import StoreError
from mke_ray.focus.left_out import LeftOut
from mke_ray.labels.rows import decode_row
from mke_ray.labels.sample_reader import keeps_media
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Batch, DecodeSpec, ManifestRow, decode_spec_from_dict, fingerprint
from mke_ray.storage import open_root

ROWS_AT_ONCE = 256

Pieces = Mapping[str, list[bytes]]


def source_batches(
    source: Source,
    decode: DecodeSpec,
    splits: Sequence[str],
    *,
    left_out: LeftOut | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Batch]:
    """Yield the samples of some splits that have all modalities, read from their source.

    Args:
        source: The source, prepared.
        decode: Specification of the modalities.
        splits: Splits to take.
        left_out: Takes note of every sample.
        rows_at_once: Samples that are read for a batch.
    """
    left_out, reader = left_out or LeftOut(), source.reader(decode)
    rows = (manifest_row(one) for one in source.rows() if one.split in splits)
    while some := list(islice(rows, rows_at_once)):
        found = [decode_row(reader, one, decode) for one in some]
        for one in found:
            left_out.note(one.status, {m: one.missing[m] for m in decode if m in one.missing})
        pieces = [one.pieces for one in found]
        batch = _batch(some, pieces, decode, source.label_space.num_classes)
        if batch is not None:
            yield batch


def stored_batches(
    store: UnitStore,
    manifest: Manifest,
    decode: DecodeSpec,
    splits: Sequence[str],
    num_classes: int,
    *,
    left_out: LeftOut | None = None,
) -> Iterator[Batch]:
    """Yield the samples of some splits that have all modalities, from a sample store of a run.

    One unit is in memory at a time.

    Args:
        store: The sample store.
        manifest: The manifest of its run.
        decode: Specification of the modalities.
        splits: Splits to take.
        num_classes: Number of classes C.
        left_out: Takes note of every sample.

    Raises:
        StoreError: The store does not hold these modalities like this.
    """
    check_store(store, decode)
    left_out = left_out or LeftOut()
    columns = ["sample_id", "status", *decode, *(f"{name}_status" for name in decode)]
    for ref in manifest.unit_refs(splits):
        rows = {row.sample_id: row for row in manifest.read_unit(ref) if not row.mark}
        table = store.read(ref.unit, columns=columns)
        found = [one for one in table.to_pylist() if one["sample_id"] in rows]
        for one in found:
            lacking = {name: one[f"{name}_status"] for name in decode if not one[name]}
            left_out.note(one["status"], lacking)
        pieces = [{name: one[name] for name in decode if one[name]} for one in found]
        batch = _batch([rows[one["sample_id"]] for one in found], pieces, decode, num_classes)
        if batch is not None:
            yield batch


def sample_store(folder: str, options: Mapping[str, Any]) -> tuple[UnitStore, Manifest]:
    """Return a sample store of a run and the manifest of the run.

    Args:
        folder: ``ROOT/samples/NAME``.
        options: Options of its file system.

    Raises:
        StoreError: There is none.
    """
    root = open_root(folder.rstrip("/").rsplit("/", 2)[0], options)
    return UnitStore.open(open_root(folder, options)), Manifest.open(root.child("manifest"))


def version_of_rows(source: Source, splits: Sequence[str]) -> str:
    """Return 16 hex digits that change with the rows of some splits of a source.

    Args:
        source: The source, prepared.
        splits: Splits to take.
    """
    rows = (manifest_row(one) for one in source.rows() if one.split in splits)
    return fingerprint([[one.sample_id, digest_of(one)] for one in rows])


def rebatched(batches: Iterable[Batch], num_rows: int) -> Iterator[Batch]:
    """Yield the samples of some batches in batches of a size; the last one may be up to twice it.

    No more than three batches are in memory, however many there are.

    Args:
        batches: Batches of any size.
        num_rows: Samples of a batch.
    """
    held: list[Batch] = []
    for one in batches:
        held.append(one)
        whole = joined(held)
        while whole.num_samples >= 2 * num_rows:
            yield taken(whole, slice(0, num_rows))
            whole = taken(whole, slice(num_rows, None))
        held = [whole]
    if held:
        yield held[0]


def joined(batches: Sequence[Batch]) -> Batch:
    """Return some batches as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        torch.cat([one.sample_id_B for one in batches]),
        {name: torch.cat([one.arrays[name] for one in batches]) for name in batches[0].arrays},
        {name: torch.cat([one.present[name] for one in batches]) for name in batches[0].present},
        torch.cat([one.target_BC for one in batches]),
        torch.cat([one.weight_B for one in batches]),
    )


def taken(batch: Batch, rows: Tensor | slice) -> Batch:
    """Return some rows of a batch."""
    return batch.map(lambda one: one[rows])


def labelled(batch: Batch) -> Batch:
    """Return the rows of a batch whose true class is known."""
    return taken(batch, batch.target_BC.sum(dim=1) > 0)


def check_store(store: UnitStore, decode: DecodeSpec) -> None:
    """Refuse a store of other samples.

    Args:
        store: The sample store.
        decode: Specification of the modalities that are wanted of it.

    Raises:
        StoreError: It lacks a modality, keeps it otherwise, or keeps no media.
    """
    kept = decode_spec_from_dict(store.spec["decode"])
    other = [name for name, one in decode.items() if kept.get(name) != one]
    if other or not keeps_media(store):
        raise StoreError(
            f"focus.samples={store.root.uri}: it does not keep {other or sorted(decode)} as "
            "decode has them; label with the same decode and samples=on, or read the source"
        )


def _batch(
    rows: Sequence[ManifestRow],
    pieces: Sequence[Pieces],
    decode: DecodeSpec,
    num_classes: int,
) -> Batch | None:
    """Return the samples that have all modalities, None where there is none."""
    whole = [number for number, one in enumerate(pieces) if all(name in one for name in decode)]
    if not whole:
        return None
    target_BC = torch.zeros(len(whole), num_classes)
    for place, number in enumerate(whole):
        target_BC[place, list(rows[number].labels or ())] = 1.0
    arrays = {
        name: torch.from_numpy(
            np.stack([decode_modality(pieces[number][name], one) for number in whole])
        )
        for name, one in decode.items()
    }
    has_B = torch.ones(len(whole), dtype=torch.bool)
    ids_B = torch.tensor([rows[number].sample_id for number in whole])
    return Batch(ids_B, arrays, dict.fromkeys(decode, has_B), target_BC, torch.ones(len(whole)))
