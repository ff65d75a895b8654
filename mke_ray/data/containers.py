"""Media files that nobody vouches for: which are opened at all, and how large they may be."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from mke_ray.errors import MediaError
from mke_ray.schema import DecodeSpec

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,wav,mp3,flac,aac"

CODECS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpegvideo,mpeg4,"
    "msmpeg4v1,msmpeg4v2,msmpeg4,h263,h263p,flv,vc1,wmv1,wmv2,wmv3,theora,mjpeg,gif,prores,"
    "dvvideo,ffv1,rawvideo,"
    "aac,aac_latm,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,flac,alac,"
    "ac3,eac3,dca,wmav1,wmav2,wmapro,amrnb,libopencore_amrnb,amrwb,libopencore_amrwb,adpcm_ms,"
    "adpcm_ima_wav,adpcm_ima_qt,adpcm_swf,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le"
)

# What PyAV raises for damaged input, apart from its own family of errors.
DECODE_ERRORS = (FFmpegError, UnicodeDecodeError, ValueError, IndexError, OverflowError)

_MEANING = {
    "truncated": "the file was cut off, its end is missing",
    "damaged": "the content of the file is damaged",
    "unsupported": "not a media file of a format that is read",
}
_CODECS = frozenset(CODECS.split(","))
_MAX_BOXES = 10_000
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
_MAGIC = (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"fLaC", b"FLV", b"GIF8", b"ID3", b"\x00\x00\x01\xba")


class MediaFile(Protocol):
    """A file that can be read at any place."""

    def read(self, size: int = -1, /) -> bytes:
        """Return bytes from the position on, fewer at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position and return it."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file that is decoded at all.

    Args:
        num_bytes: Size of the file.
        num_pixels: Width times height of its frames.
        num_packets: Packets of the streams that are read.
        num_frames: Frames that must be decoded for those that are wanted.
        num_channels: Channels of its sound.
        duration_s: Length by the container.
    """

    num_bytes: int = 1 << 30
    num_pixels: int = 1 << 26
    num_packets: int = 2_000_000
    num_frames: int = 100_000
    num_channels: int = 64
    duration_s: float = 6 * 3600.0


LIMITS = Limits()


def open_container(file: MediaFile, limits: Limits) -> InputContainer:
    """Open a media file; nothing but the file itself can be reached from it.

    Args:
        file: The file, readable and seekable.
        limits: The largest file accepted.

    Raises:
        MediaError: It is longer than that.
    """
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": CODECS,
        "protocol_whitelist": "",
        "max_pixels": str(limits.num_pixels),
        "max_streams": "100",
    }
    container = av.open(file, mode="r", options=options, metadata_errors="replace")
    duration_s = (container.duration or 0) / av.time_base
    if duration_s > limits.duration_s:
        container.close()
        raise MediaError("too_large", f"{duration_s:.0f} s, at most {limits.duration_s:.0f} s")
    return container


def wanted_streams(
    container: InputContainer, spec: DecodeSpec, limits: Limits
) -> tuple[dict[str, VideoStream | AudioStream], dict[str, str]]:
    """Return the first video and audio stream that a specification needs; no cover pictures.

    Returns:
        The streams by kind, and for a kind without one the reason.

    Raises:
        MediaError: One of them has larger frames or more channels than are accepted.
    """
    streams: dict[str, VideoStream | AudioStream] = {}
    missing: dict[str, str] = {}
    for kind in dict.fromkeys(one.kind for one in spec.values()):
        here = container.streams.video if kind == "video" else container.streams.audio
        shown = [one for one in here if not one.disposition & Disposition.attached_pic]
        readable = [one for one in shown if one.codec_context and one.codec_context.name in _CODECS]
        if readable:
            streams[kind] = readable[0]
            _prepare(readable[0], limits)
        else:
            missing[kind] = "unsupported" if shown else f"no_{kind}"
    return streams, missing


def _prepare(stream: VideoStream | AudioStream, limits: Limits) -> None:
    """Bound what a stream may cost to decode."""
    context = stream.codec_context
    context.thread_type = "NONE"
    context.thread_count = 1
    if isinstance(stream, AudioStream):
        num_channels = stream.codec_context.channels
        if num_channels > limits.num_channels:
            raise MediaError("too_large", f"{num_channels} channels, at most {limits.num_channels}")
        return
    context.options = {"max_pixels": str(limits.num_pixels)}
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.num_pixels:
        raise MediaError("too_large", f"{width}x{height} pixels, at most {limits.num_pixels}")


def in_plain_words(reason: str, error: BaseException) -> str:
    """Return what a reason of ``why_damaged`` means, with the words of FFmpeg where it has any.

    Args:
        reason: The reason.
        error: What FFmpeg or PyAV raised.
    """
    said = error.strerror if isinstance(error, FFmpegError) else None
    return f"{_MEANING[reason]} (FFmpeg: {said})" if said else _MEANING[reason]


def why_damaged(file: MediaFile) -> str:
    """Tell a file that was cut off from a damaged one, and both from what is no media file."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in _MP4_BOXES:
        size = file.seek(0, io.SEEK_END)
        names = []
        for name, end in _mp4_boxes(file, size):
            names.append(name)
            if end > size:
                return "truncated"
        return "damaged" if b"moov" in names else "truncated"
    return "damaged" if head.startswith(_MAGIC) else "unsupported"


def _mp4_boxes(file: MediaFile, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the name and end of every top-level box of an MP4 file."""
    begin = 0
    for _ in range(_MAX_BOXES):
        file.seek(begin)
        head = file.read(16)
        if len(head) < 8:
            return
        length, name = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            length = struct.unpack_from(">Q", head, 8)[0]
        end = size if length == 0 else begin + max(length, 8)
        yield name, end
        begin = end
