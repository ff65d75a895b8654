"""A search on several nodes: a trial whose node is killed is begun again, and each ends once."""

import json
import os
import subprocess
import sys
from pathlib import Path

from composed import REPOSITORY

from mke_ray.search.ledger import Ledger
from mke_ray.storage import open_root


def test_trials_of_two_workers_outlive_a_node(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "search_on_nodes.py"), str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        },
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event == {"failed": [], "is_alive": False, "busy": 2}, ended.stderr[-3000:]
    (folder,) = (tmp_path / "run" / "search").glob("nodes-*")
    records = Ledger(open_root(str(folder))).ended()
    assert [one.number for one in records] == [0, 1, 2, 3]
    assert {one.state for one in records} <= {"finished", "stopped"}
    assert (folder / "winner.yaml").exists()
