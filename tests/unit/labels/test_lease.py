import json
import os
import subprocess
import sys
import threading
import time

import pytest

from mke_ray.errors import StoreError
from mke_ray.labels.lease import Lease
from mke_ray.storage import open_root


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def change_holder(root, generation=1, **fields):
    name = f"lease/{generation:06d}.json"
    root.write(name, json.dumps(json.loads(root.read(name)) | fields).encode())


def test_a_second_driver_is_told_who_holds_the_root(root):
    told = pytest.raises(StoreError, match=f"'label'.*pid {os.getpid()}.*since 20")
    with Lease(root).held("label"), told:
        Lease(root).acquire("other")


def test_a_second_driver_is_told_how_to_end_the_first(root, monkeypatch):
    with Lease(root).held("label"), pytest.raises(StoreError, match=f"kill {os.getpid()}"):
        Lease(root).acquire("other")
    told = {"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    with Lease(root).held("label"):
        monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
        with pytest.raises(StoreError, match=r"submitted as raysubmit_1\) .*job stop raysubmit_1"):
            Lease(root).acquire("other")


def test_an_entry_of_before_is_understood(root):
    with Lease(root).held("label"):
        name = "lease/000001.json"
        entry = {k: v for k, v in json.loads(root.read(name)).items() if k != "submission"}
        root.write(name, json.dumps(entry).encode())
        with pytest.raises(StoreError, match="'label'"):
            Lease(root).acquire("other")


def test_a_released_lease_can_be_taken_again(root):
    for _ in range(5):
        with Lease(root).held("label") as lease:
            lease.check(now=True)
    assert len(list(root.names("lease"))) <= 3


def test_entries_that_killed_drivers_did_not_delete_go_with_the_next(root):
    for number in (1, 2, 3, 4):
        fields = {"driver": "", "machine": "", "pid": 1, "token": "", "since_s": 0.0}
        entry = fields | {"heartbeat_s": 0.0, "released": False}
        root.write(f"lease/{number:06d}.json", json.dumps(entry).encode())
    with Lease(root).held("label"):
        pass
    assert list(root.names("lease")) == ["lease/000004.json", "lease/000005.json"]


def test_what_killed_drivers_left_half_written_goes_with_the_next(root, tmp_path):
    for folder in ("lease", "progress", "report"):
        left = tmp_path / folder / ".000001.json.12.tmp"
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"{")
        os.utime(left, (0, 0))
    with Lease(root).held("label"):
        assert [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")] == []


def test_a_lease_is_released_when_the_driver_fails(root):
    with pytest.raises(KeyError), Lease(root).held("label"):
        raise KeyError
    Lease(root).acquire("next")


def test_a_holder_that_gives_no_sign_of_life_is_replaced_and_notices(root):
    first = Lease(root)
    first.acquire("first")
    change_holder(root, machine="elsewhere/1", heartbeat_s=time.time() - 61)
    with Lease(root).held("second"):
        first.check()
        with pytest.raises(StoreError, match="took over"):
            first.check(now=True)
        with pytest.raises(StoreError, match="took over"):
            first.check()
        first.release()
        with pytest.raises(StoreError, match="'second'"):
            Lease(root).acquire("third")


def test_a_live_holder_on_another_machine_is_not_replaced(root):
    Lease(root).acquire("first")
    change_holder(root, machine="elsewhere/1", heartbeat_s=time.time() - 30)
    with pytest.raises(StoreError, match="host elsewhere"):
        Lease(root).acquire("second")


def test_a_dead_process_of_this_machine_is_replaced_at_once(root):
    Lease(root).acquire("first")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    change_holder(root, pid=process.pid)
    Lease(root).acquire("second")


def test_signs_of_life_are_given(root):
    lease = Lease(root, heartbeat_s=0.05)
    with lease.held("label"):
        before = json.loads(root.read("lease/000001.json"))["heartbeat_s"]
        time.sleep(0.3)
        assert json.loads(root.read("lease/000001.json"))["heartbeat_s"] > before


def test_a_heartbeat_that_dies_counts_as_lost(root, monkeypatch):
    lease = Lease(root, heartbeat_s=0.02)
    with lease.held("label"):
        monkeypatch.setattr(lease, "_write", lambda **_: 1 / 0)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        time.sleep(0.3)
        with pytest.raises(StoreError, match="sign of life"):
            lease.check()


def test_of_two_drivers_that_take_over_at_once_one_wins(root, monkeypatch):
    lease, other = Lease(root), Lease(root)
    monkeypatch.setattr(lease, "_newest", lambda: (0, None))
    other.acquire("quicker")
    with pytest.raises(StoreError, match="'quicker'"):
        lease.acquire("slower")
