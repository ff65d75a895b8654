"""Uniformly chosen frames of a video stream; only those are converted to pixels."""

# T frames, H height, W width.

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from mke_ray.data.packets import Span, StreamPackets
from mke_ray.errors import MediaError
from mke_ray.schema import VideoSpec

# A frame this far from where it should be means that those between were lost.
MAX_GAP_S = 0.5


def decode_video(packets: StreamPackets, spec: VideoSpec, span: Span) -> np.ndarray:
    """Return the frames shown at uniform times over a span.

    Args:
        packets: Packets of a video stream.
        spec: Number and size of the frames.
        span: Part of the clip; ``t_k = start + (k + 0.5) / T * duration``.

    Returns:
        uint8 [T, H, W, 3], upright.

    Raises:
        MediaError: The stream is cut off or damaged, or the span holds no frame.
    """
    targets = _target_stamps(packets, spec.num_frames, span)
    frames = _decode_needed(packets, targets)
    convert = _Converter(spec)
    pictures = [
        convert(_checked(frame, target, packets)) for frame, target in _pick(frames, targets)
    ]
    if len(pictures) < spec.num_frames:
        raise MediaError("damaged", f"{len(pictures)} of {spec.num_frames} frames decode")
    return np.stack(pictures)


def _target_stamps(packets: StreamPackets, num_frames: int, span: Span) -> list[int]:
    """Return the presentation stamps of the wanted frames, ascending."""
    packets.check_complete(span.end_s)
    shown = [p.pts for p in packets.packets if p.pts is not None and not p.is_discard]
    if not shown:
        raise MediaError("damaged", "the video stream has no frame with a time")
    stamps = np.unique(np.array(shown, dtype=np.int64))
    begin_s = max(packets.time_s(int(stamps[0])), 0.0)
    start_s = begin_s if span.start_s is None else span.start_s
    end_s = packets.last_s if span.end_s is None else min(span.end_s, packets.last_s)
    if start_s >= max(end_s, packets.time_s(int(stamps[-1]))) and start_s > begin_s:
        raise MediaError("empty_span", f"no frame between {start_s:.2f} and {end_s:.2f} s")
    times_T = start_s + (np.arange(num_frames) + 0.5) / num_frames * max(end_s - start_s, 0.0)
    positions_T = (times_T + packets.origin_s) / packets.time_base
    index_T = np.searchsorted(stamps, positions_T + 1e-6, side="right") - 1
    return [int(stamp) for stamp in stamps[np.clip(index_T, 0, len(stamps) - 1)]]


def _decode_needed(packets: StreamPackets, targets: Sequence[int]) -> Iterator[VideoFrame]:
    """Yield decoded frames in order of time, skipping groups of pictures without a target."""
    stream = packets.stream
    assert isinstance(stream, VideoStream)
    wanted = set(targets)
    groups = _groups_of_pictures(packets.packets)
    needed = _needed_groups(groups, wanted)
    for here, after in pairwise([*needed, None]):
        for packet in groups[here] if here is not None else ():
            if packet.is_disposable and packet.pts not in wanted:
                continue
            yield from stream.decode(packet)
        if here is None or after != here + 1:
            yield from stream.decode(None)
            stream.codec_context.flush_buffers()


def _groups_of_pictures(packets: Sequence[Packet]) -> list[list[Packet]]:
    """Cut packets in decoding order before every keyframe."""
    groups: list[list[Packet]] = []
    for packet in packets:
        if packet.is_keyframe or not groups:
            groups.append([])
        groups[-1].append(packet)
    return groups


def _needed_groups(groups: Sequence[Sequence[Packet]], wanted: set[int]) -> list[int]:
    """Return the groups to decode, in order.

    A frame that is shown before its group's keyframe may also need the group before.
    """
    needed: set[int] = set()
    for number, group in enumerate(groups):
        hits = [packet.pts for packet in group if packet.pts in wanted]
        if not hits:
            continue
        needed.add(number)
        first = group[0].pts
        if number > 0 and first is not None and min(hits) < first:
            needed.add(number - 1)
    return sorted(needed)


def _pick(frames: Iterator[VideoFrame], targets: Sequence[int]) -> Iterator[tuple[VideoFrame, int]]:
    """Yield for every target the frame that is shown at its time."""
    previous: VideoFrame | None = None
    left = list(reversed(targets))
    for frame in frames:
        if frame.pts is None:
            continue
        while left and frame.pts >= left[-1]:
            target = left.pop()
            yield (frame if frame.pts == target or previous is None else previous), target
        if not left:
            return
        previous = frame
    while left and previous is not None:
        yield previous, left.pop()


def _checked(frame: VideoFrame, target: int, packets: StreamPackets) -> VideoFrame:
    gap_s = abs((frame.pts or 0) - target) * packets.time_base
    if frame.is_corrupt or gap_s > MAX_GAP_S:
        raise MediaError("damaged", f"frame at {packets.time_s(target):.2f} s does not decode")
    return frame


class _Converter:
    """Turns decoded frames into upright pixels of one size; repeated frames are converted once."""

    def __init__(self, spec: VideoSpec) -> None:
        self._spec = spec
        self._reformatter = VideoReformatter()
        self._last: tuple[VideoFrame, np.ndarray] | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        if self._last is None or self._last[0] is not frame:
            self._last = (frame, self._convert(frame))
        return self._last[1]

    def _convert(self, frame: VideoFrame) -> np.ndarray:
        quarter_turns = round(frame.rotation / 90) % 4
        height, width = self._spec.height, self._spec.width
        if quarter_turns % 2:
            height, width = width, height
        small = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA,
            threads=1,
        )
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), quarter_turns))
