"""Mono sound of an exact length and rate from an audio stream, each sample at its own time."""

# N sound samples, C channels.

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from mke_ray.data.packets import TOLERANCE_S, WARM_UP_S, Span, StreamPackets
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec

# Stamps are rounded to milliseconds in some containers; more than this apart is a gap.
_MAX_JITTER_S = 0.02

# Sound on both sides of what is wanted, so that the resampler has what it filters over.
_MARGIN_S = 0.05

# Streams whose clock is set back come again and again; so much more than wanted is decoded.
_MAX_REPEATED_S = 10.0

# Encoders fill up the last frame; none is longer than this.
_MAX_PADDING_S = 0.15

# Share of a channel in one of mono, before their sum is made 1 (the mix of FFmpeg).
_WEIGHTS = {"FL": 0.5**0.5, "FR": 0.5**0.5, "FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
_OTHER_WEIGHT = 0.5


@dataclass(slots=True)
class _Stretch:
    """Sound without a gap.

    Args:
        begin_s: When it begins, in seconds from the beginning of the clip.
        rate_hz: Its sample rate.
        num_channels: Its channels.
        fifo: Its samples.
    """

    begin_s: float
    rate_hz: int
    num_channels: int
    fifo: AudioFifo = field(default_factory=AudioFifo)

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.begin_s + self.fifo.samples / self.rate_hz

    def takes(self, frame: AudioFrame, time_s: float | None) -> bool:
        """Append a frame if it goes on where this ends, and return whether it does."""
        if time_s is not None and abs(time_s - self.end_s) > _MAX_JITTER_S:
            return False
        if frame.layout.nb_channels != self.num_channels:
            return False  # the queue would read behind the last channel of the frame
        try:
            self.fifo.write(frame)
        except ValueError:  # another rate or format
            return False
        return True


def decode_audio(packets: StreamPackets, spec: AudioSpec, span: Span) -> tuple[np.ndarray, int]:
    """Return the first seconds of a span; silence where the stream has none.

    Args:
        packets: Packets of an audio stream.
        spec: Rate and length.
        span: Part of the clip.

    Returns:
        float32 [N] in [-1, 1], and how many of them are sound; the rest is padding.

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
    until_s = min(until_s, _end_s(packets))
    num_wanted = min(round((until_s - start_s) * spec.sample_rate_hz), spec.num_samples)
    sound_N = np.zeros(spec.num_samples, np.float32)
    num_valid = 0
    for stretch in _stretches(packets, start_s, until_s):
        part_N, place = _mono(stretch, start_s, until_s, rate_hz=spec.sample_rate_hz)
        num_valid = max(num_valid, _put(part_N, sound_N[:num_wanted], place))
    needed_s = min(until_s, packets.last_s)
    reached_s = start_s + num_valid / spec.sample_rate_hz
    if reached_s < needed_s - TOLERANCE_S:
        raise MediaError("damaged", f"sound stops at {reached_s:.2f} s of {needed_s:.2f} s")
    return np.clip(sound_N, -1.0, 1.0, out=sound_N), num_valid


def _end_s(packets: StreamPackets) -> float:
    """Return when the sound ends: before its last frame does, where the header says so."""
    declared_s = packets.declared_s
    if declared_s is None or abs(packets.last_s - declared_s) > _MAX_PADDING_S:
        return math.inf
    return declared_s


def _stretches(packets: StreamPackets, start_s: float, until_s: float) -> list[_Stretch]:
    """Return the decoded sound around what is wanted, cut where there are gaps."""
    stretches: list[_Stretch] = []
    time_base, origin_s = packets.time_base, packets.origin_s
    left_s = until_s - start_s + WARM_UP_S + _MAX_REPEATED_S
    for frame in _frames(packets, start_s):
        pts, frame.pts = frame.pts, None  # the queue would refuse stamps that are a little off
        time_s = None if pts is None else pts * time_base - origin_s
        left_s -= frame.samples / (frame.sample_rate or 1)
        if left_s < 0 or (time_s is not None and time_s > until_s + _MARGIN_S):
            break
        if stretches and stretches[-1].takes(frame, time_s):
            continue
        if time_s is None:
            time_s = stretches[-1].end_s if stretches else 0.0
        stretches.append(_Stretch(time_s, frame.sample_rate, frame.layout.nb_channels))
        stretches[-1].fifo.write(frame)
    return stretches


def _frames(packets: StreamPackets, start_s: float) -> Iterator[AudioFrame]:
    """Yield decoded frames from shortly before a time on."""
    stream = packets.stream
    assert isinstance(stream, AudioStream)
    decode = stream.codec_context.decode
    first = (start_s - WARM_UP_S + packets.origin_s) / packets.time_base
    for packet in packets.packets:
        if packet.pts is None or packet.pts >= first:
            yield from decode(packet)
    yield from decode(None)


def _mono(
    stretch: _Stretch, start_s: float, until_s: float, *, rate_hz: int
) -> tuple[np.ndarray, int]:
    """Return what is wanted of a stretch as mono at a rate, and the place of its first sample."""
    frame = stretch.fifo.read()
    if frame is None:
        return np.zeros(0, np.float32), 0
    begin = max(int((start_s - _MARGIN_S - stretch.begin_s) * stretch.rate_hz), 0)
    end = max(int((until_s + _MARGIN_S - stretch.begin_s) * stretch.rate_hz) + 1, 0)
    sound_CN = _channels(frame)[:, begin:end]
    mono_N = _weights(frame) @ sound_CN if len(sound_CN) > 1 else sound_CN[0]
    place_s = stretch.begin_s + begin / stretch.rate_hz - start_s
    return _resample(mono_N, stretch.rate_hz, rate_hz), round(place_s * rate_hz)


def _channels(frame: AudioFrame) -> np.ndarray:
    """Return the samples of a frame as float32 [C, N] in [-1, 1]."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(array.dtype, np.integer):
        return array.astype(np.float32) / 2.0 ** (8 * array.dtype.itemsize - 1)
    return array.astype(np.float32, copy=False)


def _weights(frame: AudioFrame) -> np.ndarray:
    """Return the share of each channel in mono [C]; they add up to 1."""
    names = [channel.name for channel in frame.layout.channels]
    weight_C = np.array([_WEIGHTS.get(name, _OTHER_WEIGHT) for name in names], np.float32)
    if not weight_C.any():
        weight_C[:] = 1.0
    return weight_C / weight_C.sum()


def _resample(mono_N: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    if from_hz == to_hz or not len(mono_N):
        return mono_N
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(mono_N[None]), "fltp", "mono")
    frame.sample_rate = from_hz
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_hz)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def _put(part_N: np.ndarray, sound_N: np.ndarray, place: int) -> int:
    """Write a part at its place, cut to what fits; return where it ends."""
    first, begin = max(-place, 0), max(place, 0)
    kept_N = part_N[first : first + max(len(sound_N) - begin, 0)]
    sound_N[begin : begin + len(kept_N)] = kept_N
    return begin + len(kept_N) if len(kept_N) else 0
