"""What one request, and all requests together, may take."""

from dataclasses import dataclass

from mke_ray.data.media import Limits


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """What is refused before it costs much.

    Args:
        body_bytes: Bytes of a request's body.
        file_bytes: Bytes of one file, uploaded or fetched.
        num_items: Samples in one request.
        num_pixels: Width times height of a picture or frame.
        duration_s: Length of a clip by its container.
        num_frames: Frames that are decoded to get at those that are wanted.
        decode_s: Time by the clock that decoding one sample may take.
        decode_bytes: Memory of the process that decodes.
        upload_s: Time between two parts of a body.
        request_s: Time from the first byte of a request to its answer.
        num_at_once: Requests that one replica works on at once; more are told to come again.
    """

    body_bytes: int = 64 << 20
    file_bytes: int = 32 << 20
    num_items: int = 16
    num_pixels: int = 1 << 24
    duration_s: float = 600.0
    num_frames: int = 20_000
    decode_s: float = 20.0
    decode_bytes: int = 1 << 30
    upload_s: float = 15.0
    request_s: float = 60.0
    num_at_once: int = 32

    def of_media(self) -> Limits:
        """Return the limits of the decoder."""
        return Limits(
            num_bytes=self.file_bytes,
            num_pixels=self.num_pixels,
            num_packets=20 * self.num_frames,
            num_frames=self.num_frames,
            duration_s=self.duration_s,
        )
