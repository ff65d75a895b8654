"""What a served student reads, and how its files and those of requests are reached."""

import json

import pytest
from served_students import DECODE, export

from mke_ray.errors import ConfigError
from mke_ray.schema import decode_spec_from_dict
from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.served import load_served

OTHER = {**DECODE, "video": {**DECODE["video"], "num_frames": 4}}


def test_only_the_student_and_modalities_say_how_samples_are_read(tmp_path):
    folder = export(tmp_path / "student")
    for place in (tmp_path, tmp_path / "student"):
        (place / "decode.json").write_text(json.dumps(OTHER))
    assert load_served(folder).decode == decode_spec_from_dict(DECODE)
    assert load_served(folder, decode=OTHER).decode == decode_spec_from_dict(OTHER)


def test_a_student_that_does_not_say_how_it_reads_needs_modalities(tmp_path):
    folder = export(tmp_path / "student", extra={})
    with pytest.raises(ConfigError, match="give it as modalities"):
        load_served(folder)
    assert load_served(folder, decode=DECODE).decode == decode_spec_from_dict(DECODE)


def test_options_reach_the_stores_of_named_files_and_no_disk(tmp_path):
    options = {"endpoint_url": "http://127.0.0.1:9", "anonymous": True}
    uris = AllowedUris(["s3://bucket/clips", str(tmp_path)], 10, options)
    assert uris.find("s3://bucket/clips/one.mp4")[0].options == options
    assert uris.find(f"{tmp_path}/one.mp4")[0].options == {}
