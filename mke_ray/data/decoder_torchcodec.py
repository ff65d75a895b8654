"""Frames by torchcodec, an optional library, where it gives the right ones."""

# T frames.

import numpy as np
import torchcodec  # pyright: ignore[reportMissingImports]
from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
from torchcodec.transforms import Resize  # pyright: ignore[reportMissingImports]

from mke_ray.data.decoder import (
    NotExactError,
    VideoClip,
    check_times,
    plain_content,
    wanted_times,
)
from mke_ray.schema import VideoSpec


class TorchcodecDecoder:
    """One thread, frames scaled while they are decoded, every frame's time checked."""

    version = f"torchcodec {torchcodec.__version__}"

    def frames(self, clip: VideoClip, spec: VideoSpec) -> np.ndarray:
        """Return the wanted frames as uint8 [T, H, W, 3], upright.

        Raises:
            NotExactError: It cannot decode this file, or not exactly.
        """
        content = plain_content(clip)
        try:
            decoder = VideoDecoder(
                content,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                transforms=[Resize((spec.height, spec.width))],
            )
            found = decoder.get_frames_played_at((wanted_times(clip) + 1e-6).tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise NotExactError(f"torchcodec: {error}") from error
        check_times(clip, found.pts_seconds.numpy())
        return found.data.numpy()
