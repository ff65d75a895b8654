"""Sound of a demo clip: the telephone tone pair of a digit under noise and other sounds."""

# N sound samples.

from dataclasses import dataclass

import numpy as np

RATES_HZ = (16000, 22050, 24000)
ROWS_HZ = (697.0, 770.0, 852.0, 941.0)
COLUMNS_HZ = (1209.0, 1336.0, 1477.0)

_KEYS = "123456789*0#"


@dataclass(frozen=True, slots=True)
class AudioDifficulty:
    """How hard the tone pair is to hear; frozen, since results are compared across versions.

    Args:
        tone: Amplitude of each tone of the pair at severity 0 and 1.
        noise: Deviation of the noise at severity 0 and 1.
        num_others: Other sounds per second at severity 0 and 1.
        others: Amplitude of the other sounds at severity 0 and 1.
    """

    tone: tuple[float, float] = (0.08, 0.03)
    noise: tuple[float, float] = (0.1, 0.2)
    num_others: tuple[float, float] = (2.0, 5.0)
    others: tuple[float, float] = (0.05, 0.09)


DIFFICULTY = AudioDifficulty()


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound.

    Args:
        sound_N: float32 [N] in [-1, 1].
        rate_hz: Samples per second.
    """

    sound_N: np.ndarray
    rate_hz: int


def render_sound(
    key: str,
    *,
    severity: float,
    duration_s: float,
    rng: np.random.Generator,
    difficulty: AudioDifficulty = DIFFICULTY,
) -> Sound:
    """Mix a clip's sound.

    Args:
        key: Which key of the telephone sounds, 0 to 9, ``*`` or ``#``.
        severity: 0 for the clearest sound, 1 for the worst.
        duration_s: Length of the clip.
        rng: Draws everything else.
        difficulty: What severity means.
    """
    rate_hz = int(rng.choice(RATES_HZ))
    time_N = np.arange(round(duration_s * rate_hz), dtype=np.float32) / np.float32(rate_hz)
    sound_N = _noise(rng, len(time_N), rate_hz) * np.float32(_between(difficulty.noise, severity))
    sound_N += np.float32(_between(difficulty.tone, severity)) * _tone_pair(rng, key, time_N)
    num_others = rng.poisson(_between(difficulty.num_others, severity) * duration_s)
    for _ in range(num_others):
        strength = _between(difficulty.others, severity) * rng.uniform(0.5, 1.0)
        _add_other_sound(sound_N, time_N, strength, rng)
    return Sound(np.clip(sound_N, -1.0, 1.0), rate_hz)


def frequencies_hz(key: str) -> tuple[float, float]:
    """Return the tone pair of a key (ITU-T Recommendation Q.23)."""
    row, column = divmod(_KEYS.index(key), 3)
    return ROWS_HZ[row], COLUMNS_HZ[column]


def _between(ends: tuple[float, float], severity: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * severity


def _noise(rng: np.random.Generator, num: int, rate_hz: int) -> np.ndarray:
    """Return noise of deviation 1 below 4 kHz, whatever the sample rate."""
    coarse = rng.standard_normal(num * 8000 // rate_hz + 2, dtype=np.float32)
    place = np.arange(num) * 8000 / rate_hz
    return np.interp(place, np.arange(len(coarse)), coarse).astype(np.float32)


def _tone_pair(rng: np.random.Generator, key: str, time_N: np.ndarray) -> np.ndarray:
    """Return the pair, pressed again and again."""
    period_s, share = rng.uniform(0.7, 1.1), rng.uniform(0.35, 0.6)
    pressed_N = ((time_N / period_s + rng.uniform()) % 1.0) < share
    tones = [_sine(rng, time_N, frequency) for frequency in frequencies_hz(key)]
    return pressed_N * (tones[0] + tones[1])


def _sine(rng: np.random.Generator, time_N: np.ndarray, frequency_hz: float) -> np.ndarray:
    phase_N = time_N * np.float32(frequency_hz) + np.float32(rng.uniform())
    return np.sin(np.float32(2 * np.pi) * (phase_N % 1.0))


def _add_other_sound(
    sound_N: np.ndarray, time_N: np.ndarray, strength: float, rng: np.random.Generator
) -> None:
    """Add one short sound: a tone of the telephone, another key, a chirp or a burst of noise."""
    length_s = rng.uniform(0.08, 0.4)
    start_s = rng.uniform(-0.1, float(time_N[-1]))
    inside = slice(*np.searchsorted(time_N, (start_s, start_s + length_s)))
    local_N = time_N[inside] - np.float32(start_s)
    kind = rng.integers(4)
    if kind == 0:
        part_N = _sine(rng, local_N, rng.choice(ROWS_HZ + COLUMNS_HZ))
    elif kind == 1:
        low_hz, high_hz = frequencies_hz(str(rng.integers(10)))
        part_N = _sine(rng, local_N, low_hz) + _sine(rng, local_N, high_hz)
    elif kind == 2:
        begin_hz, end_hz = rng.uniform(400.0, 2500.0, 2)
        slope = np.float32((end_hz - begin_hz) / length_s / 2)
        part_N = np.sin(np.float32(2 * np.pi) * (np.float32(begin_hz) + slope * local_N) * local_N)
    else:
        part_N = 1.5 * rng.standard_normal(len(local_N), dtype=np.float32)
    sound_N[inside] += np.float32(strength) * part_N
