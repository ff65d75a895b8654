"""One sample read for a student is what the pass over a source would store of it."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from media_files import write_clip
from served_students import DECODE, export

from mke_ray.data.codec import decode_modality
from mke_ray.data.one_sample import read_sample
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.labels.rows import decode_row
from mke_ray.models import load_student
from mke_ray.schema import ManifestRow, decode_spec_from_dict


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clips" / "one.mp4"
    path.parent.mkdir()
    path.write_bytes(write_clip(sound_s=1.5))
    return path


def stored(path, start_s=None, end_s=None):
    """Return the arrays that the labelling pass stores of a clip."""
    spec = decode_spec_from_dict(DECODE)
    reader = VideosSource(str(path.parent), ("a", "b")).reader(spec)
    row = ManifestRow(0, "u", path.name, -1, "", start_s, end_s, "g", "unlabeled", None)
    found = decode_row(reader, row, spec)
    return {name: decode_modality(pieces, spec[name]) for name, pieces in found.pieces.items()}


@pytest.mark.parametrize("span", [(None, None), (0.2, 0.9)])
def test_arrays_of_a_clip_are_those_that_a_pass_stores(clip, span):
    wanted = stored(clip, *span)
    for given in (clip, str(clip), clip.read_bytes(), {"clip": clip}):
        arrays, present = read_sample(given, DECODE, start_s=span[0], end_s=span[1])
        assert list(arrays) == list(DECODE)
        for name, one in wanted.items():
            np.testing.assert_array_equal(arrays[name].numpy(), one[None])
            assert arrays[name].numpy().dtype == one.dtype
            assert present[name].tolist() == [True]


def test_a_student_takes_what_was_read_as_it_is(clip, tmp_path):
    loaded = load_student(export(tmp_path / "student"))
    logits_BC = loaded.student(*read_sample(clip, loaded.decode))
    assert logits_BC.shape == (1, 3)


def test_a_clip_without_sound_has_zeros_and_is_said_to_have_none(tmp_path):
    (tmp_path / "silent.mp4").write_bytes(write_clip(sound_s=0))
    arrays, present = read_sample(tmp_path / "silent.mp4", DECODE)
    assert {name: one.item() for name, one in present.items()} == {"video": True, "audio": False}
    assert torch.equal(arrays["audio"], torch.zeros(1, 8000))
    assert np.array_equal(arrays["video"][0], stored(tmp_path / "silent.mp4")["video"])


def test_a_modality_may_have_a_file_of_its_own(clip):
    file = io.BytesIO()
    np.save(file, np.full(8000, 0.25, np.float32))
    arrays, present = read_sample({"clip": clip, "audio": file.getvalue()}, DECODE)
    assert torch.allclose(arrays["audio"], torch.tensor(0.25), atol=1e-4)
    assert present["audio"].item() and present["video"].item()
    assert np.array_equal(arrays["video"][0], stored(clip)["video"])


def test_what_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="no bytes"):
        read_sample(b"", DECODE)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        read_sample(tmp_path / "gone.mp4", DECODE)
    with pytest.raises(ConfigError, match=r"'vidoe'.*'clip', 'audio', 'video'"):
        read_sample({"vidoe": b""}, DECODE)


def test_reading_needs_no_framework():
    code = (
        "import sys, mke_ray.models, mke_ray.data.one_sample;"
        "print([one for one in ('ray', 'deepspeed', 'mlflow', 'hydra') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
