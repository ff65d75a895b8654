"""Frames of a demo clip: a handwritten digit that drifts over moving clutter."""

# T frames, H height, W width, P side of a patch.

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZES = ((96, 96), (96, 128), (128, 96), (112, 112), (120, 160), (144, 112))  # height, width
RATES_HZ = (12, 15, 20, 24, 25, 30)

# Per plane: its scale, and the mean and deviation of the background.
_BACKGROUND = ((1, 70.0, 18.0), (2, 128.0, 6.0), (2, 128.0, 6.0))
# Blue and red of what is drawn, relative to its brightness: warm ink, cold clutter.
_INK = (-0.15, 0.45)
_CLUTTER = ((-0.2, 0.4), (-0.5, 0.1))


@dataclass(frozen=True, slots=True)
class VideoDifficulty:
    """How hard the digit is to see; frozen, since results are compared across versions.

    Args:
        contrast: Brightness of the digit over its background at severity 0 and 1.
        clutter: Brightness of the strokes at severity 0 and 1.
        num_strokes: Strokes that drift through the picture at severity 0 and 1.
        noise: Deviation of the pixel noise at severity 0 and 1.
        digit_side: Side of the digit as a share of the picture's shorter side, smallest and
            largest.
        tail: Power of the severity: above 1, most clips are rather clear and a few hopeless.
    """

    contrast: tuple[float, float] = (120.0, 5.0)
    clutter: tuple[float, float] = (40.0, 70.0)
    num_strokes: tuple[int, int] = (2, 5)
    noise: tuple[float, float] = (4.0, 14.0)
    digit_side: tuple[float, float] = (0.55, 0.75)
    tail: float = 2.2


DIFFICULTY = VideoDifficulty()


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures in the layout that h264 stores.

    Args:
        luma_THW: Brightness, uint8 [T, H, W].
        chroma: Both colour planes, uint8 [T, H / 2, W / 2].
        rate_hz: Frames per second.
    """

    luma_THW: np.ndarray
    chroma: tuple[np.ndarray, np.ndarray]
    rate_hz: int


def render_frames(
    digit_88: np.ndarray,
    *,
    severity: float,
    duration_s: float,
    rng: np.random.Generator,
    difficulty: VideoDifficulty = DIFFICULTY,
) -> Frames:
    """Draw a clip.

    Args:
        digit_88: A handwritten digit [8, 8], 0 to 16.
        severity: 0 for the clearest picture, 1 for the worst.
        duration_s: Length of the clip.
        rng: Draws everything else.
        difficulty: What severity means.
    """
    severity = severity**difficulty.tail
    height, width = SIZES[rng.integers(len(SIZES))]
    rate_hz = int(rng.choice(RATES_HZ))
    num_frames = max(round(duration_s * rate_hz), 2)
    planes = _background(rng, (num_frames, height, width), rate_hz)
    num_strokes = round(_between(difficulty.num_strokes, severity))
    shorter = min(height, width)
    for _ in range(num_strokes):
        side = round(shorter * rng.uniform(*difficulty.digit_side))
        strength = _between(difficulty.clutter, severity) * rng.uniform(0.6, 1.0)
        tints = (rng.uniform(*_CLUTTER[0]), rng.uniform(*_CLUTTER[1]))
        _add_drifting(planes, _stroke(rng, side) * strength, tints, rng=rng, rate_hz=rate_hz)
    side = round(shorter * rng.uniform(*difficulty.digit_side))
    digit_PP = _enlarge(np.pad(digit_88.astype(np.float32) / 16.0, 1), side)
    digit_PP = digit_PP * _between(difficulty.contrast, severity)
    _add_drifting(planes, digit_PP, _INK, rng=rng, rate_hz=rate_hz)
    _add_noise(planes[0], rng, _between(difficulty.noise, severity))
    luma, blue, red = (np.clip(plane, 0.0, 255.0).astype(np.uint8) for plane in planes)
    return Frames(luma, (blue, red), rate_hz)


def _between(ends: tuple[float, float], severity: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * severity


def _background(
    rng: np.random.Generator, shape_THW: tuple[int, int, int], rate_hz: int
) -> list[np.ndarray]:
    """Return brightness and both colours of a soft texture that moves."""
    num_frames, height, width = shape_THW
    planes = []
    for scale, middle, spread in _BACKGROUND:
        rows, columns = height // scale, width // scale
        texture = _enlarge(rng.normal(middle, spread, (10, 10)), 2 * max(rows, columns))
        path_T2 = _path(rng, num_frames, rate_hz, np.array([rows, columns]))
        views = np.lib.stride_tricks.sliding_window_view(texture, (rows, columns))
        planes.append(views[path_T2[:, 0], path_T2[:, 1]].astype(np.float32))
    return planes


def _add_drifting(
    planes: list[np.ndarray],
    patch_PP: np.ndarray,
    tints: tuple[float, float],
    *,
    rng: np.random.Generator,
    rate_hz: int,
) -> None:
    """Add a tinted patch along a path of its own."""
    luma_THW, *chroma = planes
    num_frames, height, width = luma_THW.shape
    side = len(patch_PP)
    path_T2 = _path(rng, num_frames, rate_hz, np.array([height - side, width - side]))
    half_PP = patch_PP[::2, ::2]
    for frame, (row, column) in enumerate(path_T2):
        luma_THW[frame, row : row + side, column : column + side] += patch_PP
        for plane, tint in zip(chroma, tints, strict=True):
            place = plane[frame, row // 2 :, column // 2 :][: len(half_PP), : len(half_PP)]
            place += tint * half_PP[: place.shape[0], : place.shape[1]]


def _path(
    rng: np.random.Generator, num_frames: int, rate_hz: int, free_2: np.ndarray
) -> np.ndarray:
    """Return whole-pixel positions [T, 2] that drift and bounce off the borders."""
    start_2 = rng.uniform(0.0, 1.0, 2) * free_2
    speed_2 = rng.uniform(-0.35, 0.35, 2) * free_2
    raw_T2 = start_2 + np.arange(num_frames)[:, None] / rate_hz * speed_2
    period_2 = 2.0 * np.maximum(free_2, 1)
    folded_T2 = np.abs((raw_T2 + free_2) % period_2 - free_2)
    return np.minimum(folded_T2.astype(np.int64), free_2)


def _stroke(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a bent pen stroke [P, P] in [0, 1], drawn as coarsely as the digits are."""
    points = rng.uniform(1.5, 7.5, (3, 2))
    along = np.linspace(0.0, 1.0, 24)[:, None]
    weights = (1 - along) ** 2, 2 * along * (1 - along), along**2
    curve = weights[0] * points[0] + weights[1] * points[1] + weights[2] * points[2]
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10), indexing="ij"), axis=-1)
    distance = np.sqrt(((grid[:, :, None] - curve) ** 2).sum(-1)).min(-1)
    return _enlarge(np.clip(1.4 - distance, 0.0, 1.0), side)


def _enlarge(small: np.ndarray, side: int) -> np.ndarray:
    """Return a square picture at another size, interpolated smoothly."""
    image = Image.fromarray(np.asarray(small, np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _add_noise(luma_THW: np.ndarray, rng: np.random.Generator, deviation: float) -> None:
    """Add pixel noise: one field, seen through a window that jumps with every frame."""
    num_frames, height, width = luma_THW.shape
    field = rng.standard_normal((height + 64, width + 64), dtype=np.float32) * deviation
    for frame, (row, column) in enumerate(rng.integers(0, 64, (num_frames, 2))):
        luma_THW[frame] += field[row : row + height, column : column + width]
