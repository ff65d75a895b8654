"""One sample from its files to the arrays that a student reads, as the stores would hold them."""

# B samples, one here.

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mke_ray.data.codec import decode_modality, empty_modality, encode_modality
from mke_ray.data.decoders import prove_decoders
from mke_ray.data.media import LIMITS, Decoded, Limits, decode_clip
from mke_ray.data.npy_files import ARRAY_MAGIC, read_array
from mke_ray.data.pictures import PILLOW, read_picture
from mke_ray.data.scene_files import DepthFiles
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import (
    AudioSpec,
    DecodeSpec,
    DepthSpec,
    ImageSpec,
    ModalitySpec,
    VideoSpec,
    decode_spec_from_dict,
)
from mke_ray.storage import open_root

CLIP = "clip"  # the name of a file that holds every stream of a sample
NOT_GIVEN = "not_given"

File = str | PathLike[str] | bytes
_STREAMS = (VideoSpec, AudioSpec)


def read_sample(
    files: File | Mapping[str, File],
    decode: Mapping[str, Mapping[str, Any]],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    sample_id: int = 0,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return one sample as a batch that a student takes: its arrays, and which of them are there.

    Arrays go through the codec of the stores, so that the student says what it says in a pass over
    a whole source. What is missing is zeros (padding of tokens), with False beside it.

    Args:
        files: A clip that holds every stream, or by the name of a modality (or ``clip``) its file:
            a clip, a picture, a depth map, or an array as ``numpy.save`` writes it. A path, a URI
            or the content of the file.
        decode: What is stored of every modality, ``decode`` of a loaded student.
        start_s: Start of the span in seconds from the beginning of the clip.
        end_s: End of the span.
        sample_id: Decides what is drawn by chance, where ``decode`` leaves something to it.
        storage_options: Options of the file systems of URIs.

    Returns:
        Per modality the array [1, ...] as it is stored, and bool [1].

    Raises:
        ConfigError: A file is of no modality that is read, or a library is missing.
        FileNotFoundError: A file is not there.
        MediaError: Nothing of the sample can be used.
    """
    spec = decode_spec_from_dict({name: dict(one) for name, one in decode.items()})
    prove_decoders(spec)
    named = files if isinstance(files, Mapping) else {CLIP: files}
    if unknown := sorted(set(named) - set(field_names(spec))):
        raise ConfigError(f"files has {unknown}; the student reads {field_names(spec)}")
    contents = {name: _content(file, storage_options) for name, file in named.items()}
    decoded = decode_files(contents, spec, start_s=start_s, end_s=end_s, sample_id=sample_id)
    return _batch_of_one(decoded.arrays, spec)


def field_names(decode: Mapping[str, ModalitySpec]) -> list[str]:
    """Return the names under which the files of a sample may be given."""
    has_streams = any(isinstance(one, _STREAMS) for one in decode.values())
    return [*([CLIP] if has_streams else []), *sorted(decode)]


def decode_files(
    files: Mapping[str, bytes],
    spec: DecodeSpec,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: Limits = LIMITS,
    sample_id: int = 0,
) -> Decoded:
    """Decode one sample from a clip of all streams and files of single modalities.

    A modality's own file goes before the clip; a file that fails takes no other with it.

    Args:
        files: Content by name, of ``field_names``.
        spec: What to decode.
        start_s: Start of the span of clips in seconds.
        end_s: End of the span.
        limits: The largest files that are decoded.
        sample_id: Decides what is drawn by chance.

    Raises:
        MediaError: Nothing of it can be used.
    """
    how = _How(start_s, end_s, limits, sample_id)
    decoded, errors = Decoded({}, dict.fromkeys(spec, NOT_GIVEN)), []
    for name in field_names(spec)[::-1]:  # the clip comes last
        wanted = _wanted(name, spec, decoded)
        if name not in files or not wanted:
            continue
        try:
            _add(files[name], wanted, how, decoded)
        except MediaError as error:
            errors.append(error)
            decoded.missing |= dict.fromkeys(wanted, error.reason)
    if not decoded.arrays:
        raise errors[-1] if errors else MediaError(NOT_GIVEN, "the sample has no file")
    decoded.missing = {m: why for m, why in decoded.missing.items() if m not in decoded.arrays}
    return decoded


@dataclass(frozen=True, slots=True)
class _How:
    """How the files of a sample are decoded."""

    start_s: float | None
    end_s: float | None
    limits: Limits
    sample_id: int


def _wanted(name: str, spec: DecodeSpec, decoded: Decoded) -> DecodeSpec:
    """Return what a file is to give; a clip gives nothing that came in a file of its own."""
    if name != CLIP:
        return {name: spec[name]}
    return {
        modality: one
        for modality, one in spec.items()
        if isinstance(one, _STREAMS)
        and modality not in decoded.arrays
        and decoded.missing.get(modality) == NOT_GIVEN
    }


def _add(content: bytes, wanted: DecodeSpec, how: _How, into: Decoded) -> None:
    """Add what one file holds.

    Raises:
        MediaError: Nothing of it can be used.
    """
    (name, one), *_ = wanted.items()
    limits = how.limits
    if len(content) > limits.num_bytes:
        raise MediaError("too_large", f"more than {limits.num_bytes} bytes")
    if content.startswith(ARRAY_MAGIC) and len(wanted) == 1:
        into.arrays[name] = read_array(content, one)
    elif isinstance(one, _STREAMS):
        _add_clip(content, wanted, how, into)
    elif isinstance(one, ImageSpec):
        into.arrays[name], into.decoder = read_picture(content, one, limits=limits), PILLOW
    elif isinstance(one, DepthSpec):
        into.arrays[name], into.decoder = DepthFiles().read(content, one), PILLOW
    else:
        into.arrays[name] = read_array(content, one)


def _add_clip(content: bytes, wanted: DecodeSpec, how: _How, into: Decoded) -> None:
    """Add the streams of a clip."""
    clip = decode_clip(
        content,
        wanted,
        start_s=how.start_s,
        end_s=how.end_s,
        limits=how.limits,
        sample_id=how.sample_id,
    )
    into.arrays |= clip.arrays
    into.missing |= clip.missing
    into.duration_s, into.decoder = clip.duration_s, clip.decoder


def _content(file: File, options: Mapping[str, Any] | None) -> bytes:
    """Return the content of a file, wherever it is."""
    if isinstance(file, bytes):
        return file
    folder, name = posixpath.split(str(file))
    return open_root(folder or ".", options if "://" in folder else None).read(name)


def _batch_of_one(
    arrays: Mapping[str, np.ndarray], spec: DecodeSpec
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return arrays as a store would give them back, and which of them are there."""
    filled, present = {}, {}
    for name, one in spec.items():
        is_there = name in arrays
        stored = decode_modality(encode_modality(arrays[name], one), one) if is_there else None
        array = empty_modality(one) if stored is None else stored
        filled[name] = torch.from_numpy(np.array(array)[None])
        present[name] = torch.tensor([is_there])
    return filled, present
