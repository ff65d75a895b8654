"""Tests of reading picture files: every mode and turn, and files that are none or not whole."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mke_ray.data.media import Limits
from mke_ray.data.pictures import FORMATS, read_picture
from mke_ray.errors import MediaError
from mke_ray.schema import ImageSpec

SPEC = ImageSpec(24, 32)
RED, WHITE = (255, 0, 0), (255, 255, 255)


def corner_picture(size=(64, 48)):
    """Return a blue picture whose upper left quarter is red."""
    picture = Image.new("RGB", size, (0, 0, 255))
    picture.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    return picture


def saved(picture, file_format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format=file_format, **options)
    return file.getvalue()


def reason_of(content, **keys):
    with pytest.raises(MediaError) as error:
        read_picture(content, SPEC, **keys)
    return error.value.reason


def png_with(header, *chunks):
    """Return a PNG file with a header of one's own."""
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_every_format_is_read_by_its_content():
    for file_format in FORMATS:
        picture_HWC = read_picture(saved(corner_picture(), file_format), SPEC)
        assert (picture_HWC.shape, picture_HWC.dtype) == ((24, 32, 3), np.uint8)
        assert np.abs(picture_HWC[4, 4].astype(int) - RED).max() < 12, file_format
        assert np.abs(picture_HWC[20, 28].astype(int) - (0, 0, 255)).max() < 12, file_format


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was_held(orientation):
    turns = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }
    upright = np.asarray(corner_picture((32, 24)))
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_picture(saved(stored, exif=exif), SPEC), upright)


def test_a_note_of_the_camera_that_cannot_be_read_turns_nothing():
    upright = corner_picture((32, 24))
    content = saved(upright, exif=b"Exif\0\0nonsense that is no TIFF")
    assert np.array_equal(read_picture(content, SPEC), np.asarray(upright))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_grey_of_any_mode_is_the_same_grey(mode):
    if mode == "I;16":
        picture = Image.fromarray(np.full((48, 64), 128 * 257, np.uint16))
    elif mode == "1":
        picture = Image.new("1", (64, 48), 1)
    else:
        picture = Image.new("L", (64, 48), 128).convert(mode)
    found = read_picture(saved(picture), SPEC)
    assert np.ptp(found) == 0
    assert found[0, 0, 0] == (255 if mode == "1" else 128)


def test_sixteen_bits_keep_their_order():
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)
    found = read_picture(saved(Image.fromarray(np.tile(ramp, (24, 1)))), SPEC)
    assert np.array_equal(found[0, :, 0], ramp >> 8)


def test_inks_become_colours():
    found = read_picture(saved(corner_picture().convert("CMYK"), "JPEG", quality=95), SPEC)
    assert np.abs(found[4, 4].astype(int) - RED).max() < 12


def test_what_is_transparent_lies_on_white():
    clear = corner_picture().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    assert (read_picture(saved(clear), SPEC) == 255).all()
    palette = Image.new("P", (64, 48), 3)
    palette.putpalette([9, 9, 9] * 256)
    assert (read_picture(saved(palette, transparency=3), SPEC) == 255).all()
    half = corner_picture().convert("RGBA")
    half.putalpha(Image.new("L", half.size, 128))
    assert np.abs(read_picture(saved(half), SPEC)[4, 4].astype(int) - (255, 127, 127)).max() < 3


def test_of_an_animation_the_first_picture_is_taken():
    first, second = corner_picture(), Image.new("RGB", (64, 48), (0, 255, 0))
    for file_format in ("GIF", "WEBP", "TIFF"):
        content = saved(first, file_format, save_all=True, append_images=[second])
        assert np.abs(read_picture(content, SPEC)[4, 4].astype(int) - RED).max() < 12


def test_shrinking_averages_and_leaves_no_pattern():
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    for file_format in ("PNG", "JPEG"):
        content = saved(Image.fromarray(stripes), file_format)
        found = read_picture(content, SPEC).astype(int)
        assert np.abs(found - 127).max() < 6, file_format


def test_a_large_photograph_is_shrunk_as_one_that_is_decoded_whole():
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    for size in ((1280, 960), (128, 96)):
        large = coarse.resize(size, Image.Resampling.BICUBIC)
        drafted = read_picture(saved(large, "JPEG", quality=95, subsampling=0), SPEC).astype(int)
        whole = read_picture(saved(large), SPEC).astype(int)
        assert np.abs(drafted - whole).mean() < 3


def test_a_small_picture_is_stretched():
    assert read_picture(saved(corner_picture((2, 2))), SPEC).shape == (24, 32, 3)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_picture_that_is_cut_off_is_truncated(file_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), file_format)
    for share in (0.3, 0.6, 0.9):
        assert reason_of(content[: int(len(content) * share)]) == "truncated"


@pytest.mark.parametrize(
    "content",
    [b"<html></html>", b"\0" * 4000, b"%PDF-1.4", b"<svg/>", b"\0\0\0\x1cftypheic" + bytes(99)],
)
def test_what_is_no_picture_is_unsupported(content):
    assert reason_of(content) == "unsupported"


def test_a_format_that_is_not_on_the_list_is_not_opened():
    assert reason_of(saved(corner_picture(), "PPM")) == "unsupported"
    assert reason_of(saved(corner_picture(), "EPS")) == "unsupported"


def test_pixels_without_a_known_range_are_unsupported():
    floats = Image.fromarray(np.ones((8, 8), np.float32))
    assert reason_of(saved(floats, "TIFF")) == "unsupported"


def test_a_picture_without_bytes_is_empty():
    assert reason_of(b"") == "empty"


@pytest.mark.parametrize("side", [9000, 12_000, 60_000])
def test_a_bomb_is_refused_by_the_size_that_it_declares(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    assert reason_of(png_with(header, (b"IDAT", zlib.compress(bytes(1000))))) == "too_large"


def test_a_picture_of_too_many_bytes_or_pixels_is_too_large():
    content = saved(corner_picture())
    assert reason_of(content, limits=Limits(num_bytes=len(content) - 1)) == "too_large"
    assert reason_of(content, limits=Limits(num_pixels=64 * 48 - 1)) == "too_large"
    assert read_picture(content, SPEC, limits=Limits(num_pixels=64 * 48)).any()


def test_a_text_that_unpacks_to_gigabytes_is_not_unpacked():
    text = b"comment\0\0" + zlib.compress(bytes(50_000_000), 9)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(8 * 25))
    content = png_with(header, (b"zTXt", text), (b"IDAT", pixels))
    assert reason_of(content) == "damaged"


def test_a_damaged_picture_is_no_other_error():
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for file_format in FORMATS:
        content = np.frombuffer(saved(noise, file_format), np.uint8)
        for _ in range(60):
            broken = content.copy()
            places = generator.integers(0, len(broken), 6)
            broken[places] = generator.integers(0, 256, 6)
            try:
                assert read_picture(broken.tobytes(), SPEC).shape == (24, 32, 3)
            except MediaError as error:
                assert error.reason in ("damaged", "truncated", "unsupported", "too_large")
