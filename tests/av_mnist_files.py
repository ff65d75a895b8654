"""Tiny files of the exact formats of MNIST and the Free Spoken Digit Dataset, for tests."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
from scipy.io import wavfile

NUM_INDICES = 50
SMALL = {"num_labelled": 40, "num_probe": 40, "num_unlabeled": 80, "num_test": 40}


def idx_file(array: np.ndarray) -> bytes:
    """Return an idx file of bytes, compressed like the original ones."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


def wav_file(sound_S: np.ndarray) -> bytes:
    """Return 16-bit mono sound at 8 kHz."""
    file = io.BytesIO()
    wavfile.write(file, 8000, (32767 * sound_S).astype(np.int16))
    return file.getvalue()


def make_av_mnist(folder: Path, num_train: int = 300, num_test: int = 100) -> Path:
    """Write ``mnist/`` and ``fsdd/``: a digit is a bright row of the picture, and a pitch."""
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir(parents=True)
    (folder / "fsdd").mkdir()
    for part, number in (("train", num_train), ("t10k", num_test)):
        digit_N = rng.permutation(np.arange(number) % 10)
        pixels_NHW = rng.integers(0, 40, (number, 28, 28))
        for pixels_HW, digit in zip(pixels_NHW, digit_N, strict=True):
            pixels_HW[3 + 2 * digit : 5 + 2 * digit, 6:22] = 230
        (folder / f"mnist/{part}-images-idx3-ubyte.gz").write_bytes(idx_file(pixels_NHW))
        (folder / f"mnist/{part}-labels-idx1-ubyte.gz").write_bytes(idx_file(digit_N))
    for digit in range(10):
        for index in range(NUM_INDICES):
            time_S = np.arange(int(rng.integers(1200, 2000))) / 8000
            sound_S = 0.4 * np.sin(2 * np.pi * (300 + 200 * digit) * time_S + index)
            content = wav_file(sound_S + rng.normal(0, 0.02, len(time_S)))
            (folder / f"fsdd/{digit}_anna_{index}.wav").write_bytes(content)
    return folder
