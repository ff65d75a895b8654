"""Every odd and hostile kind of file, and what becomes of it."""

import contextlib
import faulthandler
import functools
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from odd_media import (
    SIDE,
    Sound,
    Video,
    box,
    lag_of,
    patched,
    reference_frames,
    write,
)

from mke_ray.data.media import Limits, decode_clip
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec, VideoSpec

CLIPS = Path(os.environ.get("MKE_RAY_CLIPS", "no clips"))  # a folder of real videos
TIME_LIMIT_S = 60.0  # on a loaded machine; each takes well under a second on an idle one
RATE_HZ = 16000
SPEC = {"video": VideoSpec(5, SIDE, SIDE), "audio": AudioSpec(RATE_HZ, 1.0)}

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
FINE = {"preset": "ultrafast", "crf": "4"}
HEVC = {"preset": "ultrafast", "x265-params": "log-level=none"}
LONG = {"preset": "medium", "g": "250"}
PQ = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
HLG = PQ | {"color_trc": 18}
PCM = Sound(codec="pcm_s16le", layout="mono", rate_hz=RATE_HZ)
MP3 = Sound(codec="libmp3lame")
OPUS = Sound(codec="libopus", rate_hz=48000)

# Sound behind its own start: what the encoder puts before it, where the container cannot say so.
PRIMING = 373
MP3_PRIMING = 402
MP2_PRIMING = 176

# An edit list counts in milliseconds.
LATE = 4001

# name: (streams, options of the muxer, expected outcome, samples that the sound may be late)
GOOD = {
    "plain": ((Video(), Sound()), {}, "ok", 0),
    "rotated by 90": ((Video(rotation=90), Sound()), {}, "ok", 0),
    "rotated by 180": ((Video(rotation=180), Sound()), {}, "ok", 0),
    "rotated by 270": ((Video(rotation=-90), Sound()), {}, "ok", 0),
    "variable rate": (
        (Video(stamps=(0, 0.1, 0.2, 0.3, 0.4, 1.0, 2.0, 3.0, 4.0, 4.5)), Sound()),
        {},
        "ok",
        0,
    ),
    "reordered frames": ((Video(40, options=LONG), Sound()), {}, "ok", 0),
    "groups of 250": ((Video(300, rate_hz=30, options=LONG), Sound()), {}, "ok", 0),
    "transport stream": (
        (Video(40, options={"preset": "medium", "g": "4"}), Sound()),
        {"container": "mpegts"},
        "ok",
        PRIMING,
    ),
    "mpeg2 transport stream": (
        (Video(30, "mpeg2video", {"bf": "2"}, rate_hz=25), Sound(codec="mp2")),
        {"container": "mpegts"},
        "ok",
        MP2_PRIMING,
    ),
    "two of each stream": (
        (Video(), Video(levels=tuple(range(200, 210))), Sound(), Sound(begin_s=0.2)),
        {},
        "ok",
        0,
    ),
    "10 bit": ((Video(pix_fmt="yuv420p10le"), Sound()), {}, "ok", 0),
    "4:4:4": ((Video(pix_fmt="yuv444p"), Sound()), {}, "ok", 0),
    "odd size": ((Video(pix_fmt="yuv444p", size=(47, 63)), Sound()), {}, "ok", 0),
    "full range": ((Video(colours={"color_range": 2}), Sound()), {}, "ok", 0),
    "BT.709": ((Video(colours={"colorspace": 1}), Sound()), {}, "ok", 0),
    "hevc": ((Video(40, "libx265", HEVC | {"preset": "medium"}), Sound()), {}, "ok", 0),
    "av1": ((Video(codec="libsvtav1", options={"preset": "12"}), Sound()), {}, "ok", 0),
    "one frame": ((Video(1), Sound()), {}, "ok", 0),
    "three frames": ((Video(3), Sound()), {}, "ok", 0),
    "webm vp9 opus": (
        (Video(codec="libvpx-vp9", options={"cpu-used": "8"}), OPUS),
        {"container": "webm"},
        "ok",
        0,
    ),
    "webm vp8 with hidden frames": (
        (Video(40, "libvpx", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}), OPUS),
        {"container": "webm"},
        "ok",
        0,
    ),
    "matroska flac": ((Video(), Sound(codec="flac")), {"container": "matroska"}, "ok", 0),
    "matroska ac3 5.1": (
        (Video(), Sound(codec="ac3", rate_hz=48000, layout="5.1")),
        {"container": "matroska"},
        "ok",
        0,
    ),
    "ffv1": ((Video(codec="ffv1", options={}), PCM), {"container": "matroska"}, "ok", 0),
    "avi mpeg4 with B-frames": (
        (Video(40, "mpeg4", {"bf": "2"}), MP3),
        {"container": "avi"},
        "ok",
        MP3_PRIMING,
    ),
    "motion jpeg": (
        (Video(codec="mjpeg", pix_fmt="yuvj420p", options={}), PCM),
        {"container": "avi"},
        "ok",
        0,
    ),
    "flash": ((Video(), Sound()), {"container": "flv"}, "ok", PRIMING),
    "fragmented": (
        (Video(), Sound()),
        {"options": FRAGMENTS},
        "ok",
        PRIMING,
    ),
    "index first": ((Video(), Sound()), {"options": {"movflags": "faststart"}}, "ok", 0),
    "gif": (
        (Video(codec="gif", pix_fmt="rgb8", options={}),),
        {"container": "gif"},
        "partial: audio no_audio",
        0,
    ),
    "mono 8 kHz": ((Video(), Sound(layout="mono", rate_hz=8000)), {}, "ok", 0),
    "5.1": ((Video(), Sound(layout="5.1")), {}, "ok", 0),
    "24 bit 96 kHz": (
        (Video(), Sound(codec="pcm_s24le", rate_hz=96000)),
        {"container": "mov"},
        "ok",
        0,
    ),
    "pcm in mov": ((Video(), PCM), {"container": "mov"}, "ok", 0),
    "mp3 in mp4": ((Video(), MP3), {}, "ok", 0),
    "opus in mp4": ((Video(), OPUS), {}, "ok", 0),
    "no sound": ((Video(),), {}, "partial: audio no_audio", 0),
    "no video": ((Sound(),), {}, "partial: video no_video", 0),
    "sound longer than video": ((Video(), Sound(seconds=3.0)), {}, "ok", 0),
    "sound shorter than video": ((Video(30), Sound(seconds=0.5)), {}, "ok", 0),
    "sound begins late": ((Video(), Sound(begin_s=0.25, seconds=0.75)), {}, "ok", LATE),
    "video begins late": ((Video(begin_s=0.5), Sound()), {}, "ok", 0),
    "ogg": ((OPUS,), {"container": "ogg"}, "partial: video no_video", 0),
    "wav": ((PCM,), {"container": "wav"}, "partial: video no_video", 0),
    "mp3": ((MP3,), {"container": "mp3"}, "partial: video no_video", 0),
}


@contextlib.contextmanager
def time_limit():
    """End a block that takes too long; libraries that never come back end by the dump's exit."""
    faulthandler.dump_traceback_later(2 * TIME_LIMIT_S, exit=True)
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        faulthandler.cancel_dump_traceback_later()


def _too_long(*_):
    pytest.fail(f"not decoded in {TIME_LIMIT_S} s")


def test_a_file_that_is_never_decoded_fails_its_test(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TIME_LIMIT_S", 0.2)
    monkeypatch.setattr(sys.modules[__name__], "decode_clip", lambda *_, **__: time.sleep(60))
    with pytest.raises(pytest.fail.Exception, match=r"not decoded in 0\.2 s"):
        outcome_of(b"")


def outcome_of(content, limits=None):
    """Return what becomes of a file, and what was decoded of it."""
    try:
        with time_limit():
            decoded = decode_clip(content, SPEC, limits=limits or Limits())
    except MediaError as error:
        decoded, outcome = None, error.reason
    else:
        parts = [f"{modality} {reason}" for modality, reason in decoded.missing.items()]
        outcome = f"partial: {', '.join(parts)}" if parts else "ok"
    return outcome, decoded


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_file_gives_the_frames_and_the_sound_that_are_in_it(name):
    streams, options, expected, late = GOOD[name]
    content = write(*streams, **options)
    outcome, decoded = outcome_of(content)
    assert outcome == expected
    if "video" in decoded.arrays:
        assert np.array_equal(decoded.arrays["video"], reference_frames(content, 5))
        assert decoded.num_valid["video"] == 5
    if "audio" in decoded.arrays:
        sound_N = decoded.arrays["audio"]
        seconds = min(next(s.seconds for s in streams if isinstance(s, Sound)), 1.0)
        assert sound_N.shape == (RATE_HZ,)
        assert (
            late - 2 * (late > 0) - 12 * (late > 4000) <= lag_of(sound_N, RATE_HZ, seconds) <= late
        )
        assert np.abs(sound_N[6000:8000]).max() == pytest.approx(0.5, abs=0.05)
        valid = decoded.num_valid["audio"]
        assert np.abs(sound_N[valid:]).max(initial=0.0) == 0.0


def test_padding_is_declared_where_the_header_says_when_the_sound_ends():
    decoded = decode_clip(write(Video(30), Sound(seconds=0.5)), SPEC)
    assert decoded.num_valid["audio"] == RATE_HZ // 2
    assert np.abs(decoded.arrays["audio"][RATE_HZ // 2 - 40 : RATE_HZ // 2]).max() > 0.05
    assert np.abs(decoded.arrays["audio"][RATE_HZ // 2 :]).max() == 0.0


@pytest.mark.parametrize("layouts", [("stereo", "mono"), ("mono", "stereo"), ("5.1", "mono")])
def test_channels_that_change_on_the_way_are_all_heard(layouts):
    parts = [write(Sound(0.5, layout=layout), container="adts") for layout in layouts]
    sound_N = decode_clip(b"".join(parts), {"audio": SPEC["audio"]}).arrays["audio"]
    for begin in (2000, 10000):
        assert np.abs(sound_N[begin : begin + 4000]).max() == pytest.approx(0.5, abs=0.1)


def test_a_trimming_edit_list_is_followed():
    content = write(Video(20, options={"preset": "ultrafast", "g": "5"}))
    edited = patched(content, b"elst", 8, struct.pack(">II", 1300, 16000 * 7 // 10))
    found = decode_clip(edited, {"video": SPEC["video"]}).arrays["video"]
    assert np.array_equal(found, reference_frames(edited, 5))
    assert not np.array_equal(found, reference_frames(content, 5))


def test_a_cover_picture_is_no_video():
    assert outcome_of(write(Sound(), cover=True))[0] == "partial: video no_video"


def test_high_dynamic_range_is_shown_as_standard_range():
    levels = (0, 75, 148, 191, 255)
    for colours in (PQ, HLG):
        video = Video(
            5, "libx265", HEVC | {"crf": "4"}, "yuv420p10le", colours=colours, levels=levels
        )
        decoded = decode_clip(write(video), {"video": SPEC["video"]})
        found = decoded.arrays["video"][:, -8:, -8:].mean(axis=(1, 2, 3))
        assert np.all(np.diff(found) > 0)
        assert found[0] < 3
        assert found[4] > 250
        white = {"color_trc": 16}.items() <= colours.items()
        assert found[2] == pytest.approx(234 if white else 156, abs=6)


@pytest.mark.parametrize("colorspace", [1, 5, 6, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_the_matrix_and_the_range_of_a_stream_are_honoured(colorspace, color_range):
    colours = {"colorspace": colorspace, "color_range": color_range}
    video = Video(3, options=FINE, colours=colours, levels=(60, 120, 180))
    found = decode_clip(write(video), {"video": VideoSpec(3, *video.size)}).arrays["video"]
    assert np.allclose(found[:, 4:20, 4:28, 0].mean(axis=(1, 2)), 254, atol=3)
    for rows, columns in ((slice(4, 20), slice(4, 28)), (slice(-20, None), slice(-20, None))):
        assert np.allclose(found[:, rows, columns, 2].mean(axis=(1, 2)), (60, 120, 180), atol=3)


@functools.cache
def clip():
    return write(Video(), Sound())


def wav(num_channels, rate_hz=8000, content=bytes(16000)):
    """Return a WAV file that says what it likes of its sound."""
    step = 2 * num_channels
    head = struct.pack("<IHHIIHH", 16, 1, num_channels, rate_hz, rate_hz * step % 2**32, step, 16)
    chunks = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def transport(num_times):
    return write(Video(), Sound(), container="mpegts") * num_times


def stamps_apart(delta):
    """Return a clip whose frames are said to be so many units apart."""
    return patched(clip(), b"stts", 8, struct.pack(">II", 10, delta))


def years():
    """Return a Matroska file whose header says that it is 30 years long."""
    content = write(Video(), Sound(), container="matroska")
    return patched(content, b"\x44\x89\x88", 0, struct.pack(">d", 1e12))


def many_tiny_packets():
    """Return a file of a few KB that declares 100 million packets of one byte."""
    content = patched(clip(), b"stsz", 4, struct.pack(">II", 1, 100_000_000))
    content = patched(content, b"stsc", 8, struct.pack(">III", 1, 100_000_000, 1))
    return patched(content, b"stts", 8, struct.pack(">II", 100_000_000, 512))


def huge_picture(codec, container, marker, offset, pix_fmt="yuvj420p"):
    content = write(Video(codec=codec, pix_fmt=pix_fmt, options={}), container=container)
    return patched(content, marker, offset, b"\xff\xff\xff\xff")


def noise(num_bytes):
    return np.random.default_rng(0).integers(0, 256, num_bytes, np.uint8).tobytes()


def scrambled(name):
    """Return a clip with the content of a box overwritten by noise."""
    content = clip()
    begin = content.index(name) + 4
    return content[:begin] + noise(2000) + content[begin + 2000 :]


MKV_CLUSTER = b"\x1fC\xb6u\x01\xff\xff\xff\xff\xff\xff\xff"
EBML = b"\x1aE\xdf\xa3\x84\x42\x86\x81\x01"

# name: (content, expected outcomes)
HOSTILE = {
    "no bytes": (lambda: b"", "empty"),
    "zeros": (lambda: bytes(4096), "unsupported"),
    "noise": (lambda: noise(100_000), "unsupported"),
    "a web page": (lambda: b"<html>404</html>" * 40, "unsupported"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000), "unsupported"),
    "an archive": (lambda: b"PK\x03\x04" + noise(2000), "unsupported"),
    "subtitles": (lambda: b"1\n00:00:01,000 --> 00:00:02,000\nHello\n" * 20, "unsupported"),
    "only the first box": (lambda: clip()[:32], "truncated"),
    "half": (lambda: clip()[: len(clip()) // 2], "truncated"),
    "half, index first": (
        lambda: half(write(Video(), Sound(), options={"movflags": "faststart"})),
        "truncated",
    ),
    "half, fragmented": (
        lambda: half(write(Video(40), Sound(4.0), options=FRAGMENTS)),
        "partial: video truncated",
    ),
    "half a matroska": (lambda: half(write(Video(), Sound(), container="matroska")), "truncated"),
    "scrambled content": (lambda: scrambled(b"mdat"), "damaged"),
    "scrambled index": (lambda: scrambled(b"moov"), "no_streams"),
    "boxes in boxes": (
        lambda: functools.reduce(lambda a, _: box(b"moov", a), range(9000), b""),
        "damaged",
    ),
    "endless matroska": (lambda: EBML + MKV_CLUSTER * 50_000, "no_streams"),
    "ogg without pages": (lambda: b"OggS" + bytes(100_000), "damaged"),
    "flash without tags": (
        lambda: b"FLV\x01\x05\0\0\0\x09" + b"\0\0\0\0\x09\xff\xff\xff" * 9000,
        "unsupported",
    ),
    "transport stream of nothing": (
        lambda: (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 50_000,
        "unsupported",
    ),
    "transport stream of tables": (lambda: transport(1)[: 188 * 3] * 20_000, "damaged"),
    "endless transport stream": (lambda: transport(200), "ok"),
    "pixels by container, 65535 x 65535": (
        lambda: patched(clip(), b"avc1", 24, b"\xff\xff\xff\xff", number=1),
        "ok",
    ),
    "pixels by gif, 65535 x 65535": (
        lambda: huge_picture("gif", "gif", b"GIF89a", 0, "rgb8"),
        "damaged",
    ),
    "pixels by jpeg, 65535 x 65535": (
        lambda: huge_picture("mjpeg", "avi", b"\xff\xc0", 3),
        "damaged",
    ),
    "frames hours apart": (lambda: stamps_apart(1 << 24), "ok"),
    "100 million packets": (many_tiny_packets, "partial: video truncated"),
    "years by the header": (years, "too_large"),
    "255 channels": (lambda: wav(255), "too_large"),
    "one sample a second for a day": (lambda: wav(1, 1, bytes(200_000)), "too_large"),
    "2 GHz of sound": (lambda: wav(1, 0x7FFFFFFF), "damaged"),
}


def half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_with_its_reason(name):
    make, expected = HOSTILE[name]
    assert outcome_of(make())[0] == expected


@pytest.mark.parametrize(
    ("limits", "content"),
    [
        (Limits(num_bytes=1000), clip),
        (Limits(num_pixels=1000), clip),
        (Limits(num_packets=20), clip),
        (Limits(num_frames=5), clip),
        (Limits(duration_s=0.5), clip),
        (Limits(num_channels=1), clip),
    ],
)
def test_what_is_over_a_limit_is_too_large(limits, content):
    outcome, _ = outcome_of(content(), limits)
    assert "too_large" in outcome


# What players follow to other files: {file} is a clip beside, {url} one on a server.
REFERENCES = {
    "m3u8 of a file": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{file}\n#EXT-X-ENDLIST\n",
    "m3u8 of file:": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{file}\n#EXT-X-ENDLIST\n",
    "m3u8 of a server": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "m3u8 of concat:": "#EXTM3U\n#EXTINF:1,\nconcat:{file}|{file}\n#EXT-X-ENDLIST\n",
    "m3u8 with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:1,\n{file}\n',
    "ffconcat": "ffconcat version 1.0\nfile '{file}'\n",
    "ffconcat of a server": "ffconcat version 1.0\nfile '{url}'\n",
    "concat": "file '{file}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\n",
    "xspf": '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
    "<track><location>{url}</location></track></trackList></playlist>",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    '<AdaptationSet><Representation id="0"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "pls": "[playlist]\nFile1={url}\nNumberOfEntries=1\nVersion=2\n",
    "rtsp in a text": "RTSPtext\nrtsp://127.0.0.1:{port}/x\n",
    "bare file name": "{file}",
    "bare address": "{url}",
}


@pytest.fixture
def bait(tmp_path):
    """A pipe that notices being opened and a server that notices being called."""
    pipe, opened = tmp_path / "secret.mp4", []
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: opened.append(os.open(pipe, os.O_WRONLY)), daemon=True)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/x.mp4"
        yield {"file": pipe, "url": url, "port": port}, opened, server
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    thread.join(5)
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_playlist_opens_no_other_file_and_no_socket(name, bait, monkeypatch):
    places, opened, server = bait
    monkeypatch.chdir(places["file"].parent)
    content = REFERENCES[name].format(**places).encode()
    assert outcome_of(content)[0] == "unsupported"
    assert not opened
    with pytest.raises(BlockingIOError):
        server.accept()


def test_the_bait_is_taken_by_a_reader_without_a_whitelist(bait):
    places, opened, _ = bait
    with open(places["file"], "rb"):
        time.sleep(0.2)
    assert opened


def test_a_reference_in_an_mp4_file_opens_nothing(bait):
    places, opened, server = bait
    path = str(places["file"]).encode()
    outside = clip().replace(b"url \x00\x00\x00\x01", b"alis\x00\x00\x00\x00")
    assert outside != clip()
    outcome_of(outside + path)
    assert not opened
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.skipif(not CLIPS.exists(), reason="MKE_RAY_CLIPS names no folder of videos")
def test_real_clips_decode_like_the_plain_reader_has_them():
    for path in sorted(CLIPS.glob("*.*")):
        if path.suffix not in (".mp4", ".avi"):
            continue
        outcome, decoded = outcome_of(path.read_bytes())
        assert outcome == ("partial: audio no_audio" if "silent" in path.name else "ok"), path
        expected = reference_frames(path.read_bytes(), 5)
        assert np.array_equal(decoded.arrays["video"], expected), path
