"""How one modality of one sample is stored: frames, pictures, depth, sound, features, ids."""

# T frames, H height, W width, K depth channels, N sound samples, D features, L tokens.

import io
import math

import numpy as np
import simplejpeg
from PIL import Image

from mke_ray.data.flac import decode_flac, encode_flac
from mke_ray.decode_spec import stored_dtype, stored_shape
from mke_ray.errors import StoreError
from mke_ray.schema import (
    IGNORE,
    AudioSpec,
    DepthSpec,
    FrameCodec,
    ImageSpec,
    MaskSpec,
    ModalitySpec,
    SoundCodec,
    TokenSpec,
    VideoSpec,
)

_PCM_SCALE = 32767.0
_JPEG_MAGIC = b"\xff\xd8"


def encode_modality(array: np.ndarray, spec: ModalitySpec) -> list[bytes]:
    """Return the stored pieces of one array.

    Args:
        array: As ``decode_modality`` returns it.
        spec: Its specification.

    Raises:
        StoreError: The array has another shape than the specification says.
    """
    _check_shape(array, spec)
    if isinstance(spec, VideoSpec):
        return [_encode_frame(frame_HWC, spec) for frame_HWC in array]
    if isinstance(spec, ImageSpec):
        return [_encode_png(array) if spec.lossless else _encode_jpeg(array, spec.quality)]
    if isinstance(spec, MaskSpec):
        return [_encode_png(array)]
    if isinstance(spec, DepthSpec):
        return _encode_depth(array, spec)
    if isinstance(spec, AudioSpec):
        sound_N = np.rint(np.clip(array, -1.0, 1.0) * _PCM_SCALE).astype("<i2")
        is_flac = spec.codec == SoundCodec.FLAC
        return encode_flac(sound_N, spec.sample_rate_hz) if is_flac else [sound_N.tobytes()]
    return [array.astype(_id_type(spec) if isinstance(spec, TokenSpec) else "<f4").tobytes()]


def decode_modality(pieces: list[bytes], spec: ModalitySpec) -> np.ndarray:
    """Return the array that was stored.

    Args:
        pieces: What ``encode_modality`` returned.
        spec: The same specification.

    Returns:
        Video uint8 [T, H, W, 3], a picture uint8 [H, W, 3], a class map uint8 [H, W], depth
        float32 [H, W, K], sound float32 [N] in [-1, 1], features float32 [D], or tokens int32 [L].

    Raises:
        StoreError: The pieces were made with another specification, or are damaged.
    """
    if isinstance(spec, VideoSpec):
        frames = [_decode_frame(piece, spec) for piece in pieces]
        array = np.stack(frames) if frames else np.zeros(0, np.uint8)
    elif isinstance(spec, ImageSpec | MaskSpec):
        array = _decode_picture(b"".join(pieces))
    elif isinstance(spec, DepthSpec):
        array = _decode_depth(pieces, spec)
    elif isinstance(spec, AudioSpec):
        array = _decode_sound(pieces, spec).astype(np.float32) / _PCM_SCALE
    elif isinstance(spec, TokenSpec):
        array = np.frombuffer(b"".join(pieces), dtype=_id_type(spec)).astype(np.int32)
    else:
        array = np.frombuffer(b"".join(pieces), dtype="<f4").astype(np.float32)
    _check_shape(array, spec)
    return array


def empty_modality(spec: ModalitySpec) -> np.ndarray:
    """Return what stands for a missing modality: zeros, 255 of a class map, and padding of ids."""
    if isinstance(spec, MaskSpec):
        return np.full(stored_shape(spec), IGNORE, np.uint8)
    if isinstance(spec, TokenSpec):
        return np.full(stored_shape(spec), spec.pad_id, np.int32)
    return np.zeros(stored_shape(spec), stored_dtype(spec))


def _id_type(spec: TokenSpec) -> str:
    """Return the smallest type that holds every id."""
    return "<u2" if spec.num_ids <= 1 << 16 else "<i4"


def _encode_frame(frame_HWC: np.ndarray, spec: VideoSpec) -> bytes:
    if spec.codec == FrameCodec.RAW:
        return frame_HWC.tobytes()
    is_png = spec.codec == FrameCodec.PNG
    return _encode_png(frame_HWC) if is_png else _encode_jpeg(frame_HWC, spec.quality)


def _decode_frame(piece: bytes, spec: VideoSpec) -> np.ndarray:
    if spec.codec != FrameCodec.RAW:
        return _decode_picture(piece)
    shape = (spec.height, spec.width, 3)
    if len(piece) != math.prod(shape):
        raise StoreError(
            f"a raw frame has {len(piece)} bytes, its specification {shape} asks for "
            f"{math.prod(shape)}; it is damaged, or of another store"
        )
    return np.frombuffer(piece, np.uint8).reshape(shape)


def _encode_depth(depth_HWK: np.ndarray, spec: DepthSpec) -> list[bytes]:
    """Return one PNG of 16 bits per channel."""
    lowest, highest = spec.range
    kept_HWK = np.clip(depth_HWK, lowest, highest).astype(np.float64)
    steps_HWK = np.rint((kept_HWK - lowest) * spec.steps_per_one).astype(np.uint16)
    return [_encode_png(np.ascontiguousarray(one_HW)) for one_HW in np.moveaxis(steps_HWK, 2, 0)]


def _decode_depth(pieces: list[bytes], spec: DepthSpec) -> np.ndarray:
    channels = [_decode_picture(piece) for piece in pieces]
    steps_HWK = np.stack(channels, axis=2) if channels else np.zeros(0, np.uint16)
    if steps_HWK.dtype != np.uint16:
        raise StoreError("a depth map has not 16 bits; it is damaged, or of another store")
    of_zero = -spec.range[0] * spec.steps_per_one
    return ((steps_HWK - of_zero) / spec.steps_per_one).astype(np.float32)


def _decode_sound(pieces: list[bytes], spec: AudioSpec) -> np.ndarray:
    """Return 16-bit sound [N]."""
    if spec.codec == SoundCodec.FLAC:
        return decode_flac(pieces, num_samples=spec.num_samples)
    return np.frombuffer(b"".join(pieces), dtype="<i2")


def _encode_jpeg(frame_HWC: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame_HWC).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _encode_png(picture_HWC: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, format="PNG")
    return buffer.getvalue()


def _decode_picture(piece: bytes) -> np.ndarray:
    """Return the pixels of a picture, [H, W, 3]; those of a JPEG are what Pillow gives, sooner."""
    try:
        if piece.startswith(_JPEG_MAGIC):
            return simplejpeg.decode_jpeg(piece, colorspace="RGB")
        return np.asarray(Image.open(io.BytesIO(piece), formats=("PNG",)))
    except (OSError, SyntaxError, ValueError) as error:
        raise StoreError(f"a stored picture of {len(piece)} bytes is damaged: {error}") from error


def _check_shape(array: np.ndarray, spec: ModalitySpec) -> None:
    if array.shape != stored_shape(spec):
        raise StoreError(
            f"{spec.kind} array has shape {array.shape}, its specification {stored_shape(spec)}; "
            "samples and specification belong to different stores"
        )
