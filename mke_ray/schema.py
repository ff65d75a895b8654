"""The words of the system as types: statuses, splits, label spaces, rows, batches, schemas."""

# B samples, C classes, H height, W width, k classes kept of a pixel.

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mke_ray.decode_spec import (
    IGNORE,
    MASK,
    AudioSpec,
    Backend,
    DecodeSpec,
    DepthChannels,
    DepthSpec,
    FeatureSpec,
    FrameCodec,
    ImageSpec,
    MaskSpec,
    ModalitySpec,
    Sampling,
    SoundCodec,
    TokenSpec,
    VideoSpec,
    decode_spec_from_dict,
    decode_spec_to_dict,
    stored_dtype,
    stored_shape,
    without_mask,
)
from mke_ray.errors import ConfigError

if TYPE_CHECKING:  # a process that only decodes need not load torch
    import torch
    from torch import Tensor

__all__ = [
    "DENSE_LABELS_SCHEMA",
    "DIGEST_SUFFIX",
    "FORMAT_VERSION",
    "IGNORE",
    "LABELS_SCHEMA",
    "MANIFEST_SCHEMA",
    "MASK",
    "SIGNATURE_SUFFIX",
    "WEIGHED_LABELS_SCHEMA",
    "WEIGHT",
    "AudioSpec",
    "Backend",
    "Batch",
    "DecodeSpec",
    "DepthChannels",
    "DepthSpec",
    "FeatureSpec",
    "FrameCodec",
    "ImageSpec",
    "LabelKind",
    "LabelSpace",
    "ManifestRow",
    "MaskSpec",
    "ModalitySpec",
    "Sampling",
    "SoundCodec",
    "Split",
    "Status",
    "StatusCounts",
    "TokenSpec",
    "VideoSpec",
    "decode_spec_from_dict",
    "decode_spec_to_dict",
    "fingerprint",
    "sample_id",
    "samples_schema",
    "stored_dtype",
    "stored_shape",
    "unit_id",
    "without_mask",
]

FORMAT_VERSION = 1
SIGNATURE_SUFFIX = "_signature"
DIGEST_SUFFIX = "_digest"


class Status(StrEnum):
    """What became of one input; every input has exactly one."""

    OK = "ok"
    PARTIAL = "partial"
    BAD = "bad"
    RETRY = "retry"


class Split(StrEnum):
    """The role of a sample in a run."""

    LABELLED = "labelled"
    UNLABELED = "unlabeled"
    PROBE = "probe"
    TEST = "test"


class LabelKind(StrEnum):
    """How many classes one sample may have."""

    SINGLE = "single"
    MULTI = "multi"
    DENSE = "dense"


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Names of the classes in logit order, and how many of them one sample may have.

    Args:
        classes: Class names in the order of the logits.
        kind: ``single``, ``multi`` (many at once) or ``dense`` (one per pixel).
        ignore: Value of a class map that counts for nothing: 255 for dense labels, None for others.
    """

    classes: tuple[str, ...]
    kind: LabelKind = LabelKind.SINGLE
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Check that the classes can be told apart."""
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(
                f"label space needs at least two distinct classes, found {list(self.classes)}"
            )
        if self.kind == LabelKind.DENSE and self.ignore != IGNORE:
            raise ConfigError(
                f"label space of kind dense with ignore={self.ignore}: class maps have {IGNORE} "
                "where a pixel counts for nothing; use that"
            )
        if self.kind == LabelKind.DENSE and len(self.classes) > IGNORE:
            raise ConfigError(
                f"label space of kind dense has {len(self.classes)} classes, at most {IGNORE}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)

    def index(self, name: str) -> int:
        """Return the logit index of a class name.

        Raises:
            ConfigError: The name is not a class.
        """
        try:
            return self.classes.index(name)
        except ValueError:
            raise ConfigError(
                f"label {name!r} is not one of the classes {list(self.classes)}"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return {"classes": list(self.classes), "kind": str(self.kind), "ignore": self.ignore}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "LabelSpace":
        """Build a label space from plain data."""
        return cls(tuple(plain["classes"]), LabelKind(plain["kind"]), plain.get("ignore"))


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One sample of the manifest.

    Args:
        sample_id: Stable hash of the key and the span.
        unit: Id of the unit that the sample belongs to.
        key: Path relative to the root of the source, or an absolute URI.
        size: Size of the object in bytes, -1 where there is none.
        etag: Version of the object as its store names it, "" where unknown.
        start_s: Start of the span in seconds, None for the whole object.
        end_s: End of the span in seconds, None for the whole object.
        group: Who or what the sample comes from.
        split: Role of the sample.
        labels: Indices of the true classes; None where unknown. Of dense labels ``()`` where there
            is a true class map, which is in the sample store.
        mark: Why the row must no longer be used, "" where it may be.
    """

    sample_id: int
    unit: str
    key: str
    size: int
    etag: str
    start_s: float | None
    end_s: float | None
    group: str
    split: str
    labels: tuple[int, ...] | None
    mark: str = ""


@dataclass(slots=True)
class Batch:
    """What an objective sees of one micro batch.

    Args:
        sample_id_B: Sample ids [B], int64.
        arrays: Per modality an array [B, ...] as stored; rows of a missing modality are zero.
        present: Per modality whether the sample has it [B], bool.
        target_BC: Teacher probabilities or one-hot true labels [B, C]; zero rows where none. Of
            dense labels a class map [B, H, W], uint8, with 255 where a pixel has no label, or
            probabilities [B, C, H, W], float32, all of a pixel zero where it has none.
        weight_B: Weight of each sample [B], float32.
        epoch: Epoch of the batch; with the seed and the sample id it determines views and noise.
        seed: Seed of the fit.
        fold_B: Fold of each sample [B], int64, of a fit that trains witnesses; else None.
        label_weight: Weight of each class [B, C] or pixel [B, H, W] in the loss of its labels,
            float32; None weighs all alike. With one class per sample ``weight_B`` has it.
        repeat_B: Which time of its epoch a sample comes [B], int64, from 0; it has views and noise
            of its own each time. None where no sample of the fit comes several times.
    """

    sample_id_B: "Tensor"
    arrays: "dict[str, Tensor]"
    present: "dict[str, Tensor]"
    target_BC: "Tensor"
    weight_B: "Tensor"
    epoch: int = 0
    seed: int = 0
    fold_B: "Tensor | None" = None
    label_weight: "Tensor | None" = None
    repeat_B: "Tensor | None" = None

    @property
    def num_samples(self) -> int:
        """Number of samples B."""
        return int(self.sample_id_B.shape[0])

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(one.nbytes for one in self.tensors())

    def tensors(self) -> "Iterator[Tensor]":
        """Yield every tensor."""
        yield from (self.sample_id_B, self.target_BC, self.weight_B)
        yield from self.arrays.values()
        yield from self.present.values()
        maybe = (self.fold_B, self.label_weight, self.repeat_B)
        yield from (one for one in maybe if one is not None)

    def to(self, device: "torch.device | str") -> "Batch":
        """Return the batch with every tensor on a device."""
        return self.map(lambda one: one.to(device))

    def map(self, change: "Callable[[Tensor], Tensor]") -> "Batch":
        """Return the batch with every tensor changed."""
        return Batch(
            change(self.sample_id_B),
            {name: change(array) for name, array in self.arrays.items()},
            {name: change(array) for name, array in self.present.items()},
            change(self.target_BC),
            change(self.weight_B),
            self.epoch,
            self.seed,
            None if self.fold_B is None else change(self.fold_B),
            None if self.label_weight is None else change(self.label_weight),
            None if self.repeat_B is None else change(self.repeat_B),
        )


@dataclass(slots=True)
class StatusCounts:
    """How many inputs ended in each status.

    Args:
        ok: Whole.
        partial: Without some modality.
        bad: Unreadable.
        retry: Unreadable now, perhaps not later.
        reasons: Why those are unreadable that are ``bad`` or ``retry``.
        partial_reasons: Why those lack a modality that are ``partial``.
    """

    ok: int = 0
    partial: int = 0
    bad: int = 0
    retry: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    partial_reasons: dict[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """All inputs counted."""
        return self.ok + self.partial + self.bad + self.retry

    def add(self, other: "StatusCounts") -> None:
        """Add another count to this one."""
        self.ok += other.ok
        self.partial += other.partial
        self.bad += other.bad
        self.retry += other.retry
        self.reasons = _sum_of(self.reasons, other.reasons, sign=1)
        self.partial_reasons = _sum_of(self.partial_reasons, other.partial_reasons, sign=1)

    def take_away(self, other: "StatusCounts") -> None:
        """Take the count of some of these inputs away from this one."""
        self.ok -= other.ok
        self.partial -= other.partial
        self.bad -= other.bad
        self.retry -= other.retry
        self.reasons = _sum_of(self.reasons, other.reasons, sign=-1)
        self.partial_reasons = _sum_of(self.partial_reasons, other.partial_reasons, sign=-1)


MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.int32())),
    ]
)

LABELS_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("logits", pa.list_(pa.float32())),
    ]
)

WEIGHT = "weight"  # column of how much a label counts, 1 as much as any

WEIGHED_LABELS_SCHEMA = LABELS_SCHEMA.append(pa.field(WEIGHT, pa.float32(), nullable=False))

DENSE_LABELS_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("classes", pa.binary()),  # uint8 [k, H, W], most likely first
        pa.field("log_probs", pa.binary()),  # float16 [k, H, W], of those classes
        pa.field("rest", pa.binary()),  # float16 [H, W], probability of the other classes together
    ]
)


def _sum_of(one: Mapping[str, int], other: Mapping[str, int], *, sign: int) -> dict[str, int]:
    """Return the sum or difference of two counts, without what is not there any more."""
    total = {name: one.get(name, 0) + sign * other.get(name, 0) for name in {**one, **other}}
    return {name: number for name, number in total.items() if number > 0}


def samples_schema(modalities: Iterable[str], *, media: bool = True) -> pa.Schema:
    """Return the schema of a sample store.

    Each modality ``m`` has a column ``m`` of encoded pieces (a picture or block of pixels per
    frame, a picture, a PNG per channel of depth, a class map, 16-bit sound or its FLAC frames,
    float32 features; null where missing) and ``m_status``, which is ``"ok"`` or the reason why
    the modality is missing. At the end, beside the footer, stand the columns ``m_signature``, by
    which copies are found; they are null where the modality is missing, and empty where its
    content cannot be told from other content.

    Args:
        modalities: Their names.
        media: Whether the store keeps the pieces; else ``m_digest`` stands in the place of ``m``,
            by which pieces that are read again can be compared with those of the first time.
    """
    modalities = list(modalities)
    fields = [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
    for modality in modalities:
        if media:
            fields.append(pa.field(modality, pa.list_(pa.binary())))
        else:
            fields.append(pa.field(modality + DIGEST_SUFFIX, pa.binary()))
        fields.append(pa.field(f"{modality}_status", pa.string(), nullable=False))
    fields += [pa.field(modality + SIGNATURE_SUFFIX, pa.binary()) for modality in modalities]
    return pa.schema(fields)


def sample_id(key: str, start_s: float | None = None, end_s: float | None = None) -> int:
    """Return the stable id of a sample: a signed 64-bit hash of its key and span.

    Args:
        key: Path relative to the root of its source, so that a moved bucket is the same data.
        start_s: Start of the span in seconds, None for the whole object.
        end_s: End of the span in seconds, None for the whole object.
    """
    span = [None if one is None else float(one) for one in (start_s, end_s)]
    text = json.dumps([key, *span])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def unit_id(sample_ids: Iterable[int], *, generation: int = 0) -> str:
    """Return the deterministic id of a unit: 16 hex digits over its sample ids in order.

    Args:
        sample_ids: The samples.
        generation: Generation of the manifest; a later one never repeats a unit of an earlier one.
    """
    joined = ",".join(str(one) for one in sample_ids)
    joined = f"{generation}:{joined}" if generation else joined
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()


def fingerprint(spec: object) -> str:
    """Return 16 hex digits that change whenever plain data changes.

    Args:
        spec: Anything that JSON can carry; the order of keys does not matter.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
