"""Whether two samples are copies of one another, told from their signatures."""

# N samples, P pairs, H of them, K words of a signature, Q words that are compared.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.data.signatures import DIGEST_BYTES, WORD_TYPES

# Shares of bits that differ. Measured by benchmarks/doubles.py; see docs/doubles.md.
MAX_PICTURE_DISTANCE = 0.25
MAX_SOUND_DISTANCE = 0.25
ALONE_PICTURE_DISTANCE = 0.08
ALONE_SOUND_DISTANCE = 0.2
# Two clips that are as unlike as this share of what one of them changes by itself are two takes.
ALONE_SHARE_OF_CHANGE = 0.5
# Fewer frames have too few bits for the larger distance, unless the sound is alike as well.
MIN_FRAMES = 4

BY_COST = ("features", "tokens", "depth", "mask", "image", "video", "audio")
_LARGEST = {
    "features": 0.0,
    "tokens": 0.0,
    "depth": 0.0,
    "mask": 0.0,
    "image": MAX_PICTURE_DISTANCE,
    "video": MAX_PICTURE_DISTANCE,
    "audio": MAX_SOUND_DISTANCE,
}

RULES = (
    MAX_PICTURE_DISTANCE,
    MAX_SOUND_DISTANCE,
    ALONE_PICTURE_DISTANCE,
    ALONE_SOUND_DISTANCE,
    ALONE_SHARE_OF_CHANGE,
    MIN_FRAMES,
)

# Sound may begin this many words (of 64 ms) earlier or later.
_MAX_SHIFT = 5
_MIN_SOUND_WORDS = 8
_MIN_WORDS_ALONE = 16


@dataclass(frozen=True, slots=True)
class Signatures:
    """The signatures that some samples have of one modality.

    Args:
        kind: Kind of the modality.
        digest_N: Digest of the exact content [N], uint64.
        words_NK: Perceptual hashes [N, K]; a word 0 says nothing. No columns for features.
        has_N: Whether the sample has a signature at all [N], bool.
    """

    kind: str
    digest_N: np.ndarray
    words_NK: np.ndarray
    has_N: np.ndarray

    @classmethod
    def parse(cls, column: Sequence[bytes | None], kind: str) -> "Signatures":
        """Read a column of signatures.

        Args:
            column: What ``signature`` returned, None where the modality is missing.
            kind: Kind of the modality.
        """
        has_N = np.array([bool(one) for one in column], dtype=bool)
        num_bytes = max((len(one) for one in column if one), default=DIGEST_BYTES)
        filler = bytes(num_bytes)
        joined = b"".join(one or filler for one in column)
        bytes_NX = np.frombuffer(joined, np.uint8).reshape(len(column), num_bytes)
        digest_N = np.ascontiguousarray(bytes_NX[:, :DIGEST_BYTES]).view("<u8")[:, 0]
        word_type = WORD_TYPES[kind] or "<u8"
        words_NK = np.ascontiguousarray(bytes_NX[:, DIGEST_BYTES:]).view(word_type)
        return cls(kind, digest_N, words_NK, has_N)

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.has_N)

    def take(self, row_P: np.ndarray) -> "Signatures":
        """Return some of the samples."""
        return Signatures(self.kind, self.digest_N[row_P], self.words_NK[row_P], self.has_N[row_P])


def copies(
    mine: Mapping[str, Signatures],
    other: Mapping[str, Signatures],
    pairs: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return how unlike the samples of some pairs are, NaN where they are not copies, float32 [P].

    Two samples are copies when every modality that both have a signature of is alike. Bit for bit
    equal content always is; features, tokens and depth have to be equal. Where only one modality
    can be compared it has to be more alike than otherwise: pictures by themselves may be two takes
    before one background. So have single pictures where there is no sound: of 64 bits, a quarter
    differs between many pictures of one thing.

    Args:
        mine: Per modality the signatures of some samples.
        other: Per modality the signatures of some others, of the same modalities.
        pairs: Number of the sample in ``mine`` and of the one in ``other``, of each pair [P].

    Returns:
        The largest share of differing bits over the modalities compared; 0 for equal content.
    """
    num_pairs = len(pairs[0])
    distance_P = np.zeros(num_pairs, np.float32)
    num_compared_P = np.zeros(num_pairs, np.int8)
    is_strict_P = np.ones(num_pairs, dtype=bool)
    alive_P = np.ones(num_pairs, dtype=bool)
    is_heard_P = _is_heard(mine, other, pairs)
    for modality in sorted(mine, key=lambda one: BY_COST.index(mine[one].kind)):
        both_P = mine[modality].has_N[pairs[0]] & other[modality].has_N[pairs[1]]
        here_H = np.flatnonzero(alive_P & both_P)
        one = mine[modality].take(pairs[0][here_H])
        two = other[modality].take(pairs[1][here_H])
        unlike_H, is_strict_H = _compare(one, two)
        distance_P[here_H] = np.maximum(distance_P[here_H], unlike_H)
        num_compared_P[here_H] += 1
        is_strict_P[here_H] &= is_strict_H
        alive_P[here_H] &= unlike_H <= _largest(one, two, is_heard_P[here_H])
    alive_P &= (num_compared_P > 1) | ((num_compared_P == 1) & is_strict_P)
    return np.where(alive_P, distance_P, np.float32(np.nan))


def _is_heard(
    mine: Mapping[str, Signatures],
    other: Mapping[str, Signatures],
    pairs: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return which pairs have sound that can be compared, bool [P]."""
    sounds = [one for one in mine if mine[one].kind == "audio"]
    both = [mine[one].has_N[pairs[0]] & other[one].has_N[pairs[1]] for one in sounds]
    return np.any(both, axis=0) if both else np.zeros(len(pairs[0]), dtype=bool)


def _largest(one: Signatures, two: Signatures, is_heard_P: np.ndarray) -> np.ndarray:
    """Return how unlike the pairs may be in a modality, beside others that are alike [P]."""
    largest = _LARGEST[one.kind]
    if largest != MAX_PICTURE_DISTANCE or one.kind == "audio":
        return np.full(len(one), largest)
    num_said_P = ((one.words_NK | two.words_NK) != 0).sum(axis=1)
    is_short_P = (num_said_P < MIN_FRAMES) & ~is_heard_P
    return np.where(is_short_P, ALONE_PICTURE_DISTANCE, largest)


def picture_distance(mine_PK: np.ndarray, other_PK: np.ndarray) -> np.ndarray:
    """Return the share of differing bits over the frames, float32 [P]; 1 where all are flat."""
    said_PK = (mine_PK | other_PK) != 0
    return _mean_bits(mine_PK ^ other_PK, said_PK, num_bits=64, least=1)


def change(words_PK: np.ndarray) -> np.ndarray:
    """Return the share of bits that differ from one frame of a clip to the next, float32 [P]."""
    if words_PK.shape[1] < 2:
        return np.zeros(len(words_PK), np.float32)
    before_PQ, after_PQ = words_PK[:, :-1], words_PK[:, 1:]
    said_PQ = (before_PQ != 0) & (after_PQ != 0)
    changed_P = _mean_bits(before_PQ ^ after_PQ, said_PQ, num_bits=64, least=1)
    return np.where(said_PQ.any(axis=1), changed_P, np.float32(0))


def sound_distance(
    mine_PK: np.ndarray, other_PK: np.ndarray, *, min_words: int = _MIN_SOUND_WORDS
) -> np.ndarray:
    """Return the share of differing bits where two sounds fit best, float32 [P]; 1 if too short.

    Args:
        mine_PK: Words of the first of each pair.
        other_PK: Words of the second.
        min_words: Words with sound that have to overlap.
    """
    num_words = mine_PK.shape[1]
    best_P = np.ones(len(mine_PK), np.float32)
    for shift in range(-_MAX_SHIFT, _MAX_SHIFT + 1):
        if abs(shift) >= num_words:
            continue
        mine_PQ = mine_PK[:, max(shift, 0) : num_words + min(shift, 0)]
        other_PQ = other_PK[:, max(-shift, 0) : num_words - max(shift, 0)]
        said_PQ = (mine_PQ | other_PQ) != 0
        here_P = _mean_bits(mine_PQ ^ other_PQ, said_PQ, num_bits=32, least=min_words)
        np.minimum(best_P, here_P, out=best_P)
    return best_P


def _compare(one: Signatures, two: Signatures) -> tuple[np.ndarray, np.ndarray]:
    """Return how unlike pairs are in a modality, and which are alike enough by it alone, [P]."""
    is_equal_P = one.digest_N == two.digest_N
    unlike_P, alone_P = np.ones(len(one), np.float32), np.zeros(len(one))
    if one.kind == "audio":
        unlike_P = sound_distance(one.words_NK, two.words_NK)
        num_P = np.minimum(*(np.count_nonzero(some.words_NK, axis=1) for some in (one, two)))
        alone_P = np.where(num_P < _MIN_WORDS_ALONE, 0.0, ALONE_SOUND_DISTANCE)
    elif WORD_TYPES[one.kind] is not None:
        unlike_P = picture_distance(one.words_NK, two.words_NK)
        change_P = np.minimum(change(one.words_NK), change(two.words_NK))
        alone_P = np.minimum(ALONE_SHARE_OF_CHANGE * change_P, ALONE_PICTURE_DISTANCE)
    return np.where(is_equal_P, np.float32(0), unlike_P), is_equal_P | (unlike_P < alone_P)


def _mean_bits(
    differing_PQ: np.ndarray, said_PQ: np.ndarray, *, num_bits: int, least: int
) -> np.ndarray:
    """Return the share of bits set over the words that say something; 1 where these are too few."""
    num_said_P = said_PQ.sum(axis=1)
    num_set_P = (np.bitwise_count(differing_PQ) * said_PQ).sum(axis=1, dtype=np.int32)
    share_P = num_set_P / np.maximum(num_said_P * num_bits, 1)
    return np.where(num_said_P < least, 1.0, share_P).astype(np.float32)
