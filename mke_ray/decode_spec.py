"""What is stored of every modality, as types: the decode specification."""

# T frames, H height, W width, K depth channels, N sound samples, D features, L tokens.

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from mke_ray.errors import ConfigError

MASK = "mask"  # the modality that holds the true class map; no network reads it
_OF_PLACE = ("tokenizer", "revision")
IGNORE = 255  # the value of a class map that counts for nothing


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


class DepthChannels(StrEnum):
    """What is stored of a depth map."""

    METRES = "metres"
    INVERSE = "inverse"
    HHA = "hha"


@dataclass(frozen=True, slots=True)
class DepthSpec:
    """What is stored of a depth map: 16 bits per channel, decoded as float32 [H, W, K].

    0 stands where the depth is not known. What is stored, and the range that is kept of it:

    - ``metres``, K = 1: distance along the axis of the camera, 0 to 65.535 by millimetres.
    - ``inverse``, K = 1: one by the distance in metres, 0 to 13.107 by 0.0002.
    - ``hha``, K = 6, -2 to 2 by 1/16383: distance / 10 m; 0.5 m / distance, at most 1; height
      above the floor / 3 m; angle between up and the normal of the surface / 180 degrees; the
      normal's component to the right, and that upwards in the picture
      (``mke_ray.data.depth_channels`` has how they are estimated).

    Args:
        height: Stored height in pixels.
        width: Stored width in pixels.
        channels: One of ``DepthChannels``.
    """

    height: int
    width: int
    channels: str = DepthChannels.METRES.value
    kind: str = "depth"

    def __post_init__(self) -> None:
        """Check the channels."""
        if self.channels not in list(DepthChannels):
            raise ConfigError(_choose("channels", self.channels, DepthChannels))

    @property
    def num_channels(self) -> int:
        """Stored channels K."""
        return 6 if self.channels == DepthChannels.HHA else 1

    @property
    def mirrored(self) -> tuple[int, ...]:
        """The channels whose sign changes when a picture is mirrored left and right."""
        return (4,) if self.channels == DepthChannels.HHA else ()

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that is kept."""
        ranges = {"metres": (0.0, 65.535), "inverse": (0.0, 13.107), "hha": (-2.0, 2.0)}
        return ranges[self.channels]

    @property
    def steps_per_one(self) -> float:
        """Stored steps between two values that differ by 1; 0 is one of the steps."""
        return {"metres": 1000.0, "inverse": 5000.0, "hha": 16_383.0}[self.channels]


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """What is stored of a true class map: one PNG, decoded as uint8 [H, W] with 255 for no class.

    Its modality is named ``mask``. It is a label and no modality: no network reads it, and a
    sample without it is whole.

    Args:
        height: Stored height in pixels.
        width: Stored width in pixels.
    """

    height: int
    width: int
    kind: str = "mask"


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


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What is stored of a text: ids of its tokens, int32 [L], behind its end the id of padding.

    Which tokenizer a store is of says its digest, not where it lies: a run fills in all but the
    first three.

    Args:
        num_tokens: Ids stored per text L, special ones among them; longer texts are cut.
        tokenizer: Folder with a tokenizer of ``save_pretrained``, or ``owner/name`` of the Hub.
        revision: Commit of the Hub.
        digest: Digest of the tokenizer.
        num_ids: How many ids it has.
        pad_id: Id of padding.
        mask_id: Id of the mask, None where it has none.
        special_ids: Ids that stand for no part of a text.
    """

    num_tokens: int
    tokenizer: str | None = None
    revision: str | None = None
    digest: str | None = None
    num_ids: int = 1 << 31
    pad_id: int = 0
    mask_id: int | None = None
    special_ids: Sequence[int] = ()
    kind: str = "tokens"

    def __post_init__(self) -> None:
        """Check the number, and keep the special ids hashable."""
        if self.num_tokens < 3:
            raise ConfigError(f"num_tokens={self.num_tokens}; give 3 at least")
        object.__setattr__(self, "special_ids", tuple(self.special_ids))


ModalitySpec: TypeAlias = (
    VideoSpec | ImageSpec | DepthSpec | MaskSpec | AudioSpec | FeatureSpec | TokenSpec
)
DecodeSpec: TypeAlias = dict[str, ModalitySpec]

_MODALITY_SPECS: dict[str, type[ModalitySpec]] = {
    "video": VideoSpec,
    "image": ImageSpec,
    "depth": DepthSpec,
    "mask": MaskSpec,
    "audio": AudioSpec,
    "features": FeatureSpec,
    "tokens": TokenSpec,
}


def stored_shape(spec: ModalitySpec) -> tuple[int, ...]:
    """Return the shape of one stored array."""
    if isinstance(spec, VideoSpec):
        return (spec.num_frames, spec.height, spec.width, 3)
    if isinstance(spec, ImageSpec):
        return (spec.height, spec.width, 3)
    if isinstance(spec, MaskSpec):
        return (spec.height, spec.width)
    if isinstance(spec, DepthSpec):
        return (spec.height, spec.width, spec.num_channels)
    if isinstance(spec, TokenSpec):
        return (spec.num_tokens,)
    return (spec.num_features,) if isinstance(spec, FeatureSpec) else (spec.num_samples,)


def stored_dtype(spec: ModalitySpec) -> str:
    """Return the type of the numbers of one stored array, as numpy names it."""
    if isinstance(spec, TokenSpec):
        return "int32"
    return "uint8" if isinstance(spec, VideoSpec | ImageSpec | MaskSpec) else "float32"


def decode_spec_from_dict(plain: Mapping[str, Mapping[str, Any]]) -> DecodeSpec:
    """Build the decode specification of every modality from plain data.

    Args:
        plain: ``{modality: {"kind": K, ...}}`` with a kind K of video, image, depth, mask, audio,
            features or tokens.

    Raises:
        ConfigError: A kind or a key is unknown, or a class map is not called ``mask``.
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
        if (modality == MASK) != (kind == "mask"):
            raise ConfigError(
                f"decode.{modality}.kind={kind}: the name {MASK!r} is for the true class map, and "
                "that has no other; rename the modality"
            )
    return spec


def without_mask(modalities: Iterable[str]) -> list[str]:
    """Return the modalities that a network may read: all but the true class map."""
    return [modality for modality in modalities if modality != MASK]


def _choose(key: str, found: str, words: type[StrEnum]) -> str:
    return f"{key} is {found!r}; choose one of {[word.value for word in words]}"


def decode_spec_to_dict(spec: DecodeSpec) -> dict[str, dict[str, Any]]:
    """Return plain data that ``decode_spec_from_dict`` reads back.

    A codec that is the default is left out, so that stores made before there were codecs keep
    their fingerprint, and so is where a tokenizer lies.
    """
    return {modality: _kept_of(one) for modality, one in spec.items()}


def _kept_of(spec: ModalitySpec) -> dict[str, Any]:
    plain = asdict(spec)
    if isinstance(spec, TokenSpec):
        return {name: one for name, one in plain.items() if name not in _OF_PLACE}
    default = type(spec).__dataclass_fields__.get("codec")
    if default is not None and plain["codec"] == default.default:
        del plain["codec"]
    return plain
