"""Frames by torchcodec, an optional library, where it gives the right ones."""

# T frames.

import numpy as np
import torchcodec  # pyright: ignore[reportMissingImports]
from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
from torchcodec.transforms import Resize  # pyright: ignore[reportMissingImports]

from mke_ray.data.decoder import NotExactError, VideoClip, check_plain
from mke_ray.schema import VideoSpec


class TorchcodecDecoder:
    """One thread, frames scaled while they are decoded, every frame's time checked."""

    version = f"torchcodec {torchcodec.__version__}"

    def frames(self, clip: VideoClip, spec: VideoSpec) -> np.ndarray:
        """Return the wanted frames as uint8 [T, H, W, 3], upright.

        Raises:
            NotExactError: It cannot decode this file, or not exactly.
        """
        check_plain(clip)
        clip.file.seek(0)
        times_T = np.array([clip.packets.time_s(stamp) for stamp in clip.choice.stamps])
        try:
            decoder = VideoDecoder(
                clip.file.read(),
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                transforms=[Resize((spec.height, spec.width))],
            )
            found = decoder.get_frames_played_at((times_T + 1e-6).tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise NotExactError(f"torchcodec: {error}") from error
        late_T = np.abs(found.pts_seconds.numpy() - times_T) > 2 * clip.packets.time_base + 1e-3
        if late_T.any():
            raise NotExactError(f"torchcodec: no frame at {times_T[late_T][0]:.3f} s")
        return found.data.numpy()
