"""What was uploaded goes with the process that took it."""

import os
import subprocess
import sys
import tempfile

import pytest

from mke_ray.serve.spool import Spool

_HELD = """
import os
from mke_ray.serve.spool import Spool
spool = Spool()
open(os.path.join(spool.folder, "clip"), "w").close()
print(spool.folder, flush=True)
input()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_when_it_is_closed(place):
    spool = Spool()
    assert os.path.dirname(spool.folder) == str(place)
    spool.close()
    spool.close()
    assert not os.listdir(place)


def test_a_killed_process_leaves_nothing_behind_for_long_and_a_living_one_keeps_its_own(place):
    with subprocess.Popen(
        [sys.executable, "-c", _HELD],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        folder = process.stdout.readline().strip()
        Spool().close()
        assert os.listdir(folder) == ["clip"]
        process.kill()
        process.wait()
        assert os.path.exists(folder)
        Spool().close()
        assert not os.path.exists(folder)


def test_links_and_files_of_that_name_are_left_alone(place):
    (place / "mine").mkdir()
    (place / "mine" / "work").write_text("x")
    (place / "mke-serve-link").symlink_to(place / "mine")
    (place / "mke-serve-file").write_text("x")
    Spool().close()
    assert sorted(os.listdir(place)) == ["mine", "mke-serve-file", "mke-serve-link"]
    assert (place / "mine" / "work").exists()
