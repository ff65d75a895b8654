"""From a media file to the arrays of a decode specification."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from mke_ray.data.containers import (
    DECODE_ERRORS,
    LIMITS,
    Limits,
    MediaFile,
    in_plain_words,
    open_container,
    wanted_streams,
    why_damaged,
)
from mke_ray.data.decoder import PYAV, VideoClip
from mke_ray.data.decoders import decode_frames
from mke_ray.data.frame_choice import choose_frames
from mke_ray.data.media_audio import decode_audio
from mke_ray.data.packets import Span, StreamPackets, leads_s, read_packets
from mke_ray.data.ranges import RangeFile
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec, DecodeSpec, ModalitySpec, VideoSpec

__all__ = ["LIMITS", "Decoded", "Limits", "decode_clip"]


@dataclass(slots=True)
class Decoded:
    """What was read of one sample.

    Args:
        arrays: Per modality the array of its specification.
        missing: Per modality that could not be read, the reason.
        num_bytes_read: Bytes fetched from the store.
        duration_s: Length of the clip by its container.
        num_bytes_needed: Bytes of the packets that hold what was wanted.
        num_valid: Per modality how many frames or sound samples the clip has; what comes behind
            them repeats the last frame or is silence.
        decoder: Library and version that decoded the frames, or the sound where there are none.
    """

    arrays: dict[str, np.ndarray]
    missing: dict[str, str]
    num_bytes_read: int = 0
    duration_s: float = 0.0
    num_bytes_needed: int = 0
    num_valid: dict[str, int] = field(default_factory=dict)
    decoder: str = ""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is wanted of one file."""

    file: MediaFile
    spec: DecodeSpec
    span: Span
    limits: Limits
    sample_id: int


def decode_clip(
    content: bytes | RangeFile,
    spec: DecodeSpec,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: Limits = LIMITS,
    sample_id: int = 0,
) -> Decoded:
    """Decode what a specification asks for from one media file.

    Args:
        content: The whole file, or one of which only what is needed is fetched.
        spec: Per modality, what to decode.
        start_s: Start of the span in seconds from the beginning of the clip.
        end_s: End of the span.
        limits: The largest file accepted.
        sample_id: Id of the sample; decides what is drawn by chance.

    Returns:
        The arrays, and for a stream that is not there or damaged the reason.

    Raises:
        MediaError: Nothing of it can be used: ``empty``, ``truncated``, ``no_streams``,
            ``no_video``, ``no_audio``, ``unsupported``, ``too_large``, ``damaged`` or
            ``empty_span``.
    """
    if isinstance(content, bytes) and not content:
        raise MediaError("empty", "the file has no bytes")
    if isinstance(content, bytes) and len(content) > limits.num_bytes:
        raise MediaError("too_large", f"{len(content)} bytes, at most {limits.num_bytes}")
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    wanted = _Wanted(file, spec, Span(start_s, end_s), limits, sample_id)
    try:
        decoded = _decode(wanted)
    except DECODE_ERRORS as error:
        reason = why_damaged(file)
        raise MediaError(reason, in_plain_words(reason, error)) from error
    if not decoded.arrays:
        said = ", ".join(f"{modality} {why}" for modality, why in decoded.missing.items())
        raise MediaError(_reason_of_all(decoded.missing), f"nothing is usable: {said}")
    return decoded


def _decode(wanted: _Wanted) -> Decoded:
    """Decode from as close before the span as the file allows."""
    for lead_s in leads_s(wanted.span):
        wanted.file.seek(0)
        with open_container(wanted.file, wanted.limits) as container:
            streams, missing = wanted_streams(container, wanted.spec, wanted.limits)
            duration_s = (container.duration or 0) / av.time_base
            if isinstance(wanted.file, RangeFile) and duration_s:
                wanted.file.expect(wanted.span.length_s / duration_s)
            packets = read_packets(
                container,
                list(streams.values()),
                max_packets=wanted.limits.num_packets,
                span=wanted.span,
                lead_s=lead_s,
            )
            if packets is None:
                continue
            _check_lengths(packets, wanted.limits)
            decoded = _decode_streams(wanted, {one.stream.type: one for one in packets}, missing)
            decoded.duration_s = duration_s
            decoded.num_bytes_needed = sum(one.num_bytes for one in packets)
            return decoded
    raise MediaError("damaged", "the file cannot be read from its beginning")


def _check_lengths(packets: Sequence[StreamPackets], limits: Limits) -> None:
    """Check the stamps too, since headers need not say how long a file is."""
    for one in packets:
        if one.last_s > limits.duration_s:
            raise MediaError("too_large", f"{one.last_s:.0f} s, at most {limits.duration_s:.0f} s")


def _decode_streams(
    wanted: _Wanted, packets: Mapping[str, StreamPackets], missing: Mapping[str, str]
) -> Decoded:
    """Decode each modality; a stream that fails does not take the other with it."""
    decoded = Decoded({}, {}, decoder=PYAV.version)
    for modality, one in wanted.spec.items():
        if one.kind not in packets:
            decoded.missing[modality] = missing[one.kind]
            continue
        try:
            _decode_stream(wanted, modality, packets[one.kind], decoded)
        except MediaError as error:
            decoded.missing[modality] = error.reason
        except DECODE_ERRORS:
            decoded.missing[modality] = why_damaged(wanted.file)
    return decoded


def _decode_stream(
    wanted: _Wanted, modality: str, packets: StreamPackets, decoded: Decoded
) -> None:
    """Decode one modality from the packets of its stream."""
    spec: ModalitySpec = wanted.spec[modality]
    if isinstance(spec, VideoSpec):
        choice = choose_frames(packets, spec, wanted.span, sample_id=wanted.sample_id)
        clip = VideoClip(wanted.file, packets, choice, wanted.limits.num_frames)
        decoded.arrays[modality], decoded.decoder = decode_frames(clip, spec)
        decoded.num_valid[modality] = choice.num_valid
    elif isinstance(spec, AudioSpec):
        sound_N, num_valid = decode_audio(packets, spec, wanted.span)
        decoded.arrays[modality], decoded.num_valid[modality] = sound_N, num_valid
    else:
        raise TypeError(f"a media file has no {spec.kind}")


def _reason_of_all(missing: Mapping[str, str]) -> str:
    """Return the reason for a file of which nothing can be used."""
    reasons = list(dict.fromkeys(missing.values()))
    if len(reasons) == 1:
        return reasons[0]
    damages = [reason for reason in reasons if reason not in ("no_video", "no_audio")]
    return damages[0] if damages else "no_streams"
