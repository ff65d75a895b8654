"""From the bytes of a picture file to the array of a specification, with Pillow."""

# H height, W width.

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mke_ray.data.media import LIMITS, Limits
from mke_ray.errors import MediaError
from mke_ray.schema import ImageSpec

PILLOW = f"pillow {PIL.__version__}"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# What Pillow raises for damaged input, apart from its own errors.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB")
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*")


def read_picture(content: bytes, spec: ImageSpec, *, limits: Limits = LIMITS) -> np.ndarray:
    """Decode a picture file: upright, in colour, stretched to the size of its specification.

    Of an animation or a file of several pages the first is taken. Transparent parts lie on white,
    16 bits become the upper 8, colour profiles are not applied. Shrinking averages (a triangle
    filter as wide as the step), so that nothing is aliased.

    Args:
        content: The whole file.
        spec: Size of the picture.
        limits: The largest file accepted; the pixels are those that it declares.

    Returns:
        uint8 [H, W, 3].

    Raises:
        MediaError: ``empty``, ``too_large``, ``unsupported``, ``truncated`` or ``damaged``.
    """
    with opened(content, limits=limits) as image:
        if image.mode not in _MODES and not image.mode.startswith("I;16"):
            raise MediaError("unsupported", f"{image.format} with pixels of mode {image.mode}")
        return _upright(image, spec)


def resized_picture(pixels_HW3: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Return pixels in colour, uint8 [H, W, 3], stretched as those of a picture file are."""
    picture = Image.fromarray(np.ascontiguousarray(pixels_HW3))
    return np.array(picture.resize((spec.width, spec.height), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def opened(content: bytes, *, limits: Limits = LIMITS) -> Iterator[Image.Image]:
    """Open a picture file; what Pillow raises within is an error of the file.

    Args:
        content: The whole file.
        limits: The largest file accepted; the pixels are those that it declares.

    Raises:
        MediaError: As ``read_picture``.
    """
    if not content:
        raise MediaError("empty", "the file has no bytes")
    if len(content) > limits.num_bytes:
        raise MediaError("too_large", f"{len(content)} bytes, at most {limits.num_bytes}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > limits.num_pixels:
                size = f"{image.width}x{image.height}"
                raise MediaError("too_large", f"{size} pixels, at most {limits.num_pixels}")
            yield image
    except _BOMBS as error:
        raise MediaError("too_large", str(error)) from error
    except _DECODE_ERRORS as error:
        said = _said(error)
        raise MediaError(_why_damaged(content, said), said) from error


def _upright(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Return the pixels, resized before they are turned."""
    orientation = _orientation(image)
    width, height = spec.width, spec.height
    if orientation in _SIDEWAYS:
        width, height = height, width
    image.draft(None, (2 * width, 2 * height))  # a JPEG is decoded no larger than is useful
    picture = _in_colour(image).resize((width, height), Image.Resampling.BILINEAR)
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    return np.array(picture)


def _orientation(image: Image.Image) -> int:
    """Return how a camera was held; 1, which is upright, where the note cannot be read."""
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except _DECODE_ERRORS:
        return 1


def _in_colour(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in _TRANSPARENT and "transparency" not in image.info:
        return image.convert("RGB")
    colour = image.convert("RGBA")
    ground = Image.new("RGB", colour.size, "white")
    ground.paste(colour, mask=colour.getchannel("A"))
    return ground


def _why_damaged(content: bytes, said: str) -> str:
    """Tell a file that was cut off from a damaged one, and both from what is no picture."""
    is_webp = content[:4] == b"RIFF" and content[8:12] in (b"WEBP", b"")
    if not is_webp and not content.startswith(_MAGIC):
        return "unsupported"
    return "damaged" if _has_its_end(content, said) else "truncated"


def _has_its_end(content: bytes, said: str) -> bool:
    """Return whether the end that its format demands is there."""
    if content.startswith(b"\xff\xd8"):
        return content.rstrip(b"\0").endswith(b"\xff\xd9")
    if content.startswith(b"\x89PNG"):
        return b"IEND" in content[-64:]
    if content.startswith(b"GIF8"):
        return content.rstrip(b"\0").endswith(b";")
    if content.startswith(b"RIFF"):
        return len(content) >= 12 and len(content) >= 8 + struct.unpack_from("<I", content, 4)[0]
    if content.startswith(b"BM"):
        return len(content) >= 6 and len(content) >= struct.unpack_from("<I", content, 2)[0]
    return "truncated" not in said  # a TIFF file has no end, but its reader may run out of it


def _said(error: BaseException) -> str:
    """Return what Pillow said, without the address of the buffer it was reading."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a format that is read: " + ", ".join(FORMATS)
    return str(error)
