"""Tests of samples of several files: which files belong together, and what of them is missing."""

import csv
import io
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from media_files import frame_numbers, sine, write_clip
from PIL import Image

from mke_ray.data.pairs import PairsSource
from mke_ray.data.text_files import hashed_words
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import AudioSpec, FeatureSpec, ImageSpec, ManifestRow, TokenSpec, VideoSpec
from mke_ray.tokens import tokenizer_facts

CLASSES = ["cat", "dog"]
FILES = {"rgb": "rgb/{key}.png", "depth": "depth/{key}_d.png"}
SPEC = {"rgb": ImageSpec(16, 16), "depth": ImageSpec(16, 16)}


def picture(level=100):
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def put(folder, name, content=b"x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_pair(folder, key, rgb=100, depth=200):
    put(folder, f"rgb/{key}.png", picture(rgb))
    put(folder, f"depth/{key}_d.png", picture(depth))


def write_csv(folder, header, *rows):
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def source(folder, files=None, **keys):
    return PairsSource(str(folder), files or FILES, CLASSES, **keys)


def manifest_row(key, size=-1, start_s=None, end_s=None):
    return ManifestRow(1, "u", key, size, "", start_s, end_s, key, "unlabeled", None)


def reason_of(reader, row):
    with pytest.raises(MediaError) as error:
        reader.read(row)
    return error.value.reason


def test_the_folders_of_the_key_say_split_and_class(tmp_path):
    for key in (
        "labelled/dog/b",
        "labelled/cat/a",
        "test/cat/s1/t",
        "unlabeled/u",
        "unlabeled/x/v",
    ):
        put_pair(tmp_path, key)
    put(tmp_path, "rgb/labelled/cat/notes.txt")
    put(tmp_path, "rgb/elsewhere/z.png")
    put(tmp_path, "depth/unlabeled/alone_d.png")
    rows = list(source(tmp_path).rows())
    assert [(row.key, row.split, row.labels) for row in rows] == [
        ("labelled/cat/a", "labelled", (0,)),
        ("labelled/dog/b", "labelled", (1,)),
        ("unlabeled/u", "unlabeled", None),
        ("unlabeled/x/v", "unlabeled", None),
        ("test/cat/s1/t", "test", (0,)),
    ]
    assert all(row.group == row.key and row.start_s is None for row in rows)


@pytest.mark.parametrize(
    "files",
    [
        {"rgb": "{key}/rgb.png", "depth": "{key}/depth.png"},
        {"rgb": "{key}.rgb.png", "depth": "{key}.depth.png"},
        {"rgb": "a/b/{key}.png", "depth": "c/{key}.tiff"},
    ],
)
def test_the_key_may_stand_anywhere_behind_a_slash(tmp_path, files):
    for name in files.values():
        put(tmp_path, name.replace("{key}", "probe/dog/7"), b"123")
    (row,) = source(tmp_path, files).rows()
    assert (row.key, row.split, row.labels, row.size) == ("probe/dog/7", "probe", (1,), 6)


def test_listing_goes_on_behind_any_row(tmp_path):
    keys = ["labelled/dog/b", "labelled/cat/a", "unlabeled/u", "unlabeled/x/v", "test/cat/t"]
    for key in keys:
        put_pair(tmp_path, key)
    write_csv(tmp_path, ["key"], *([f"unlabeled/{number}"] for number in range(5)))
    for of_any in (source(tmp_path), source(tmp_path, table="pairs.csv")):
        rows = list(of_any.rows())
        assert len(rows) == 5
        for number, row in enumerate(rows, start=1):
            assert list(of_any.rows(after=row.cursor)) == rows[number:]


def test_size_and_version_are_those_of_all_files(tmp_path):
    put_pair(tmp_path, "unlabeled/1")

    def version():
        (row,) = source(tmp_path).rows()
        return row.size, row.etag

    size, before = version()
    assert size == 2 * len(picture())
    os.utime(tmp_path / "depth/unlabeled/1_d.png", (1, 1))
    _, touched = version()
    (tmp_path / "depth/unlabeled/1_d.png").unlink()
    alone_size, alone = version()
    assert alone_size == len(picture())
    assert len({before, touched, alone}) == 3
    assert version() == (alone_size, alone)


def test_a_table_says_label_group_and_split_of_every_key(tmp_path):
    put_pair(tmp_path, "a/1")
    header = ["key", "label", "group", "split", "start_s", "end_s"]
    rows = [["a/1", "dog", "farm", "test", 0.5, 2.0], ["a/2", None, None, None, None, None]]
    write_csv(tmp_path, header, *rows)
    first, second = source(tmp_path, table="pairs.csv").rows()
    assert (first.key, first.labels, first.group, first.split) == ("a/1", (1,), "farm", "test")
    assert (first.size, first.start_s, first.end_s) == (2 * len(picture()), 0.5, 2.0)
    assert first.etag and (second.size, second.etag) == (-1, "")
    assert (second.group, second.split, second.labels) == ("a/2", "unlabeled", None)
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    of_parquet = source(tmp_path, table="pairs.parquet").rows()
    assert list(of_parquet) == [first, second]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["uri"], ["1"], "column 'key'.*'uri'"),
        (["key", "label"], ["1", "bird"], r"source\.classes"),
        (["key", "split"], ["1", "train"], "split 'train' is not one of"),
        (["key", "split"], ["1", "test"], "needs a label"),
        (["key"], ["../../1"], r"below source\.root"),
    ],
)
def test_a_wrong_table_is_named_with_the_way_out(tmp_path, header, row, message):
    write_csv(tmp_path, header, row)
    with pytest.raises(ConfigError, match=message):
        list(source(tmp_path, table="pairs.csv").rows())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"rgb": "rgb/{key}.png", "depth": "depth.png"}, r"source\.files\.depth=depth\.png"),
        ({"rgb": "{key}/{key}.png"}, r"source\.files\.rgb"),
        ({"rgb": "s3://bucket/{key}.png"}, r"below source\.root"),
        ({"rgb": "../{key}.png"}, r"below source\.root"),
        ({"rgb": "rgb/img_{key}.png"}, "right after a '/'"),
        ({}, r"source\.files is empty"),
    ],
)
def test_a_wrong_pattern_is_named_when_the_source_is_made(tmp_path, files, message):
    with pytest.raises(ConfigError, match=message):
        PairsSource(str(tmp_path), files, CLASSES)


def test_with_a_table_a_key_may_follow_other_letters(tmp_path):
    write_csv(tmp_path, ["key"], ["7"])
    files = {"rgb": "rgb/img_{key}.png"}
    put(tmp_path, "rgb/img_7.png", b"1234")
    (row,) = source(tmp_path, files, table="pairs.csv").rows()
    assert row.size == 4


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root="):
        list(source(tmp_path / "nowhere").rows())
    put(tmp_path, "rgb/unlabeled/1.jpg")
    with pytest.raises(ConfigError, match=r"source\.table=pairs\.csv"):
        list(source(tmp_path, table="pairs.csv").rows())
    with pytest.raises(ConfigError, match=r"no file of .* is named rgb/\{key\}\.png"):
        list(source(tmp_path).rows())
    put_pair(tmp_path, "labelled/loose")
    with pytest.raises(ConfigError, match="folder named after their class"):
        list(source(tmp_path).rows())


def test_the_identity_follows_patterns_and_classes_and_neither_place_nor_content(tmp_path):
    here, there = source(tmp_path, table="a.csv"), source(tmp_path / "moved", table="a.csv")
    assert here.identity() == there.identity()
    others = [
        source(tmp_path, table="b.csv"),
        source(tmp_path, {"rgb": "{key}.png"}, table="a.csv"),
        PairsSource(str(tmp_path), FILES, ["cat", "cow"], table="a.csv"),
    ]
    assert all(other.identity() != here.identity() for other in others)


def test_a_reader_gives_both_pictures_and_counts_their_bytes(tmp_path):
    put_pair(tmp_path, "k", rgb=60, depth=200)
    decoded = source(tmp_path).reader(SPEC).read(manifest_row("k"))
    assert (decoded.arrays["rgb"] == 60).all() and (decoded.arrays["depth"] == 200).all()
    assert not decoded.missing
    assert (
        decoded.num_bytes_read == decoded.num_bytes_needed == len(picture(60)) + len(picture(200))
    )
    assert decoded.decoder.startswith("pillow ")


def test_a_file_that_is_missing_or_broken_takes_no_other_with_it(tmp_path):
    put_pair(tmp_path, "k")
    reader = source(tmp_path).reader(SPEC)
    (tmp_path / "depth/k_d.png").unlink()
    decoded = reader.read(manifest_row("k"))
    assert (set(decoded.arrays), decoded.missing) == ({"rgb"}, {"depth": "missing_file"})
    put_pair(tmp_path, "k")
    put(tmp_path, "rgb/k.png", picture()[:30])
    decoded = reader.read(manifest_row("k"))
    assert (set(decoded.arrays), decoded.missing) == ({"depth"}, {"rgb": "truncated"})


def test_a_sample_of_which_nothing_can_be_read_has_one_reason(tmp_path):
    reader = source(tmp_path).reader(SPEC)
    assert reason_of(reader, manifest_row("gone")) == "missing_file"
    put(tmp_path, "depth/half_d.png", b"<html>")
    assert reason_of(reader, manifest_row("half")) == "unsupported"
    assert reason_of(reader, manifest_row("large", size=1 << 40)) == "too_large"


@pytest.mark.parametrize("file_format", ["wav", "flac", "mp3", "ogg", "mp4"])
def test_a_picture_and_its_sound_are_one_sample(tmp_path, file_format):
    files = {"rgb": "{key}.png", "audio": "{key}." + file_format}
    put(tmp_path, "k.png", picture())
    put(tmp_path, f"k.{file_format}", sound_file(file_format))
    spec = {"rgb": ImageSpec(16, 16), "audio": AudioSpec(8000, 0.5)}
    decoded = source(tmp_path, files).reader(spec).read(manifest_row("k"))
    assert decoded.arrays["rgb"].shape == (16, 16, 3)
    spectrum = np.abs(np.fft.rfft(decoded.arrays["audio"]))
    assert int(spectrum.argmax()) * 2 == 440
    assert "pillow" in decoded.decoder and "pyav" in decoded.decoder


def test_a_picture_goes_with_pictures_and_sound_of_a_video_that_is_read_once(tmp_path):
    clip = write_clip(num_frames=10, rate_hz=10, sound_s=1.0)
    files = {"cover": "{key}.png", "video": "{key}.mp4", "audio": "{key}.mp4"}
    put(tmp_path, "k.png", picture())
    put(tmp_path, "k.mp4", clip)
    spec = {
        "cover": ImageSpec(16, 16),
        "video": VideoSpec(2, 48, 64),
        "audio": AudioSpec(8000, 0.5),
    }
    reader = source(tmp_path, files).reader(spec)
    decoded = reader.read(manifest_row("k", start_s=0.4, end_s=0.8))
    assert set(decoded.arrays) == set(spec)
    assert frame_numbers(decoded.arrays["video"]) == [5, 7]
    assert decoded.num_bytes_read == len(picture()) + len(clip)
    shutil.copy(tmp_path / "k.png", tmp_path / "k.mp4")
    decoded = reader.read(manifest_row("k"))
    assert decoded.missing.keys() == {"video", "audio"}


def test_text_beside_a_picture_is_read_as_hashed_words(tmp_path):
    put(tmp_path, "test/cat/k.png", picture())
    put(tmp_path, "test/cat/k.txt", b"A man walks into a bar.")
    files = {"rgb": "{key}.png", "words": "{key}.txt"}
    of = PairsSource(str(tmp_path), files, CLASSES, text={})
    (row,) = of.rows()
    spec = {"rgb": ImageSpec(8, 8), "words": FeatureSpec(64)}
    words = of.reader(spec).read(manifest_row(row.key)).arrays["words"]
    assert np.array_equal(words, hashed_words("a man walks into a bar", 64))


def test_text_beside_a_picture_is_read_as_tokens_and_one_without_a_word_is_missing(tmp_path):
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from tiny_pretrained import save_bert
    from transformers import AutoTokenizer

    save_bert(tmp_path / "bert")
    for key, text in (("k", b"A drama of number 1."), ("n", b" ")):
        put(tmp_path, f"test/cat/{key}.png", picture())
        put(tmp_path, f"test/cat/{key}.txt", text)
    files = {"rgb": "{key}.png", "words": "{key}.txt"}
    where = {"words": {"path": str(tmp_path / "bert"), "revision": None}}
    plain = PairsSource(str(tmp_path), files, CLASSES, text={})
    of = replace(plain, tokenizers=where)
    facts = tokenizer_facts(where["words"]["path"], None)
    spec = {"rgb": ImageSpec(8, 8), "words": TokenSpec(12, **facts)}
    known, blank = (of.reader(spec).read(manifest_row(row.key)) for row in of.rows())
    own = AutoTokenizer.from_pretrained(tmp_path / "bert")
    wanted = own("A drama of number 1.", padding="max_length", max_length=12)["input_ids"]
    assert known.arrays["words"].tolist() == wanted and known.decoder.endswith("tokens")
    assert blank.missing == {"words": "empty"} and "rgb" in blank.arrays
    assert of.identity() == plain.identity()
    with pytest.raises(ConfigError, match=r"source\.tokenizers has none for \['words'\]"):
        plain.reader(spec)


def test_what_no_file_can_give_is_refused_with_its_key(tmp_path):
    with pytest.raises(ConfigError, match=r"decode\.audio: .*add source\.files\.audio"):
        source(tmp_path).reader({"audio": AudioSpec(8000, 1.0)})
    for spec in (FeatureSpec(3), TokenSpec(3)):
        with pytest.raises(ConfigError, match=rf"decode\.rgb\.kind={spec.kind}: .*source\.text"):
            source(tmp_path).reader({"rgb": spec})
    with pytest.raises(ConfigError, match=r"source\.text=.*'filed'.*it may have field"):
        PairsSource(str(tmp_path), {"words": "{key}.txt"}, CLASSES, text={"filed": "plot"})
    with pytest.raises(ConfigError, match=r"decode\.rgb\.kind=image: .*pairs for pictures"):
        VideosSource(str(tmp_path), CLASSES).reader({"rgb": ImageSpec(8, 8)})


def sound_file(file_format):
    """Return one second of 440 Hz."""
    import av

    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "ogg": "libopus"}
    file = io.BytesIO()
    if file_format == "mp4":
        return write_clip(num_frames=0)
    with av.open(file, mode="w", format=file_format) as container:
        stream = container.add_stream(codec[file_format], rate=16_000, layout="mono")
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=16_000)
        for frame in [*resampler.resample(sine(1.0, 440.0)), None]:
            container.mux(stream.encode(frame))
    return file.getvalue()
