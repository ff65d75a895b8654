"""Chosen frames of a video stream, exact; as little as possible is decoded for them."""

# T frames, H height, W width.

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mke_ray.data.frame_choice import FrameChoice
from mke_ray.data.packets import StreamPackets
from mke_ray.data.pixels import PixelConverter
from mke_ray.errors import MediaError
from mke_ray.schema import VideoSpec

# A frame this far from where it should be means that those between were lost.
MAX_GAP_S = 0.5

# Their packets have no times, and frames may be packed in pairs: only the order counts.
_FORMATS_WITHOUT_STAMPS = ("avi",)

# Codecs of which a packet is one frame and says whether others are predicted from it.
_DISPOSABLE = ("h264", "hevc", "mpeg2video")


def decode_video(
    packets: StreamPackets, spec: VideoSpec, choice: FrameChoice, *, max_frames: int
) -> np.ndarray:
    """Return some frames of a stream.

    Args:
        packets: Packets of a video stream.
        spec: Size of the frames.
        choice: The wanted frames.
        max_frames: Most frames that are decoded to get at them.

    Returns:
        uint8 [T, H, W, 3], upright.

    Raises:
        MediaError: The stream is damaged, or would take more than ``max_frames``.
    """
    stamps = choice.stamps
    frames = _decode_needed(packets, choice, max_frames=max_frames)
    convert = PixelConverter(spec.height, spec.width)
    pictures = [convert(_checked(frame, stamp, packets)) for frame, stamp in _pick(frames, stamps)]
    if len(pictures) < len(stamps):
        raise MediaError("damaged", f"{len(pictures)} of {len(stamps)} frames decode")
    return np.stack(pictures)


def _decode_needed(
    packets: StreamPackets, choice: FrameChoice, *, max_frames: int
) -> Iterator[VideoFrame]:
    """Yield decoded frames in order of time; what no wanted frame is predicted from is skipped."""
    stream = packets.stream
    assert isinstance(stream, VideoStream)
    has_stamps = stream.container.format.name not in _FORMATS_WITHOUT_STAMPS
    wanted = set(choice.stamps)
    runs = _needed_runs(packets.packets, wanted, may_cut=has_stamps)
    if sum(len(run) for run in runs) > max_frames:
        raise MediaError("too_large", f"more than {max_frames} frames to decode")
    for run in runs:
        frames = _decode_run(stream.codec_context, run, wanted if has_stamps else None)
        yield from frames if has_stamps else _stamped(frames, run[0], choice.stamps_S)


def _decode_run(
    context: VideoCodecContext, run: Sequence[Packet], wanted: set[int] | None
) -> Iterator[VideoFrame]:
    """Yield the frames of consecutive packets, of which the first is a keyframe.

    Where it is said which are wanted, others are left out that nothing is predicted from.
    """
    may_skip = context.name in _DISPOSABLE
    for packet in run:
        if may_skip and wanted is not None:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from context.decode(packet)
    yield from context.decode(None)
    context.flush_buffers()


def _stamped(
    frames: Iterator[VideoFrame], first: Packet, stamps_S: np.ndarray
) -> Iterator[VideoFrame]:
    """Yield frames with the stamps in their order, where those of their packets were guessed."""
    begin = int(np.searchsorted(stamps_S, first.pts or 0))
    for place, frame in enumerate(frames, begin):
        frame.pts = int(stamps_S[min(place, len(stamps_S) - 1)])
        yield frame


def _needed_runs(
    packets: Sequence[Packet], wanted: set[int], *, may_cut: bool
) -> list[list[Packet]]:
    """Return the packets to decode, in runs that each begin at a keyframe.

    A run ends with the last packet of a wanted frame, if ``may_cut``. A frame that is shown before
    its group's keyframe may also need the group before, so both are in one run.
    """
    groups = _groups_of_pictures(packets)
    runs: list[tuple[int, int, int]] = []  # first group, last group, packets of the last
    for number, group in enumerate(groups):
        places = [place for place, packet in enumerate(group) if packet.pts in wanted]
        if not places:
            continue
        first = number
        if number > 0 and _is_led(group, places):
            first = number - 1
            if runs and runs[-1][1] == first:
                first = runs.pop()[0]
        runs.append((first, number, places[-1] + 1 if may_cut else len(group)))
    return [
        [*chain.from_iterable(groups[first:last]), *groups[last][:end]] for first, last, end in runs
    ]


def _groups_of_pictures(packets: Sequence[Packet]) -> list[list[Packet]]:
    """Cut packets in decoding order before every keyframe."""
    groups: list[list[Packet]] = []
    for packet in packets:
        if packet.is_keyframe or not groups:
            groups.append([])
        groups[-1].append(packet)
    return groups


def _is_led(group: Sequence[Packet], places: Sequence[int]) -> bool:
    """Return whether one of these frames is shown before the keyframe of its group."""
    first = group[0].pts
    return first is not None and any((group[place].pts or 0) < first for place in places)


def _pick(frames: Iterator[VideoFrame], stamps: Sequence[int]) -> Iterator[tuple[VideoFrame, int]]:
    """Yield for every stamp the frame that is shown at its time."""
    previous: VideoFrame | None = None
    left = list(reversed(stamps))
    for frame in frames:
        if frame.pts is None:
            continue
        while left and frame.pts >= left[-1]:
            stamp = left.pop()
            yield (frame if frame.pts == stamp or previous is None else previous), stamp
        if not left:
            return
        previous = frame
    while left and previous is not None:
        yield previous, left.pop()


def _checked(frame: VideoFrame, stamp: int, packets: StreamPackets) -> VideoFrame:
    gap_s = abs((frame.pts or 0) - stamp) * packets.time_base
    if frame.is_corrupt or gap_s > MAX_GAP_S:
        raise MediaError("damaged", f"frame at {packets.time_s(stamp):.2f} s does not decode")
    return frame
