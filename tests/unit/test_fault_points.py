import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from mke_ray import fault_points, local_files, storage
from mke_ray.errors import StoreError
from mke_ray.fault_points import Fault, kind_of
from mke_ray.storage import open_root


@pytest.fixture
def root(tmp_path):
    yield open_root(str(tmp_path / "run"))
    fault_points.arm(None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("samples/1a/attempts/00ff-12.parquet", "samples/attempt"),
        ("labels/1a/parts/000001-12.parquet", "labels/part"),
        ("labels/1a/commits/00/00ff.1.json", "labels/commit"),
        ("labels/1a/index-000002.parquet", "labels/index"),
        ("labels/1a/spec.json", "labels/spec"),
        ("lease/000001.json", "lease"),
        ("manifest/part-00000-00001-ab.parquet", "manifest/part"),
        ("manifest/marks-00001-ab.parquet", "manifest/marks"),
        ("manifest/meta.json", "manifest/meta"),
        ("manifest/meta-00001.json", "manifest/meta"),
        ("manifest/progress.json", "manifest/progress"),
        ("report/index.html", "report/other"),
        ("seconds.json", "other"),
    ],
)
def test_a_file_is_of_the_kind_that_its_name_says(name, kind):
    assert kind_of(name) == kind


def test_all_that_is_done_to_a_store_has_its_points(root, tmp_path):
    fault_points.arm(Fault("record", file=str(tmp_path / "points")))
    root.write("meta.json", b"1")
    root.create("spec.json", b"1")
    root.create("spec.json", b"2")
    root.delete("spec.json")
    assert (tmp_path / "points").read_text().split() == [
        *(f"write:{phase}:meta" for phase in ("begin", "written", "replaced")),
        *(f"create:{phase}:spec" for phase in ("begin", "written", "linked", "end")),
        *(f"create:{phase}:spec" for phase in ("begin", "written")),
        *(f"delete:{phase}:spec" for phase in ("begin", "end")),
    ]


def test_a_fault_happens_at_its_point_and_occurrence_alone(root):
    fault_points.arm(Fault("fail", "create:begin:spec", occurrence=2))
    assert root.create("spec.json", b"1")
    root.write("spec.json", b"1")
    with pytest.raises(OSError, match=r"No space.*create:begin:spec"):
        root.create("spec.json", b"1")
    assert not root.create("spec.json", b"1")


def test_a_write_that_fails_leaves_nothing_behind(root, tmp_path):
    for point in ("write:written:spec", "create:written:spec"):
        fault_points.arm(Fault("fail", point, errno=errno.EDQUOT))
        with pytest.raises(OSError, match=point):
            (root.write if point.startswith("write") else root.create)("spec.json", b"1")
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize("operation", ["write", "create"])
def test_a_writer_whose_half_written_file_is_deleted_is_told_so(root, monkeypatch, operation):
    def sleep(step, _):
        if step == f"{operation}:written":
            assert root.delete_unfinished(older_than_s=0.0) == 1

    monkeypatch.setattr(local_files, "reach", sleep)
    with pytest.raises(StoreError, match=r"spec\.json: another driver deleted.*start the job"):
        getattr(root, operation)("spec.json", b"1")
    assert list(root.names()) == []


def test_the_environment_names_the_fault_of_a_process(tmp_path):
    code = f"from mke_ray.storage import open_root; open_root({str(tmp_path)!r}).write('a', b'1')"
    fault = json.dumps({"mode": "kill", "point": "write:written:other"})
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MKE_RAY_FAULTS": fault}, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    root = open_root(str(tmp_path))
    assert list(root.names()) == []
    assert root.delete_unfinished() == 0, "its writer may live"
    assert root.delete_unfinished(older_than_s=0.0, wanted=lambda name: name == "b") == 0
    assert len(os.listdir(tmp_path)) == 1
    assert root.delete_unfinished(older_than_s=0.0, wanted=lambda name: name == "a") == 1
    assert os.listdir(tmp_path) == []


def test_half_written_files_of_long_ago_are_deleted_and_no_others(root, tmp_path):
    root.write("folder/a", b"1")
    for name in (".a.123.tmp", ".hidden", "b.tmp"):
        (tmp_path / "run" / "folder" / name).write_bytes(b"")
    for name in ("a", ".a.123.tmp", ".hidden", "b.tmp"):
        os.utime(tmp_path / "run" / "folder" / name, (0, 0))
    assert root.delete_unfinished(recursive=False) == 0
    assert root.delete_unfinished() == 1
    assert sorted(os.listdir(tmp_path / "run" / "folder")) == [".hidden", "a", "b.tmp"]


def test_nothing_is_counted_where_nothing_is_armed(root, monkeypatch):
    assert storage.reach is fault_points.reach
    monkeypatch.setattr(fault_points, "kind_of", lambda _: pytest.fail("looked at a name"))
    root.write("spec.json", b"1")
    root.delete("spec.json")
