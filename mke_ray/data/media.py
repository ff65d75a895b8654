"""From the bytes of a media file to the arrays of a decode specification, with PyAV."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from mke_ray.data.media_audio import decode_audio
from mke_ray.data.media_video import decode_video
from mke_ray.data.packets import Span, StreamPackets, read_packets
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec, DecodeSpec, ModalitySpec, VideoSpec

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,wav,mp3,flac,aac"

# What PyAV raises for damaged input, apart from its own family of errors.
_DECODE_ERRORS = (FFmpegError, UnicodeDecodeError, ValueError, IndexError, OverflowError)

_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "", "fflags": "+genpts"}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
_MAGIC = (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"fLaC", b"FLV", b"GIF8", b"ID3", b"\x00\x00\x01\xba")


@dataclass(slots=True)
class Decoded:
    """What was read of one sample.

    Args:
        arrays: Per modality the array of its specification.
        missing: Per modality that could not be read, the reason.
        num_bytes_read: Bytes fetched from the store.
        duration_s: Length of the clip by its container.
    """

    arrays: dict[str, np.ndarray]
    missing: dict[str, str]
    num_bytes_read: int = 0
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file that is decoded at all.

    Args:
        num_bytes: Size of the file.
        num_pixels: Width times height of its frames.
        num_packets: Packets of the streams that are read.
        duration_s: Length by the container.
    """

    num_bytes: int = 1 << 30
    num_pixels: int = 1 << 26
    num_packets: int = 2_000_000
    duration_s: float = 6 * 3600.0


LIMITS = Limits()


def decode_clip(
    content: bytes,
    spec: DecodeSpec,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: Limits = LIMITS,
) -> Decoded:
    """Decode what a specification asks for from one media file.

    Args:
        content: The whole file.
        spec: Per modality, what to decode.
        start_s: Start of the span in seconds from the beginning of the clip.
        end_s: End of the span.
        limits: The largest file accepted.

    Returns:
        The arrays, and for a stream that is not there or damaged the reason.

    Raises:
        MediaError: Nothing of it can be used: ``empty``, ``truncated``, ``no_streams``,
            ``no_video``, ``no_audio``, ``unsupported``, ``too_large``, ``damaged`` or
            ``empty_span``.
    """
    if not content:
        raise MediaError("empty", "the file has no bytes")
    if len(content) > limits.num_bytes:
        raise MediaError("too_large", f"{len(content)} bytes, at most {limits.num_bytes}")
    try:
        with _open(content) as container:
            streams = _wanted_streams(container, spec)
            _check_limits(container, streams, limits)
            packets = read_packets(
                container, list(streams.values()), max_packets=limits.num_packets
            )
            decoded = _decode_streams(
                {one.stream.type: one for one in packets}, spec, Span(start_s, end_s), content
            )
            decoded.duration_s = (container.duration or 0) / av.time_base
    except _DECODE_ERRORS as error:
        raise MediaError(_why_damaged(content), str(error)) from error
    if not decoded.arrays:
        raise MediaError(_reason_of_all(decoded.missing), f"nothing usable: {decoded.missing}")
    return decoded


def _open(content: bytes) -> InputContainer:
    return av.open(io.BytesIO(content), mode="r", options=_OPTIONS, metadata_errors="replace")


def _wanted_streams(
    container: InputContainer, spec: DecodeSpec
) -> dict[str, VideoStream | AudioStream]:
    """Return the first video and audio stream that the specification needs; no cover pictures."""
    streams: dict[str, VideoStream | AudioStream] = {}
    for kind in {one.kind for one in spec.values()}:
        candidates = container.streams.video if kind == "video" else container.streams.audio
        for stream in candidates:
            if stream.codec_context and not stream.disposition & Disposition.attached_pic:
                stream.codec_context.thread_type = "NONE"
                stream.codec_context.thread_count = 1
                streams.setdefault(kind, stream)
    return streams


def _check_limits(
    container: InputContainer, streams: dict[str, VideoStream | AudioStream], limits: Limits
) -> None:
    duration_s = (container.duration or 0) / av.time_base
    if duration_s > limits.duration_s:
        raise MediaError("too_large", f"{duration_s:.0f} s, at most {limits.duration_s:.0f} s")
    video = streams.get("video")
    if isinstance(video, VideoStream):
        width, height = video.codec_context.width, video.codec_context.height
        if width * height > limits.num_pixels:
            raise MediaError("too_large", f"{width}x{height} pixels, at most {limits.num_pixels}")


def _decode_streams(
    packets: dict[str, StreamPackets], spec: DecodeSpec, span: Span, content: bytes
) -> Decoded:
    """Decode each modality; a stream that fails does not take the other with it."""
    decoded = Decoded({}, {})
    for modality, one in spec.items():
        if one.kind not in packets:
            decoded.missing[modality] = f"no_{one.kind}"
            continue
        try:
            decoded.arrays[modality] = _decode_stream(packets[one.kind], one, span)
        except MediaError as error:
            decoded.missing[modality] = error.reason
        except _DECODE_ERRORS:
            decoded.missing[modality] = _why_damaged(content)
    return decoded


def _decode_stream(packets: StreamPackets, spec: ModalitySpec, span: Span) -> np.ndarray:
    if isinstance(spec, VideoSpec):
        return decode_video(packets, spec, span)
    if isinstance(spec, AudioSpec):
        return decode_audio(packets, spec, span)
    raise TypeError(f"a media file has no {spec.kind}")


def _reason_of_all(missing: dict[str, str]) -> str:
    """Return the reason for a file of which nothing can be used."""
    reasons = list(dict.fromkeys(missing.values()))
    if len(reasons) == 1:
        return reasons[0]
    damages = [reason for reason in reasons if reason not in ("no_video", "no_audio")]
    return damages[0] if damages else "no_streams"


def _why_damaged(content: bytes) -> str:
    """Tell a file that was cut off from a damaged one, and both from what is no media file."""
    if content[4:8] in _MP4_BOXES:
        names = []
        for name, end in _mp4_boxes(content):
            names.append(name)
            if end > len(content):
                return "truncated"
        return "damaged" if b"moov" in names else "truncated"
    return "damaged" if content.startswith(_MAGIC) else "unsupported"


def _mp4_boxes(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the name and end of every top-level box of an MP4 file."""
    begin = 0
    while begin + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, begin)
        if size == 1 and begin + 16 <= len(content):
            size = struct.unpack_from(">Q", content, begin + 8)[0]
        end = len(content) if size == 0 else begin + max(size, 8)
        yield name, end
        begin = end
