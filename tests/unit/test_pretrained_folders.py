"""Digests of files of pretrained networks."""

import os
from pathlib import Path

from mke_ray.pretrained_folders import file_digest


def test_a_file_is_read_once_for_its_digest_until_its_size_or_time_change(tmp_path, monkeypatch):
    opened, read = [], Path.open
    monkeypatch.setattr(Path, "open", lambda *a, **k: opened.append(a) or read(*a, **k))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"1")
    os.utime(file, ns=(1, 1))
    opened.clear()
    first = file_digest(file)
    assert file_digest(str(file)) == first and len(opened) == 1
    os.utime(file, ns=(1, 2))
    assert file_digest(file) == first and len(opened) == 2
    file.write_bytes(b"23")
    os.utime(file, ns=(1, 2))
    assert file_digest(file) != first
