"""Which frames of a stream stand for a clip: uniform, at a rate, by chance, or keyframes only."""

# T frames, S shown frames.

from dataclasses import dataclass

import numpy as np

from mke_ray.data.packets import Span, StreamPackets
from mke_ray.errors import MediaError
from mke_ray.schema import Sampling, VideoSpec
from mke_ray.seeds import mix_integers

# Tells these random numbers from others of the same seed and sample.
_STREAM = 0x6672616D

# Stamps are whole numbers and times are not: a frame is shown from its own time on.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """The frames that were chosen.

    Args:
        stamps: Presentation stamp of each, ascending [T].
        positions: Place of each among all shown frames of the packets [T].
        stamps_S: Presentation stamps of all shown frames, ascending [S].
        num_valid: How many of them the span holds; the others repeat the last.
    """

    stamps: list[int]
    positions: list[int]
    stamps_S: np.ndarray
    num_valid: int


def choose_frames(
    packets: StreamPackets, spec: VideoSpec, span: Span, *, sample_id: int = 0
) -> FrameChoice:
    """Return the frames that stand for a span.

    Args:
        packets: Packets of a video stream.
        spec: How many, and how they are sampled.
        span: Part of the clip.
        sample_id: Decides with the seed of the specification what is drawn by chance.

    Raises:
        MediaError: The stream is cut off or damaged, or the span holds no frame.
    """
    packets.check_complete(span.end_s)
    stamps_S = _shown_stamps(packets)
    start_s, end_s = _bounds(packets, stamps_S, span)
    times_T, num_valid = _times(spec, start_s, end_s, sample_id=sample_id)
    index_T = _last_before(stamps_S, _stamps_at(times_T, packets))
    if spec.sampling == Sampling.KEYFRAME:
        index_T = _nearest_keyframes(packets, stamps_S, times_T, end_s=end_s)
    positions = [int(position) for position in index_T]
    return FrameChoice([int(stamps_S[p]) for p in positions], positions, stamps_S, num_valid)


def _shown_stamps(packets: StreamPackets) -> np.ndarray:
    shown = [p.pts for p in packets.packets if p.pts is not None and not p.is_discard]
    if not shown:
        raise MediaError("damaged", "the video stream has no frame with a time")
    return np.unique(np.array(shown, dtype=np.int64))


def _bounds(packets: StreamPackets, stamps_S: np.ndarray, span: Span) -> tuple[float, float]:
    """Return start and end of what is there of a span, in seconds."""
    begin_s = max(packets.time_s(int(stamps_S[0])), 0.0)
    last_s = packets.last_s
    start_s = begin_s if span.start_s is None else span.start_s
    end_s = last_s if span.end_s is None else min(span.end_s, last_s)
    if start_s >= max(end_s, packets.time_s(int(stamps_S[-1]))) and start_s > begin_s:
        raise MediaError("empty_span", f"no frame between {start_s:.2f} and {end_s:.2f} s")
    return start_s, max(end_s, start_s)


def _times(
    spec: VideoSpec, start_s: float, end_s: float, *, sample_id: int
) -> tuple[np.ndarray, int]:
    """Return the times [T] to show, and how many of them the span holds."""
    number_T = np.arange(spec.num_frames)
    if spec.sampling == Sampling.FPS:
        times_T = start_s + number_T / (spec.rate_hz or 1.0)
        num_valid = max(int((times_T < end_s).sum()), 1)
        return times_T[np.minimum(number_T, num_valid - 1)], num_valid
    within_T = np.full(spec.num_frames, 0.5)
    if spec.sampling == Sampling.RANDOM:
        key = mix_integers(spec.seed, sample_id, _STREAM)
        within_T = np.random.default_rng(key).random(spec.num_frames)
    times_T = start_s + (number_T + within_T) / spec.num_frames * (end_s - start_s)
    return times_T, spec.num_frames


def _stamps_at(times_T: np.ndarray, packets: StreamPackets) -> np.ndarray:
    return (times_T + packets.origin_s) / packets.time_base


def _last_before(stamps_S: np.ndarray, at_T: np.ndarray) -> np.ndarray:
    """Return the position of the frame that is shown at each time."""
    index_T = np.searchsorted(stamps_S, at_T + _ROUNDING, side="right") - 1
    return np.clip(index_T, 0, len(stamps_S) - 1)


def _nearest_keyframes(
    packets: StreamPackets, stamps_S: np.ndarray, times_T: np.ndarray, *, end_s: float
) -> np.ndarray:
    """Return the position of the keyframe that is nearest to each time and within the span."""
    keys = {p.pts for p in packets.packets if p.is_keyframe and p.pts is not None}
    key_S = np.isin(stamps_S, list(keys))
    if not key_S.any():
        raise MediaError("damaged", "the video stream has no keyframe")
    place_K = np.flatnonzero(key_S)
    stamps_K = stamps_S[place_K]
    at_T = _stamps_at(times_T, packets)
    first = _last_before(stamps_K, at_T[:1])[0]
    end = max(int((stamps_K < _stamps_at(np.array([end_s]), packets)[0]).sum()), int(first) + 1)
    near_K = stamps_K[first:end]
    nearest_T = np.abs(near_K[None, :] - at_T[:, None]).argmin(axis=1)
    return place_K[first:end][nearest_T]
