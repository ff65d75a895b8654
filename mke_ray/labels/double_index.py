"""Finds the references that samples may be copies of: by equal bands of hashes, exactly checked."""

# R references, Q samples asked about, P pairs, E entries (a row under one of its bands), K words.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mke_ray.data.likeness import BY_COST, Signatures, copies

_TAG_SHIFT = np.uint64(56)
_DIGEST_TAG = 255
_BAND_BITS = 16
_PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Matches:
    """Samples and the reference that each is a copy of, the most alike where there are several.

    Args:
        query_P: Number of the sample [P], ascending, each once.
        reference_P: Number of the reference [P].
        distance_P: How unlike they are [P], 0 for equal content.
    """

    query_P: np.ndarray
    reference_P: np.ndarray
    distance_P: np.ndarray


class ReferenceIndex:
    """A small set of samples in memory, against which many others are held.

    Two samples can only be copies if they are alike in the modality that is cheapest to compare
    of those that both have, so that its bands alone are looked up; what shares a band is compared
    in full.

    Args:
        signatures: Per modality the signatures of the references.
    """

    def __init__(self, signatures: Mapping[str, Signatures]) -> None:
        self._modalities = sorted(signatures, key=lambda one: BY_COST.index(signatures[one].kind))
        mask_R = self._mask(signatures)
        self._groups = [
            _Group(int(mask), np.flatnonzero(mask_R == mask), signatures)
            for mask in np.unique(mask_R)
            if mask
        ]

    def find(self, samples: Mapping[str, Signatures]) -> Matches:
        """Return which samples are copies of a reference.

        Args:
            samples: Per modality the signatures of the samples, of the same modalities.
        """
        found = [
            pairs
            for mask_Q in [self._mask(samples)]
            for mask in np.unique(mask_Q)
            for group in self._groups
            if (modality := self._first_common(int(mask), group.mask)) is not None
            for pairs in group.find(modality, samples, np.flatnonzero(mask_Q == mask))
        ]
        if not found:
            return Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        query_P, reference_P, distance_P = (
            np.concatenate(some) for some in zip(*found, strict=True)
        )
        order_P = np.lexsort((reference_P, distance_P, query_P))
        first_P = order_P[np.unique(query_P[order_P], return_index=True)[1]]
        return Matches(query_P[first_P], reference_P[first_P], distance_P[first_P])

    def _mask(self, signatures: Mapping[str, Signatures]) -> np.ndarray:
        """Return which modalities each sample has a signature of, as bits."""
        bits = [
            signatures[one].has_N.astype(np.int64) << k for k, one in enumerate(self._modalities)
        ]
        return np.bitwise_or.reduce(bits)

    def _first_common(self, mask: int, other: int) -> str | None:
        """Return the cheapest modality that both have, None where they have none in common."""
        common = mask & other
        return self._modalities[(common & -common).bit_length() - 1] if common else None


@dataclass(slots=True)
class _Group:
    """References that have signatures of the same modalities.

    Args:
        mask: Which modalities, as bits.
        row_R: Their numbers.
        signatures: Per modality the signatures of all references.
    """

    mask: int
    row_R: np.ndarray
    signatures: Mapping[str, Signatures]
    _bands: dict[str, "_Bands"] | None = None

    def find(
        self, modality: str, samples: Mapping[str, Signatures], row_Q: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield copies among some samples: the sample, the reference, how unlike they are."""
        self._bands = self._bands or {}
        if modality not in self._bands:
            self._bands[modality] = _Bands(self.signatures[modality].take(self.row_R))
        candidates = self._bands[modality].candidates(samples[modality].take(row_Q))
        for asked_P, known_P in candidates:
            query_P, reference_P = row_Q[asked_P], self.row_R[known_P]
            distance_P = copies(samples, self.signatures, (query_P, reference_P))
            is_copy_P = np.isfinite(distance_P)
            yield query_P[is_copy_P], reference_P[is_copy_P], distance_P[is_copy_P]


class _Bands:
    """References by the bands of their hashes, sorted.

    Args:
        references: Their signatures of one modality.
    """

    def __init__(self, references: Signatures) -> None:
        row_E, key_E = _entries(references)
        order_E = np.argsort(key_E, kind="stable")
        self._row_E, self._key_E = row_E[order_E], key_E[order_E]
        self._num_references = len(references)

    def candidates(self, samples: Signatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pairs of a sample and a reference that share a band, each pair once."""
        row_E, key_E = _entries(samples)
        begin_E = np.searchsorted(self._key_E, key_E, side="left")
        num_E = np.searchsorted(self._key_E, key_E, side="right") - begin_E
        block_E = np.cumsum(num_E) // _PAIRS_AT_ONCE
        # A sample whose bands lie in two blocks may meet a reference twice, which does no harm.
        for block in np.unique(block_E[num_E > 0]):
            some_E = np.flatnonzero((block_E == block) & (num_E > 0))
            num_P = num_E[some_E]
            offset_P = np.arange(num_P.sum()) - np.repeat(np.cumsum(num_P) - num_P, num_P)
            known_P = self._row_E[np.repeat(begin_E[some_E], num_P) + offset_P]
            asked_P = np.repeat(row_E[some_E], num_P)
            pair_P = np.unique(asked_P * self._num_references + known_P)
            yield np.divmod(pair_P, self._num_references)


def _entries(signatures: Signatures) -> tuple[np.ndarray, np.ndarray]:
    """Return every row under its digest and each of its bands, by row: rows [E], keys [E].

    Bands of pictures are of one frame each; sound may begin earlier or later, so that a band of
    it is the same wherever it occurs.
    """
    has_N = np.flatnonzero(signatures.has_N)
    digest_N1 = _tagged(signatures.digest_N[has_N, None], _DIGEST_TAG)
    words_NK = signatures.words_NK[has_N]
    num_bands = words_NK.dtype.itemsize * 8 // _BAND_BITS
    bands_NE = np.ascontiguousarray(words_NK).view("<u2").astype(np.uint64)
    number_E = np.arange(bands_NE.shape[1])
    tag_E = number_E % num_bands if signatures.kind == "audio" else number_E
    key_NE = np.concatenate([_tagged(bands_NE, tag_E), digest_N1], axis=1)
    is_said_NE = np.repeat(words_NK != 0, num_bands, axis=1)
    is_said_NE = np.concatenate([is_said_NE, np.ones((len(has_N), 1), bool)], axis=1)
    row_NE = np.broadcast_to(has_N[:, None], key_NE.shape)
    return row_NE[is_said_NE], key_NE[is_said_NE]


def _tagged(value_E: np.ndarray, tag_E: np.ndarray | int) -> np.ndarray:
    """Return keys that differ wherever the tags do."""
    low_E = value_E & np.uint64((1 << 56) - 1)
    return low_E | (np.asarray(tag_E, np.uint64) << _TAG_SHIFT)
