"""The packets of the streams of an open media file, and when they are shown."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from mke_ray.errors import MediaError

# Streams of sound files end a frame or two before their header says so.
TOLERANCE_S = 0.25

# Decoders of sound need a few packets before a cut until their output is right.
WARM_UP_S = 1.0

# How long before a span reading begins, from the cheapest try to the safest.
_LEADS_S = (WARM_UP_S + 0.5, 5.0, 20.0)

# How far the streams of a file may lie apart; players do not buffer more either.
_SKEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a clip that is wanted, in seconds from its beginning; None for its own ends."""

    start_s: float | None = None
    end_s: float | None = None

    @property
    def length_s(self) -> float:
        """Its length, without end where it has none of its own."""
        return math.inf if self.end_s is None else self.end_s - (self.start_s or 0.0)


WHOLE = Span()


@dataclass(frozen=True, slots=True)
class StreamPackets:
    """The packets of one stream that a span needs, still encoded.

    Args:
        stream: The stream; decodes its packets.
        packets: Its packets in decoding order.
        origin_s: Time at which the clip begins.
        interrupted: Whether reading stopped at an error.
    """

    stream: VideoStream | AudioStream
    packets: Sequence[Packet]
    origin_s: float
    interrupted: bool = False

    def time_s(self, pts: int) -> float:
        """Return the time of a presentation stamp, in seconds from the beginning of the clip."""
        return float(pts * self.time_base) - self.origin_s

    @property
    def time_base(self) -> float:
        """Seconds per unit of the presentation stamps."""
        if self.stream.time_base is None:
            raise MediaError("damaged", f"{self.stream.type} stream has no time base")
        return float(self.stream.time_base)

    @property
    def num_bytes(self) -> int:
        """Bytes of the packets."""
        return sum(packet.size for packet in self.packets)

    @property
    def last_s(self) -> float:
        """When the last packet ends, of those that are not cut away by an edit list."""
        ends = [
            packet.pts + (packet.duration or 0)
            for packet in self.packets
            if packet.pts is not None and not packet.is_discard
        ]
        return self.time_s(max(ends)) if ends else 0.0

    @property
    def declared_s(self) -> float | None:
        """When the stream ends by its header, None where the header does not say."""
        if self.stream.duration is None:
            return None
        return self.time_s((self.stream.start_time or 0) + self.stream.duration)

    def check_complete(self, until_s: float | None) -> None:
        """Check that the packets reach the end of the stream, or of the wanted span.

        Args:
            until_s: End of what is wanted, None for the whole stream.

        Raises:
            MediaError: The file was cut off before that.
        """
        needed_s = min(
            math.inf if until_s is None else until_s,
            math.inf if self.declared_s is None else self.declared_s,
        )
        cut_off = self.interrupted and math.isinf(needed_s)
        if cut_off or (self.last_s < needed_s - TOLERANCE_S and not math.isinf(needed_s)):
            raise MediaError(
                "truncated",
                f"{self.stream.type} ends at {self.last_s:.2f} s, expected {needed_s:.2f} s",
            )


def leads_s(span: Span) -> Iterator[float | None]:
    """Yield how long before a span to begin reading, cheapest first; None is the beginning."""
    for lead_s in _LEADS_S:
        if span.start_s is not None and span.start_s > 2 * lead_s:
            yield lead_s
    yield None


def read_packets(
    container: InputContainer,
    streams: Sequence[VideoStream | AudioStream],
    *,
    max_packets: int,
    span: Span = WHOLE,
    lead_s: float | None = None,
) -> list[StreamPackets] | None:
    """Return the packets of some streams that a span needs, without decoding any.

    Args:
        container: A file that was just opened.
        streams: Which of its streams; the others are not read.
        max_packets: Most packets of all streams together.
        span: Part of the clip; reading stops behind its end.
        lead_s: Begin at the keyframe that lies this long before the span, None for the beginning.

    Returns:
        The packets, or None where the file has no index that leads to what the span needs.

    Raises:
        MediaError: There are more packets than that.
    """
    if not streams:
        return []  # demux() without streams would read them all
    for stream in container.streams:
        stream.discard = Discard.default if stream in streams else Discard.all
    start_s = span.start_s or 0.0
    if lead_s is not None and not _seek(container, streams, start_s - lead_s):
        return None
    found = _demux(container, streams, span.end_s, max_packets=max_packets)
    if lead_s is None:
        return found
    found = [_from_keyframe(one) for one in found]
    return found if all(_reaches_back(one, start_s) for one in found) else None


def _seek(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream], time_s: float
) -> bool:
    """Go to the last keyframe before a time; return whether the file allowed it."""
    stream = min(streams, key=lambda one: one.type != "video")
    seconds = time_s + _origin_s(container)
    try:
        container.seek(math.floor(seconds / (stream.time_base or 1)), stream=stream)
    except FFmpegError:
        return False
    return True


def _demux(
    container: InputContainer,
    streams: Sequence[VideoStream | AudioStream],
    end_s: float | None,
    *,
    max_packets: int,
) -> list[StreamPackets]:
    """Read packets from here to a time, or to the end of the file."""
    packets: dict[int, list[Packet]] = {stream.index: [] for stream in streams}
    origin_s = _origin_s(container)
    until_s = math.inf if end_s is None else end_s + origin_s
    bounds = {one.index: until_s / float(one.time_base or 1) for one in streams}
    skews = {one.index: _SKEW_S / float(one.time_base or 1) for one in streams}
    waiting, interrupted = set(packets), False
    try:
        for number, packet in enumerate(container.demux(*streams)):
            if number >= max_packets:
                raise MediaError("too_large", f"more than {max_packets} packets")
            if not packet.size:
                continue
            index, dts = packet.stream_index, packet.dts
            packets[index].append(packet)
            if dts is not None and dts > bounds[index]:
                waiting.discard(index)
                if not waiting or dts > bounds[index] + skews[index]:
                    break
    except FFmpegError:
        interrupted = True
    return [
        StreamPackets(stream, packets[stream.index], origin_s, interrupted) for stream in streams
    ]


def _from_keyframe(packets: StreamPackets) -> StreamPackets:
    """Return packets without those before the first keyframe, which lack what they refer to."""
    places = (place for place, packet in enumerate(packets.packets) if packet.is_keyframe)
    return replace(packets, packets=packets.packets[next(places, 0) :])


def _reaches_back(packets: StreamPackets, start_s: float) -> bool:
    """Return whether packets begin early enough for what is shown or heard from a time on."""
    first = next((one for one in packets.packets if one.pts is not None), None)
    if first is None or first.pts is None:
        return False
    if isinstance(packets.stream, VideoStream):
        return first.is_keyframe and packets.time_s(first.pts) <= start_s
    return packets.time_s(first.pts) <= start_s - WARM_UP_S


def _origin_s(container: InputContainer) -> float:
    return (container.start_time or 0) / av.time_base
