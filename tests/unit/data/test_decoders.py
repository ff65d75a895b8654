"""Tests of the libraries that decode frames."""

import importlib.util

import numpy as np
import pytest
from media_files import frame_numbers
from odd_media import SIDE, Sound, Video, reference_frames, write

from mke_ray.data import decoders
from mke_ray.data.decoder import PYAV
from mke_ray.data.decoders import load_decoder
from mke_ray.data.media import decode_clip
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import AudioSpec, VideoSpec

THERE = [one for one in ("decord", "torchcodec") if importlib.util.find_spec(one)]
LONG = {"preset": "medium", "g": "12"}


def spec_of(backend):
    return {"video": VideoSpec(5, SIDE, SIDE, backend=backend), "audio": AudioSpec(8000, 1.0)}


@pytest.mark.parametrize("backend", THERE)
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_back_end_gives_the_same_frames_and_is_recorded(backend, container):
    content = write(Video(40, options=LONG), Sound(), container=container)
    decoded = decode_clip(content, spec_of(backend))
    assert decoded.decoder.startswith(f"{backend} ")
    expected = reference_frames(content, 5)
    difference = np.abs(decoded.arrays["video"].astype(int) - expected)
    assert difference.mean() < 4
    assert frame_numbers(decoded.arrays["video"]) == frame_numbers(expected)
    plain = decode_clip(content, spec_of("pyav"))
    assert np.array_equal(decoded.arrays["audio"], plain.arrays["audio"])


@pytest.mark.parametrize("backend", THERE)
@pytest.mark.parametrize(
    "make",
    [
        lambda: write(Video(40, options=LONG), container="mpegts"),
        lambda: write(Video(rotation=90)),
        lambda: write(Video(begin_s=0.5)),
        lambda: write(Video(codec="gif", pix_fmt="rgb8", options={}), container="gif"),
    ],
    ids=["transport stream", "rotated", "begins late", "gif"],
)
def test_where_a_back_end_is_not_exact_pyav_decodes(backend, make):
    content = make()
    decoded = decode_clip(content, {"video": spec_of(backend)["video"]})
    assert decoded.decoder == PYAV.version
    assert np.array_equal(decoded.arrays["video"], reference_frames(content, 5))


@pytest.mark.parametrize("backend", THERE)
def test_a_span_has_the_same_frames_by_every_back_end(backend):
    content = write(Video(200, options=LONG))
    spec = {"video": spec_of(backend)["video"]}
    decoded = decode_clip(content, spec, start_s=12.0, end_s=13.0)
    assert decoded.decoder.startswith(backend)
    expected = reference_frames(content, 5, start_s=12.0, end_s=13.0)
    assert frame_numbers(decoded.arrays["video"]) == frame_numbers(expected)


@pytest.mark.parametrize("backend", THERE)
def test_a_broken_file_has_the_same_reason_by_every_back_end(backend):
    content = write(Video(), Sound())
    for broken in (content[: len(content) // 2], b"<html></html>" * 9):
        reasons = []
        for one in (backend, "pyav"):
            with pytest.raises(MediaError) as caught:
                decode_clip(broken, spec_of(one))
            reasons.append(caught.value.reason)
        assert reasons[0] == reasons[1]


def test_a_back_end_that_does_not_load_is_refused_when_it_is_chosen(monkeypatch, tmp_path):
    monkeypatch.setitem(decoders._CLASSES, decoders.Backend.TORCHCODEC, ("no_such_module", "X"))
    load_decoder.cache_clear()
    source = VideosSource(str(tmp_path), ["a", "b"])
    with pytest.raises(
        ConfigError, match=r"backend=torchcodec .*no_such_module.*pip install.*pyav"
    ):
        source.reader(spec_of("torchcodec"))
    load_decoder.cache_clear()


def test_a_back_end_that_decodes_wrongly_is_refused(monkeypatch):
    class Wrong:
        version = "wrong 1.0"

        def frames(self, clip, spec):
            return PYAV.frames(clip, spec) // 2

    monkeypatch.setattr(decoders, "_import_decoder", lambda backend: Wrong())
    load_decoder.cache_clear()
    with pytest.raises(ConfigError, match="frames of brightness"):
        load_decoder("decord")
    load_decoder.cache_clear()
