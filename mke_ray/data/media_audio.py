"""Mono sound of an exact length and rate from an audio stream."""

# N sound samples.

from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from mke_ray.data.packets import TOLERANCE_S, Span, StreamPackets
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec

# Decoders need a few packets before a cut until their output is right.
_WARM_UP_S = 1.0


def decode_audio(packets: StreamPackets, spec: AudioSpec, span: Span) -> np.ndarray:
    """Return the first seconds of a span; silence where the stream has none.

    Args:
        packets: Packets of an audio stream.
        spec: Rate and length.
        span: Part of the clip.

    Returns:
        float32 [N] in [-1, 1].

    Raises:
        MediaError: The stream is cut off or damaged within the wanted seconds, or has none.
    """
    start_s = span.start_s or 0.0
    until_s = start_s + spec.seconds
    if span.end_s is not None:
        until_s = min(until_s, span.end_s)
    packets.check_complete(until_s)
    if start_s > 0.0 and start_s >= packets.last_s:
        raise MediaError("empty_span", f"no sound from {start_s:.2f} s on")
    sound_N = np.zeros(spec.num_samples, np.float32)
    num_wanted = min(round((until_s - start_s) * spec.sample_rate_hz), spec.num_samples)
    end = _fill(sound_N[:num_wanted], packets, spec.sample_rate_hz, start_s)
    reached_s = start_s + end / spec.sample_rate_hz
    needed_s = min(until_s, packets.last_s)
    if reached_s < needed_s - TOLERANCE_S:
        raise MediaError("damaged", f"sound stops at {reached_s:.2f} s of {needed_s:.2f} s")
    return np.clip(sound_N, -1.0, 1.0)


def _fill(sound_N: np.ndarray, packets: StreamPackets, rate_hz: int, start_s: float) -> int:
    """Write resampled sound from a start on; return the position where it ended."""
    position: int | None = None
    for block, time_s in _resampled(packets, rate_hz, start_s):
        if position is None:
            position = round((time_s - start_s) * rate_hz)
        first = min(max(-position, 0), len(block))
        begin = max(position, 0)
        part = block[first : first + max(len(sound_N) - begin, 0)]
        sound_N[begin : begin + len(part)] = part
        position += len(block)
        if position >= len(sound_N):
            break
    return 0 if position is None else position


def _resampled(
    packets: StreamPackets, rate_hz: int, start_s: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield blocks of mono sound, each with the time at which the first of them begins."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    first_s: float | None = None
    for frame in _frames(packets, start_s):
        if first_s is None:
            first_s = 0.0 if frame.pts is None else _frame_time_s(frame, packets)
        for out in resampler.resample(frame):
            yield out.to_ndarray().reshape(-1), first_s
    for out in resampler.resample(None):
        yield out.to_ndarray().reshape(-1), first_s or 0.0


def _frames(packets: StreamPackets, start_s: float) -> Iterator[AudioFrame]:
    stream = packets.stream
    assert isinstance(stream, AudioStream)
    for packet in packets.packets:
        is_early = packet.pts is not None and packets.time_s(packet.pts) < start_s - _WARM_UP_S
        if not is_early:
            yield from stream.decode(packet)
    yield from stream.decode(None)


def _frame_time_s(frame: AudioFrame, packets: StreamPackets) -> float:
    time_base = float(frame.time_base) if frame.time_base else packets.time_base
    return (frame.pts or 0) * time_base - packets.origin_s
