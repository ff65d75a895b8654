"""Sound of 16 bits in fewer bytes, and back to the same samples, in memory."""

# N sound samples.

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.error import FFmpegError

from mke_ray.errors import StoreError

# Of the levels, 5 is the first that saves as much as any; longer frames are read faster.
_OPTIONS = {"compression_level": "5", "frame_size": "4096"}
# A damaged frame is an error: without this it is left out.
_STRICT = {"err_detect": "crccheck+explode"}


def encode_flac(sound_N: np.ndarray, sample_rate_hz: int) -> list[bytes]:
    """Return the stream header and then one piece per FLAC frame.

    Args:
        sound_N: Sound of one channel, int16 [N].
        sample_rate_hz: Its sample rate.

    Source:
        Coalson, Xiph.Org, RFC 9639, Free Lossless Audio Codec, 2024, sections 8.2 and 9.
    """
    if not len(sound_N):
        return []
    encoder = av.AudioCodecContext.create("flac", "w")
    encoder.sample_rate = sample_rate_hz
    encoder.time_base = Fraction(1, sample_rate_hz)
    encoder.layout, encoder.format = "mono", "s16"
    encoder.options = _OPTIONS
    encoder.open()
    packets = [packet for frame in _frames(encoder, sound_N) for packet in encoder.encode(frame)]
    packets += encoder.encode(None)
    return [bytes(encoder.extradata or b""), *(bytes(one) for one in packets if one.size)]


def decode_flac(pieces: list[bytes], *, num_samples: int) -> np.ndarray:
    """Return sound, int16 [N].

    Args:
        pieces: What ``encode_flac`` returned.
        num_samples: Samples that it should have; no more are decoded than a frame beyond them.

    Raises:
        StoreError: The pieces are damaged, or hold sound of another kind or length.
    """
    try:
        blocks = _decoded(pieces, num_samples) if pieces else []
    except (FFmpegError, ValueError) as error:
        raise StoreError(f"FLAC sound is damaged: {error}; decode the sample again") from error
    sound_N = np.concatenate([np.zeros(0, np.int16), *blocks])
    if sound_N.dtype != np.int16 or len(sound_N) != num_samples:
        raise StoreError(
            f"FLAC sound has {len(sound_N)} samples of {sound_N.dtype}, its specification asks for "
            f"{num_samples} of int16; it is damaged, or of another store"
        )
    return sound_N


def _frames(encoder: av.AudioCodecContext, sound_N: np.ndarray) -> Iterator[av.AudioFrame]:
    """Yield sound in frames of the length that the encoder takes."""
    for start in range(0, len(sound_N), encoder.frame_size):
        part_N = np.ascontiguousarray(sound_N[start : start + encoder.frame_size])
        frame = av.AudioFrame.from_ndarray(part_N[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = encoder.sample_rate, start
        yield frame


def _decoded(pieces: list[bytes], num_samples: int) -> list[np.ndarray]:
    """Return the sound of each frame, until there are more samples than there should be."""
    decoder = av.AudioCodecContext.create("flac", "r")
    decoder.extradata = pieces[0]
    decoder.options = _STRICT
    decoder.thread_count = 1
    blocks, num_decoded = [], 0
    for piece in pieces[1:]:
        for frame in decoder.decode(av.Packet(piece)):
            blocks.append(frame.to_ndarray()[0])
            num_decoded += len(blocks[-1])
        if num_decoded > num_samples:
            break
    return blocks
