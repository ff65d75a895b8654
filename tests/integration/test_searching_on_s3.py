"""A search of a run in a bucket: killed, gone on with, each trial once, and its page there."""

import json
import uuid
from pathlib import Path

import pytest
from conftest import S3Server
from job_processes import kill_once, start_job
from search_runs import SPACE, check_runs_of_trials, command_line, finished_run, search_here

from mke_ray.search.ledger import Ledger
from mke_ray.storage import open_root

pytestmark = pytest.mark.s3

KEYS = ["search.num_trials=4", "search.reduction=2", "search.final_seeds=[0]", "search.name=s3"]


@pytest.mark.usefixtures("ray_session")
def test_a_search_in_a_bucket_goes_on_after_its_driver_was_killed(
    tmp_path: Path, s3_server: S3Server
) -> None:
    root = open_root(s3_server.uri("searched", uuid.uuid4().hex))
    finished_run(tmp_path, f"root={root.uri}")
    tracked = [f"root={root.uri}", "ray.num_cpus=2", "tracking=mlflow", "name=bucket"]
    keys = [*SPACE, *KEYS, *tracked]

    def ended() -> list[str]:
        return [one for one in root.names("search") if "/trials/" in one]

    kill_once(lambda: bool(ended()), start_job("tune", command_line(tmp_path, *keys)))
    before = {name: root.read(name) for name in ended()}
    search_here(tmp_path, *keys)
    (name,) = {"/".join(one.split("/")[:2]) for one in ended()}
    folder = root.child(name)
    assert [one.number for one in Ledger(folder).ended()] == [0, 1, 2, 3]
    assert all(root.read(one) == content for one, content in before.items())
    winner = json.loads(folder.read("result.json"))["winner"]
    assert folder.exists(f"test-trial-{winner}.json") and folder.exists("winner.yaml")
    assert b"<svg" in folder.read("index.html")
    assert folder.read("figures/trials.png").startswith(b"\x89PNG")
    database = tmp_path / "copy.db"
    database.write_bytes(root.read("mlflow/mlflow.db"))
    check_runs_of_trials(f"sqlite:///{database}", experiment="bucket", num_trials=4)
