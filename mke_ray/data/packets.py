"""The packets of one stream of an open media file, and when they are shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mke_ray.errors import MediaError

# Streams of sound files end a frame or two before their header says so.
TOLERANCE_S = 0.25


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a clip that is wanted, in seconds from its beginning; None for its own ends."""

    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class StreamPackets:
    """All packets of one stream, still encoded.

    Args:
        stream: The stream; decodes its packets.
        packets: Its packets in decoding order.
        origin_s: Time at which the clip begins.
        interrupted: Whether reading stopped at an error.
    """

    stream: VideoStream | AudioStream
    packets: Sequence[Packet]
    origin_s: float
    interrupted: bool

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
    def last_s(self) -> float:
        """When the last packet ends."""
        ends = [p.pts + (p.duration or 0) for p in self.packets if p.pts is not None]
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


def read_packets(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream], *, max_packets: int
) -> list[StreamPackets]:
    """Return the packets of some streams, read in one pass without decoding.

    Args:
        container: An open file.
        streams: Which of its streams.
        max_packets: Most packets of all streams together.

    Raises:
        MediaError: There are more packets than that.
    """
    if not streams:
        return []  # demux() without streams would read them all
    packets: dict[int, list[Packet]] = {stream.index: [] for stream in streams}
    interrupted = False
    try:
        for number, packet in enumerate(container.demux(*streams)):
            if number >= max_packets:
                raise MediaError("too_large", f"more than {max_packets} packets")
            if packet.size:
                packets[packet.stream_index].append(packet)
    except FFmpegError:
        interrupted = True
    origin_s = (container.start_time or 0) / av.time_base
    return [
        StreamPackets(stream, packets[stream.index], origin_s, interrupted) for stream in streams
    ]
