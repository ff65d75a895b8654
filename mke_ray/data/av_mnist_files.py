"""The files that AV-MNIST is made of: MNIST as idx files, and the Free Spoken Digit Dataset."""

# N pictures, H height, W width, S sound samples.

import gzip
import io
import re
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.io import wavfile

from mke_ray.errors import ConfigError
from mke_ray.storage import Root

PICTURES = "mnist"
SOUNDS = "fsdd"
NUM_DIGITS = 10

_PARTS = ("train", "t10k")
_WAV_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_/]+)_(?P<index>\d+)\.wav")
_WAYS_OUT = {
    PICTURES: (
        "put the four files of MNIST in their original format (train-images-idx3-ubyte.gz and its "
        "like) there, or give another source.root"
    ),
    SOUNDS: (
        "put the recordings of the Free Spoken Digit Dataset (0_george_0.wav and its like) there, "
        "or give another source.root"
    ),
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """Handwritten digits, those of the official train set first.

    Args:
        pixels_NHW: uint8 [N, H, W], 0 is paper.
        digit_N: Which digit each is [N], int64.
        num_train: How many are of the official train set.
    """

    pixels_NHW: np.ndarray
    digit_N: np.ndarray
    num_train: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A spoken digit.

    Args:
        name: Name of the file without its folder.
        digit: What is said.
        index: Number of the recording among those of its speaker and digit.
    """

    name: str
    digit: int
    index: int


@lru_cache(maxsize=4)
def read_pictures(uri: str, options: tuple[tuple[str, object], ...] = ()) -> Pictures:
    """Return the pictures of MNIST below a root, read once per process.

    Args:
        uri: Folder or URI that holds ``mnist/``.
        options: Options of its file system.

    Raises:
        ConfigError: A file is missing or is no idx file.
    """
    root = Root(uri, dict(options))
    pixels = [_read_idx(root, f"{part}-images-idx3-ubyte.gz", num_axes=3) for part in _PARTS]
    digits = [_read_idx(root, f"{part}-labels-idx1-ubyte.gz", num_axes=1) for part in _PARTS]
    for part, some_NHW, some_N in zip(_PARTS, pixels, digits, strict=True):
        if len(some_NHW) != len(some_N):
            raise ConfigError(
                f"source.root={uri}: the {part} set of MNIST has {len(some_NHW)} pictures and "
                f"{len(some_N)} labels; {_WAYS_OUT[PICTURES]}"
            )
    joined_N = np.concatenate(digits).astype(np.int64)
    return Pictures(np.concatenate(pixels), joined_N, len(digits[0]))


def list_recordings(root: Root) -> list[Recording]:
    """Return the recordings below a root by name.

    Raises:
        ConfigError: There are none, or none of some digit.
    """
    found = [_WAV_NAME.fullmatch(name.rsplit("/", 1)[-1]) for name in root.names(SOUNDS)]
    recordings = [Recording(m[0], int(m["digit"]), int(m["index"])) for m in found if m]
    silent = sorted(set(range(NUM_DIGITS)) - {one.digit for one in recordings})
    if silent:
        raise _missing(root, SOUNDS, f"{silent[0]}_SPEAKER_INDEX.wav", "the spoken digits (FSDD)")
    return sorted(recordings, key=lambda one: one.name)


def read_sound(root: Root, name: str) -> tuple[np.ndarray, int]:
    """Return a recording as float32 [S] in [-1, 1], and its sample rate in Hz.

    Args:
        root: Folder that holds ``fsdd/``.
        name: Name of the file.

    Raises:
        ConfigError: It is missing, or not 16-bit mono sound.
    """
    content = _read(root, SOUNDS, name, "the spoken digits (FSDD)")
    try:
        rate_hz, sound_S = wavfile.read(io.BytesIO(content))
    except (ValueError, struct.error, EOFError) as error:
        raise _damaged(root, f"{SOUNDS}/{name}", f"is no wav file: {error}", SOUNDS) from error
    if sound_S.dtype != np.int16 or sound_S.ndim != 1:
        raise _damaged(root, f"{SOUNDS}/{name}", "is not 16-bit mono sound", SOUNDS)
    return sound_S.astype(np.float32) / 32768.0, int(rate_hz)


def _read_idx(root: Root, name: str, *, num_axes: int) -> np.ndarray:
    """Return the unsigned bytes of an idx file in its own shape."""
    content = _read(root, PICTURES, name, "MNIST")
    try:
        plain = gzip.decompress(content)
        shape = struct.unpack_from(f">{num_axes}I", plain, 4)
        body = np.frombuffer(plain, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        reason = f"is damaged or no idx file: {error}"
        raise _damaged(root, f"{PICTURES}/{name}", reason, PICTURES) from error
    if plain[:4] != bytes([0, 0, 8, num_axes]):
        reason = f"is no idx file of bytes with {num_axes} axes"
        raise _damaged(root, f"{PICTURES}/{name}", reason, PICTURES)
    return body


def _read(root: Root, folder: str, name: str, title: str) -> bytes:
    """Return the bytes of a file of a data set."""
    try:
        return root.read(f"{folder}/{name}")
    except FileNotFoundError:
        raise _missing(root, folder, name, title) from None


def _missing(root: Root, folder: str, name: str, title: str) -> ConfigError:
    """Return the error for a file that is not there."""
    return ConfigError(
        f"source.root={root.uri}: {title} lacks {folder}/{name} there; "
        f"{_WAYS_OUT[folder]} (its folder is source.root/{folder})"
    )


def _damaged(root: Root, name: str, reason: str, folder: str) -> ConfigError:
    """Return the error for a file that cannot be used."""
    return ConfigError(f"source.root={root.uri}: {name} {reason}; {_WAYS_OUT[folder]}")
