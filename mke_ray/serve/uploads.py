"""Samples that somebody sent, decoded in a process of their own; nothing of them is trusted."""

# T frames, H height, W width, N sound samples, D features, L tokens.

import io
import math
import os
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from mke_ray.data.codec import stored_shape
from mke_ray.data.decoders import prove_decoders
from mke_ray.data.media import Decoded, decode_clip
from mke_ray.data.pictures import PILLOW, read_picture
from mke_ray.data.scene_files import DepthFiles
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.errors import MediaError
from mke_ray.schema import (
    AudioSpec,
    DecodeSpec,
    DepthSpec,
    ImageSpec,
    LabelSpace,
    ManifestRow,
    ModalitySpec,
    TokenSpec,
    VideoSpec,
)
from mke_ray.serve.limits import ServeLimits

CLIP = "clip"  # the field of a file that holds every stream of a sample
NOT_GIVEN = "not_given"

_ARRAY = b"\x93NUMPY"
_STREAMS = (VideoSpec, AudioSpec)


def field_names(decode: Mapping[str, ModalitySpec]) -> list[str]:
    """Return the names under which the files of a sample may be sent."""
    has_streams = any(isinstance(one, _STREAMS) for one in decode.values())
    return [*([CLIP] if has_streams else []), *sorted(decode)]


def file_of(decode: Mapping[str, ModalitySpec], field: str) -> str:
    """Return the name of a field's file in the folder of its sample, whatever the field is called.

    Args:
        decode: What is stored of every modality.
        field: One of ``field_names``.
    """
    return CLIP if field == CLIP else f"{sorted(decode).index(field)}"


@dataclass(frozen=True, slots=True)
class UploadSource:
    """Files that wait in folders of their own, one folder per sample, named by its key.

    Args:
        folder: Where the folders lie; nobody else may write there.
        limits: The largest files that are decoded.
    """

    folder: str
    limits: Mapping[str, Any]

    @property
    def label_space(self) -> LabelSpace:
        """Uploads have no labels."""
        raise TypeError("an upload has no labels")

    def identity(self) -> dict[str, Any]:
        """Return what it is."""
        return {"source": "uploads"}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: files are there before they are asked for."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield nothing: uploads are not listed."""
        return iter(())

    def reader(self, spec: DecodeSpec) -> "UploadReader":
        """Return what decodes them."""
        return UploadReader(self.folder, spec, ServeLimits(**self.limits))


@dataclass(slots=True)
class UploadReader:
    """Decodes the files of one sample: a clip of all streams, and files of single modalities.

    Args:
        folder: Where the folders of the samples lie.
        spec: What to decode.
        limits: The largest files that are decoded.
    """

    folder: str
    spec: DecodeSpec
    limits: ServeLimits

    def __post_init__(self) -> None:
        """Prove that the chosen library decodes.

        Raises:
            ConfigError: It does not.
        """
        prove_decoders(self.spec)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample; a file that fails takes no other with it.

        Raises:
            MediaError: Nothing of it can be used.
        """
        decoded = Decoded({}, dict.fromkeys(self.spec, NOT_GIVEN))
        errors = []
        for field in field_names(self.spec)[::-1]:  # a file of one modality goes before the clip
            content = self._content(row.key, field)
            wanted = self._wanted(field, decoded)
            if content is None or not wanted:
                continue
            try:
                self._add(content, wanted, row, decoded)
            except MediaError as error:
                errors.append(error)
                decoded.missing |= dict.fromkeys(wanted, error.reason)
        if not decoded.arrays:
            raise errors[-1] if errors else MediaError(NOT_GIVEN, "the sample has no file")
        decoded.missing = {m: why for m, why in decoded.missing.items() if m not in decoded.arrays}
        return decoded

    def _content(self, key: str, field: str) -> bytes | None:
        try:
            with open(os.path.join(self.folder, key, file_of(self.spec, field)), "rb") as file:
                return file.read(self.limits.file_bytes + 1)
        except FileNotFoundError:
            return None

    def _wanted(self, field: str, decoded: Decoded) -> DecodeSpec:
        """Return what a file is to give; a clip gives nothing that came in a file of its own."""
        if field != CLIP:
            return {field: self.spec[field]}
        return {
            name: one
            for name, one in self.spec.items()
            if isinstance(one, _STREAMS)
            and name not in decoded.arrays
            and decoded.missing.get(name) == NOT_GIVEN
        }

    def _add(self, content: bytes, wanted: DecodeSpec, row: ManifestRow, into: Decoded) -> None:
        """Add what one file holds.

        Raises:
            MediaError: Nothing of it can be used.
        """
        (name, one), *_ = wanted.items()
        limits = self.limits.of_media()
        if len(content) > limits.num_bytes:
            raise MediaError("too_large", f"more than {limits.num_bytes} bytes")
        if content.startswith(_ARRAY) and len(wanted) == 1:
            into.arrays[name] = read_array(content, one)
        elif isinstance(one, _STREAMS):
            clip = decode_clip(
                content,
                wanted,
                start_s=row.start_s,
                end_s=row.end_s,
                limits=limits,
                sample_id=row.sample_id,
            )
            into.arrays |= clip.arrays
            into.missing |= clip.missing
            into.duration_s, into.decoder = clip.duration_s, clip.decoder
        elif isinstance(one, ImageSpec):
            into.arrays[name], into.decoder = read_picture(content, one, limits=limits), PILLOW
        elif isinstance(one, DepthSpec):
            into.arrays[name], into.decoder = DepthFiles().read(content, one), PILLOW
        else:
            into.arrays[name] = read_array(content, one)


def read_array(content: bytes, spec: ModalitySpec) -> np.ndarray:
    """Return the array of a ``.npy`` file, which has to be of the form that is stored.

    Args:
        content: The file, as ``numpy.save`` writes it.
        spec: What is stored: uint8 [T, H, W, 3] of video and [H, W, 3] of a picture, int32 [L] of
            tokens, float32 of anything else.

    Raises:
        MediaError: ``unsupported``, ``truncated`` or ``damaged``.
    """
    shape, kind = stored_shape(spec), _kind_of(spec)
    file = io.BytesIO(content)
    found_shape, is_by_column, found_kind = _header(file)
    if found_shape != shape or found_kind != kind or (is_by_column and len(shape) > 1):
        order = ", by columns" if is_by_column and len(found_shape) > 1 else ""
        raise MediaError(
            "unsupported",
            f"an array of {found_kind} {list(found_shape)}{order}; {kind} {list(shape)} is read",
        )
    values = content[file.tell() :]
    if len(values) != kind.itemsize * math.prod(shape):
        raise MediaError("truncated", f"{len(values)} bytes of values do not fill {list(shape)}")
    array = np.frombuffer(values, kind).reshape(shape)
    if kind.kind == "f" and not np.isfinite(array).all():
        raise MediaError("damaged", "a value is not finite")
    if isinstance(spec, TokenSpec) and (array.min() < 0 or array.max() >= spec.num_ids):
        raise MediaError("damaged", f"an id is outside 0 to {spec.num_ids - 1}")
    return array


def _kind_of(spec: ModalitySpec) -> np.dtype:
    """Return the type of the stored values."""
    if isinstance(spec, VideoSpec | ImageSpec):
        return np.dtype(np.uint8)
    return np.dtype(np.int32) if isinstance(spec, TokenSpec) else np.dtype(np.float32)


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order and type of the values; no code is ever read from a file.

    Raises:
        MediaError: It is no file of ``numpy.save``.
    """
    try:
        version = npy_format.read_magic(file)
        first = npy_format.read_array_header_1_0
        return (first if version == (1, 0) else npy_format.read_array_header_2_0)(file)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError) as error:
        raise MediaError("unsupported", "not a file of numpy.save") from error
