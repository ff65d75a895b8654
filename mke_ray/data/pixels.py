"""From a decoded frame to upright RGB pixels of one size, in the colours of an ordinary screen."""

# H height, W width.

from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter

# Transfer curves of high dynamic range.
HDR_CURVES = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)

# Luminance of white paper and of the brightest light kept, in cd/m2 (ITU-R BT.2408).
_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0

# Linear light up to here, of white, is kept as it is; what is brighter is compressed.
_KNEE = 0.7

# From the primaries of BT.2020 to those of BT.709 (ITU-R BT.2087).
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)


class PixelConverter:
    """Turns decoded frames into pixels; a frame that comes again is converted once.

    The matrix and range that the stream declares are honoured; without a declaration they are
    BT.601 and limited, as FFmpeg has it. High dynamic range becomes standard range: white paper
    stays white, highlights are compressed, colours outside BT.709 are clipped.

    Args:
        height: Wanted height in pixels.
        width: Wanted width in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._reformatter = VideoReformatter()
        self._last: tuple[VideoFrame, np.ndarray] | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return a frame as uint8 [H, W, 3]."""
        if self._last is None or self._last[0] is not frame:
            self._last = (frame, self._convert(frame))
        return self._last[1]

    def _convert(self, frame: VideoFrame) -> np.ndarray:
        quarter_turns = round(frame.rotation / 90) % 4
        height, width = self._height, self._width
        if quarter_turns % 2:
            height, width = width, height
        is_hdr = frame.color_trc in HDR_CURVES
        small = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb48le" if is_hdr else "rgb24",
            interpolation=Interpolation.AREA,
            threads=1,
        )
        pixels_HW3 = small.to_ndarray()
        if is_hdr:
            pixels_HW3 = to_standard_range(pixels_HW3, frame.color_trc)
        return np.ascontiguousarray(np.rot90(pixels_HW3, quarter_turns))


def to_standard_range(signal_HW3: np.ndarray, curve: int) -> np.ndarray:
    """Return high-dynamic-range pixels as an ordinary screen shows them.

    Args:
        signal_HW3: BT.2020 pixels [H, W, 3], uint16.
        curve: Their transfer curve, one of ``HDR_CURVES``.

    Returns:
        BT.709 pixels [H, W, 3], uint8.

    Source:
        ITU-R BT.2100 (curves), BT.2408 (white), BT.2087 (primaries).
    """
    light_HW3 = _light_of_signal(curve)[signal_HW3]
    if curve == ColorTrc.ARIB_STD_B67:
        luminance_HW = light_HW3 @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light_HW3 = light_HW3 * luminance_HW[..., None] ** 0.2 * (_PEAK_NITS / _WHITE_NITS)
    light_HW3 = np.maximum(light_HW3 @ _TO_709.T, 0.0)
    brightest_HW1 = light_HW3.max(axis=-1, keepdims=True)
    light_HW3 = light_HW3 * (_compress(brightest_HW1) / np.maximum(brightest_HW1, 1e-6))
    bent_HW3 = np.where(
        light_HW3 < 0.018, 4.5 * light_HW3, 1.099 * np.maximum(light_HW3, 0.018) ** 0.45 - 0.099
    )
    return np.rint(np.clip(bent_HW3, 0.0, 1.0) * 255.0).astype(np.uint8)


@lru_cache
def _light_of_signal(curve: int) -> np.ndarray:
    """Return the light of every 16-bit signal: of white for PQ, of the scene for HLG."""
    signal = np.arange(1 << 16) / 65535.0
    if curve == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        return light.astype(np.float32)
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** (1 / m2)
    nits = 10000.0 * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    return (nits / _WHITE_NITS).astype(np.float32)


def _compress(light: np.ndarray) -> np.ndarray:
    """Bend what is brighter than the knee so that the peak becomes 1."""
    over = np.maximum(light - _KNEE, 0.0) / (1 - _KNEE)
    peak = (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    return np.where(
        light <= _KNEE, light, _KNEE + (1 - _KNEE) * over * (1 + over / peak**2) / (1 + over)
    )
