"""A small student as it is exported, the API over it in this process, and its files."""

import asyncio
import io

import numpy as np
import torch
from media_files import write_clip

from mke_ray.models import build_student, save_student
from mke_ray.schema import LabelSpace
from mke_ray.serve.access import Access
from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.app import Parts, build_app
from mke_ray.serve.decoding import DecoderPool
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.served import load_served

DECODE = {
    "video": {"kind": "video", "num_frames": 2, "height": 16, "width": 16},
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 1.0},
}
SPEC = {
    "encoders": {
        "video": {"type": "frames", "channels": [4], "num_features": 4},
        "audio": {
            "type": "log_mel",
            "sample_rate_hz": 8000,
            "num_mels": 16,
            "n_fft": 256,
            "hop": 128,
            "channels": [4],
            "num_features": 4,
        },
    },
    "fusion": {"type": "concat"},
    "head_hidden": [4],
    "dropout": 0.0,
}
SPACE = LabelSpace(("cat", "dog", "owl"))
GATE = {"promoted": True, "verdict": "promoted", "reason": "The student is better."}


def export(folder, *, extra=None) -> str:
    """Write a student with random weights, with what an exported one has."""
    torch.manual_seed(0)
    student = build_student(SPEC, 3)
    arrays = {
        "video": torch.randint(0, 256, (4, 2, 16, 16, 3), dtype=torch.uint8),
        "audio": torch.rand(4, 8000) - 0.5,
    }
    student.observe(arrays, {name: torch.ones(4, dtype=torch.bool) for name in arrays})
    student.freeze_normalisation()
    extra = {"gate": GATE, "decode": DECODE} if extra is None else extra
    save_student(str(folder), student, spec=SPEC, label_space=SPACE, temperature=1.5, extra=extra)
    return str(folder)


def served_app(folder, *, access=None, limits=None, uri_prefixes=(), num_processes=1):
    """Return the API in this process, its student, and what has to be closed."""
    limits = limits or ServeLimits()
    student = load_served(str(folder))
    decoders = DecoderPool(student.decode, limits, num_processes)

    async def predict(sample):
        return (await asyncio.to_thread(student.predict, [sample]))[0]

    uris = AllowedUris(uri_prefixes, limits.file_bytes)
    parts = Parts(student, decoders, predict, uris, access or Access(), limits)
    return build_app(parts), student, decoders


def clip(**more) -> bytes:
    """Return a whole clip."""
    return write_clip(**more)


def npy(array) -> bytes:
    """Return an array as ``numpy.save`` writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
