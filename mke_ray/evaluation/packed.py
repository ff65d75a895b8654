"""What networks say of every pixel, with its probabilities, in the form that dense labels have."""

# B samples, M modalities, F folds, C classes, H height, W width.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mke_ray.batching import batched
from mke_ray.data.manifest import Manifest
from mke_ray.labels.dense import DenseForm, Packed
from mke_ray.labels.dense_pixels import PACKED_TYPE, as_stored
from mke_ray.labels.folds import FoldDivision
from mke_ray.models.student import Network
from mke_ray.models.witness import WitnessBank
from mke_ray.schema import ManifestRow, Split

_BYTES_AT_ONCE = 256 << 20  # of logits


@dataclass(frozen=True, slots=True)
class Packing:
    """How the answers of networks are kept.

    Args:
        form: The form of the label of a sample.
        manifest: Says the group of every sample.
        folds: Which fold a group is of, for the networks of a ``WitnessBank``.
    """

    form: DenseForm
    manifest: Manifest
    folds: FoldDivision | None = None


def packed_answers(
    student: Network,
    arrays: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    rows: Sequence[ManifestRow],
    packing: Packing,
    device: torch.device,
) -> pa.Array:
    """Return what a network says of every sample: a list of one, or of one for each modality.

    Of a bank of witnesses, an unlabeled sample and one of the probe is judged by the networks of
    its own fold, which have not seen it; one of the test set, new to all, by their mean.

    Args:
        student: In evaluation mode, on the device.
        arrays: Per modality the array [B, H, W, ...].
        present: Per modality whether each row has it [B].
        rows: The samples in the manifest.
        packing: How answers are kept.
        device: Device to compute on.

    Returns:
        Of ``PACKED_TYPE``, null where nothing was seen, with null elements where a witness saw
        nothing.
    """
    packed: list[list[Packed | None] | None] = [None] * len(rows)
    for network, chosen in _judges(student, rows, packing):
        one_bytes = 4 * math.prod((*_num_answers(network), *packing.form.logits_shape))
        for some in batched(chosen, max(1, _BYTES_AT_ONCE // one_bytes)):
            said = _asked(network, arrays, present, some, form=packing.form, device=device)
            for row, one in zip(some, said, strict=True):
                packed[row] = one
    return pa.array([as_stored(one) for one in packed], type=PACKED_TYPE)


def _judges(
    student: Network, rows: Sequence[ManifestRow], packing: Packing
) -> list[tuple[Network, list[int]]]:
    """Return networks and the rows that each is asked of."""
    everything = list(range(len(rows)))
    if not isinstance(student, WitnessBank) or packing.folds is None:
        return [(student, everything)]
    own = {row: packing.folds.fold_of(rows[row].group) for row in everything if _is_own(rows[row])}
    judges: list[tuple[Network, list[int]]] = [
        (student.of_fold(fold), [row for row, mine in own.items() if mine == fold])
        for fold in range(packing.folds.num_folds)
    ]
    return [*judges, (student, [row for row in everything if row not in own])]


def _is_own(row: ManifestRow) -> bool:
    """Return whether a sample is judged by its own fold."""
    return row.split in (Split.UNLABELED, Split.PROBE)


@torch.inference_mode()
def _asked(
    network: Network,
    arrays: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    rows: Sequence[int],
    *,
    form: DenseForm,
    device: torch.device,
) -> list[list[Packed | None] | None]:
    """Return the packed answers of one network, or of the mean of the folds of a bank."""
    mine = [name for name in network.modalities if name in arrays]
    chosen = torch.as_tensor(rows)
    has = {name: present[name][chosen].to(device) for name in mine}
    logits = network({name: arrays[name][chosen].to(device) for name in mine}, has)
    logits_BMFCHW = logits.float().unflatten(1, (*_num_answers(network), form.num_classes))
    logs_BMCHW = torch.log_softmax(logits_BMFCHW, dim=3).mean(dim=2).cpu().numpy()
    seen_B = torch.stack(list(has.values())).any(dim=0).tolist()
    return [
        [None if np.isnan(one_CHW).any() else form.pack(one_CHW) for one_CHW in logs_MCHW]
        if seen
        else None
        for logs_MCHW, seen in zip(logs_BMCHW, seen_B, strict=True)
    ]


def _num_answers(network: Network) -> tuple[int, int]:
    """Return how many answers of a network are kept, and of how many folds each is the mean."""
    if isinstance(network, WitnessBank):
        return len(network.modalities), network.num_folds
    return 1, 1
