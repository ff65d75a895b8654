"""Arrays of one modality in files of numpy, from anywhere: nothing of them is trusted."""

# T frames, H height, W width, D features, L tokens.

import io
import math
import tokenize

import numpy as np
from numpy.lib import format as npy_format

from mke_ray.decode_spec import stored_shape
from mke_ray.errors import MediaError
from mke_ray.schema import ImageSpec, ModalitySpec, TokenSpec, VideoSpec

ARRAY_MAGIC = b"\x93NUMPY"


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
