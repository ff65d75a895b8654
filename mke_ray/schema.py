"""The words of the system as types: statuses, splits, label spaces, specifications, batches."""

# B samples, C classes.

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from mke_ray.errors import ConfigError

if TYPE_CHECKING:  # a process that only decodes need not load torch
    import torch
    from torch import Tensor

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
        ignore: Label value that counts for nothing, for dense labels.
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


class Sampling(StrEnum):
    """Which frames of a video are stored."""

    UNIFORM = "uniform"
    FPS = "fps"
    KEYFRAME = "keyframe"
    RANDOM = "random"


class Backend(StrEnum):
    """The library that decodes frames; sound is always decoded by PyAV."""

    PYAV = "pyav"
    DECORD = "decord"
    TORCHCODEC = "torchcodec"


class FrameCodec(StrEnum):
    """How the frames of a video are stored."""

    JPEG = "jpeg"
    PNG = "png"
    RAW = "raw"


class SoundCodec(StrEnum):
    """How 16-bit sound is stored; the samples are the same."""

    PCM = "pcm"
    FLAC = "flac"


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """What is stored of a video stream: a few frames, decoded as uint8 [T, H, W, 3].

    Args:
        num_frames: Frames stored per sample T.
        height: Stored height in pixels.
        width: Stored width in pixels.
        quality: JPEG quality, 1 to 100; of no effect with another codec.
        sampling: ``uniform`` takes the frames shown in the middle of T equal parts of the span;
            ``fps`` the first T at ``rate_hz`` from its start, repeating the last where it is
            shorter; ``random`` one at a time drawn in each of T equal parts; ``keyframe`` the
            keyframes nearest to the uniform times: several times faster, and approximate.
        rate_hz: Frames per second of ``sampling=fps``.
        seed: What ``sampling=random`` draws from, with the sample's id.
        backend: Library that decodes; pixels differ a little between them.
        codec: ``jpeg``; ``png`` keeps every pixel, in several times the bytes; ``raw`` too, in
            still more bytes that take almost no time to read.
    """

    num_frames: int
    height: int
    width: int
    quality: int = 90
    sampling: str = Sampling.UNIFORM.value
    rate_hz: float | None = None
    seed: int = 0
    backend: str = Backend.PYAV.value
    kind: str = "video"
    codec: str = FrameCodec.JPEG.value

    def __post_init__(self) -> None:
        """Check the words, and that they go together."""
        if self.sampling not in list(Sampling):
            raise ConfigError(_choose("sampling", self.sampling, Sampling))
        if self.backend not in list(Backend):
            raise ConfigError(_choose("backend", self.backend, Backend))
        if self.codec not in list(FrameCodec):
            raise ConfigError(_choose("codec", self.codec, FrameCodec))
        if (self.sampling == Sampling.FPS) != (self.rate_hz is not None):
            raise ConfigError(
                f"sampling={self.sampling} with rate_hz={self.rate_hz}; "
                "set rate_hz for sampling=fps and for nothing else"
            )
        if self.rate_hz is not None and not self.rate_hz > 0:
            raise ConfigError(f"rate_hz={self.rate_hz} must be above 0")


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What is stored of a picture: one JPEG or PNG, decoded as uint8 [H, W, 3].

    Args:
        height: Stored height in pixels.
        width: Stored width in pixels.
        quality: JPEG quality, 1 to 100; of no effect where lossless.
        lossless: Store a PNG, for which pixels count exactly, instead of a JPEG.
    """

    height: int
    width: int
    quality: int = 90
    lossless: bool = False
    kind: str = "image"


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """What is stored of a sound stream: 16-bit mono samples, decoded as float32 [N] in [-1, 1].

    Args:
        sample_rate_hz: Stored sample rate.
        seconds: Stored duration from the start of the span; shorter sound is padded with zeros.
        codec: ``pcm``; ``flac`` keeps the same samples in fewer bytes that take longer to read.
    """

    sample_rate_hz: int
    seconds: float
    kind: str = "audio"
    codec: str = SoundCodec.PCM.value

    def __post_init__(self) -> None:
        """Check the codec."""
        if self.codec not in list(SoundCodec):
            raise ConfigError(_choose("codec", self.codec, SoundCodec))

    @property
    def num_samples(self) -> int:
        """Stored samples per clip N."""
        return round(self.sample_rate_hz * self.seconds)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What is stored of a row of features: float32 [D].

    Args:
        num_features: Number of features D.
    """

    num_features: int
    kind: str = "features"


ModalitySpec: TypeAlias = VideoSpec | ImageSpec | AudioSpec | FeatureSpec
DecodeSpec: TypeAlias = dict[str, ModalitySpec]

_MODALITY_SPECS: dict[str, type[ModalitySpec]] = {
    "video": VideoSpec,
    "image": ImageSpec,
    "audio": AudioSpec,
    "features": FeatureSpec,
}


def decode_spec_from_dict(plain: Mapping[str, Mapping[str, Any]]) -> DecodeSpec:
    """Build the decode specification of every modality from plain data.

    Args:
        plain: ``{modality: {"kind": "video" | "image" | "audio" | "features", ...}}``.

    Raises:
        ConfigError: A kind or a key is unknown.
    """
    spec: DecodeSpec = {}
    for modality, keys in plain.items():
        kind = keys.get("kind")
        if kind not in _MODALITY_SPECS:
            raise ConfigError(
                f"decode.{modality}.kind is {kind!r}; choose one of {sorted(_MODALITY_SPECS)}"
            )
        try:
            spec[modality] = _MODALITY_SPECS[kind](**keys)
        except (TypeError, ConfigError) as error:
            raise ConfigError(f"decode.{modality}: {error}") from None
    return spec


def _choose(key: str, found: str, words: type[StrEnum]) -> str:
    return f"{key} is {found!r}; choose one of {[word.value for word in words]}"


def decode_spec_to_dict(spec: DecodeSpec) -> dict[str, dict[str, Any]]:
    """Return plain data that ``decode_spec_from_dict`` reads back.

    A codec that is the default is left out, so that stores made before there were codecs keep
    their fingerprint.
    """
    return {modality: _without_default_codec(one) for modality, one in spec.items()}


def _without_default_codec(spec: ModalitySpec) -> dict[str, Any]:
    plain = asdict(spec)
    default = type(spec).__dataclass_fields__.get("codec")
    if default is not None and plain["codec"] == default.default:
        del plain["codec"]
    return plain


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
        labels: Indices of the true classes; None where unknown.
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
        target_BC: Teacher probabilities or one-hot true labels [B, C]; zero rows where none.
        weight_B: Weight of each sample [B], float32.
        epoch: Epoch of the batch; with the seed and the sample id it determines views and noise.
        seed: Seed of the fit.
    """

    sample_id_B: "Tensor"
    arrays: "dict[str, Tensor]"
    present: "dict[str, Tensor]"
    target_BC: "Tensor"
    weight_B: "Tensor"
    epoch: int = 0
    seed: int = 0

    @property
    def num_samples(self) -> int:
        """Number of samples B."""
        return int(self.sample_id_B.shape[0])

    def to(self, device: "torch.device | str") -> "Batch":
        """Return the batch with every tensor on a device."""
        return Batch(
            self.sample_id_B.to(device),
            {name: array.to(device) for name, array in self.arrays.items()},
            {name: array.to(device) for name, array in self.present.items()},
            self.target_BC.to(device),
            self.weight_B.to(device),
            self.epoch,
            self.seed,
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


def _sum_of(one: Mapping[str, int], other: Mapping[str, int], *, sign: int) -> dict[str, int]:
    """Return the sum or difference of two counts, without what is not there any more."""
    total = {name: one.get(name, 0) + sign * other.get(name, 0) for name in {**one, **other}}
    return {name: number for name, number in total.items() if number > 0}


def samples_schema(modalities: Iterable[str], *, media: bool = True) -> pa.Schema:
    """Return the schema of a sample store.

    Each modality ``m`` has a column ``m`` of encoded pieces (a picture or block of pixels per
    frame, a picture, 16-bit sound or its FLAC frames, float32 features; null where missing) and
    ``m_status``, which is ``"ok"`` or the reason why the modality is missing. At the end, beside
    the footer, stand the columns ``m_signature``, by which copies are found; they are null where
    the modality is missing, and empty where its content cannot be told from other content.

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
