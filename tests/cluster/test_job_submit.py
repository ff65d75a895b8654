"""A cluster started by our own script: a job that is submitted, stopped, loses its head, and ends.

One job is told in full, since its parts are costly: it is submitted with a teacher of the user's,
holds while it labels, keeps a second driver out, is stopped, is submitted again, loses the head of
its cluster, and is submitted to a new one of two nodes, where it ends.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from composed import REPOSITORY
from left_behind import traces
from local_heads import Head, run, started_head, submit, wait_until

from mke_ray.data.manifest import Manifest
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root

pytestmark = pytest.mark.timeout(2400)  # of all starts together, where others work too

# One unit of each worker does not come back, so that no pass ends before the job is stopped.
HELD = {"mode": "delay", "point": "create:linked:labels/commit", "occurrence": 2, "delay_s": 900}
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED00",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-of-aws",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-of-mlflow",
    "HF_TOKEN": "planted-token-of-a-hub",
}
TEACHER = '''
"""A teacher of the user's, which only driver and workers that got this module can import."""


class Brightness:
    modality = "video"
    needs = {"kind": "video"}

    def predict(self, arrays):
        import numpy as np

        mean_B = arrays.reshape(len(arrays), -1).mean(axis=1) / 255.0
        return (mean_B[:, None] * np.linspace(-4.0, 4.0, 10)[None]).astype("float32")

    def fingerprint(self):
        return "brightness-1"
'''


@dataclass
class Story:
    """What happened to the job.

    Args:
        root: Root of its run.
        secrets: What was planted, and the tokens of both heads.
        held: Numbers of label commits when the first and the second start were held.
        second: What a second driver on the same root said.
        holder: The lease while the second driver was kept out.
        again: What the same line said while the job ran.
        stopped: What stopping it said; and seconds.
        after_stop: Lease and states of MLflow runs after it.
        shown: What the clusters show of their jobs, as JSON.
        sessions: Folders of Ray's sessions, with their logs.
        node: That of the second node of the second cluster.
        said: What the last start said.
        status: How it ended.
    """

    root: Path
    secrets: list[bytes] = field(default_factory=list)
    held: list[set[str]] = field(default_factory=list)
    second: str = ""
    holder: dict[str, object] = field(default_factory=dict)
    again: str = ""
    stopped: tuple[str, float] = ("", 0.0)
    after_stop: tuple[dict[str, object], list[str]] = ({}, [])
    shown: list[str] = field(default_factory=list)
    sessions: list[Path] = field(default_factory=list)
    node: Path = Path()
    said: str = ""
    status: int = -1

    def commits(self) -> set[str]:
        found = [one for one in self.root.glob("labels/*/commits/**/*") if one.is_file()]
        return {str(one) for one in found if not one.name.startswith(".")}

    def lease(self) -> dict[str, object]:
        newest = max((self.root / "lease").glob("*.json"))
        return json.loads(newest.read_text())

    def mlflow(self) -> list[str]:
        with sqlite3.connect(self.root / "mlflow.db") as database:
            return [status for (status,) in database.execute("select status from runs")]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("job")
    told = Story(folder / "run")
    module = folder / "brightness"
    module.mkdir()
    (module / "__init__.py").write_text(TEACHER)
    job = [
        *("jobs/expand.py", "experiment=tiny", f"root={told.root}", "arms=[mke]"),
        *("teacher=custom", "teacher.modality=video", "allow_targets=[brightness]"),
        "+teacher.network={_target_: brightness.Brightness}",
    ]
    line = ["--py-module", str(module), "--", *job]
    first = folder / "first"
    first.mkdir()
    with started_head(first, {**SECRETS, "MKE_RAY_FAULTS": json.dumps(HELD)}) as head:
        hold(told, head, line)
        keep_out(told, head, line, job)
        begun_s = time.monotonic()
        stopped = submit(head, "--stop", *line)
        told.stopped = (stopped.stdout + stopped.stderr, time.monotonic() - begun_s)
        told.after_stop = (told.lease(), told.mlflow())
        hold(told, head, line)
        remember(told, head)
        head.kill()
        told.sessions.append(Path(head.session.rename(folder / "first-session")))
    second = folder / "second"
    second.mkdir()
    with started_head(second, {**SECRETS, "NUM_CPUS": "3"}) as head:
        told.node = head.add_node(num_cpus=3)
        ended = submit(head, *line)
        told.said, told.status = ended.stdout + ended.stderr, ended.returncode
        remember(told, head)
        told.sessions += [head.session, told.node]
        yield told
        shutil.rmtree(told.node, ignore_errors=True)


def hold(told: Story, head: Head, line: list[str]) -> None:
    """Submit the job and wait until its workers are held."""
    before = told.commits()
    submitted = submit(head, "--no-follow", *line)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    wait_until(lambda: len(told.commits() - before) >= 2, most_s=300)
    told.held.append(told.commits())


def keep_out(told: Story, head: Head, line: list[str], job: list[str]) -> None:
    """Submit the same line while it runs, and another one on the same root, as Ray submits."""
    again = submit(head, "--no-follow", *line)
    told.again = again.stdout + again.stderr
    told.holder = told.lease()
    ray = [str(REPOSITORY / ".venv" / "bin" / "ray"), "job", "submit", "--address", head.address]
    env = ["--working-dir", ".", "--runtime-env", "cluster/runtime_env.yaml", "--"]
    second = run([*ray, *env, "python", *job[:4], "seed=1"], head)
    told.second = second.stdout + second.stderr


def remember(told: Story, head: Head) -> None:
    """Keep what a cluster shows of its jobs, and the secret that protects it."""
    token = (head.folder / "token").read_text().strip()
    told.secrets.append(token.encode())
    answer = requests.get(
        f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    told.shown.append(answer.text)


def test_a_job_with_code_of_the_users_ends_with_its_report(story: Story) -> None:
    assert story.status == 0, story.said[-4000:]
    assert "SUCCEEDED" in story.said and "--stop" in story.said
    metrics = json.loads((story.root / "report" / "metrics.json").read_text())
    assert metrics["counts"]["samples"] == 208
    assert "mke" in metrics["arms"]


def test_a_second_driver_is_told_who_holds_the_root_since_when_and_what_to_do(story: Story) -> None:
    holder = story.holder
    assert str(holder["submission"]).startswith("raysubmit_")
    named = f"pid {holder['pid']}, submitted as {holder['submission']}"
    assert f"{named}) has worked on this root since 20" in story.second
    assert f"ray job stop {holder['submission']}" in story.second
    assert "StoreError" in story.second and "FAILED" in story.second.upper()
    assert f"{holder['submission']} runs this line already" in story.again


def test_a_stopped_job_gives_its_root_back_and_leaves_no_run_open(story: Story) -> None:
    said, took_s = story.stopped
    assert "STOPPED" in said and took_s < 60, said
    lease, runs = story.after_stop
    assert lease["released"] is True
    assert runs and "RUNNING" not in runs


def test_each_start_goes_on_and_every_label_is_there_exactly_once(story: Story) -> None:
    first, second = story.held
    assert len(first) >= 2 and first < second
    root = open_root(str(story.root))
    manifest = Manifest.open(root.child("manifest"))
    (name,) = {one.split("/")[1] for one in root.names("labels")}
    report = verify(UnitStore.open(root.child("labels", name)), manifest)
    assert report.ok, report.problems
    assert report.num_rows == 208
    assert set(story.mlflow()) == {"FINISHED"}


def test_no_secret_of_the_nodes_is_in_stores_reports_tracking_logs_or_what_is_shown(
    story: Story,
) -> None:
    needles = [*(one.encode() for one in SECRETS.values()), *story.secrets]
    assert traces(open_root(str(story.root)), needles) == set()
    for text in (story.said, story.second, story.stopped[0], *story.shown):
        assert not [one for one in needles if one.decode() in text]
    num_files, of_the_job = 0, 0
    for session in story.sessions:
        for path in session.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                num_files += 1
                of_the_job += b"brightness.Brightness" in content
                assert not [one for one in needles if one in content], path
    assert num_files > 50 and of_the_job >= 2  # the drivers' logs


def test_what_travels_is_code_and_the_variables_that_are_named(story: Story) -> None:
    for session in story.sessions[1:]:  # both nodes of the second cluster
        (package,) = [
            one
            for one in session.glob("session_latest/runtime_resources/working_dir_files/*")
            if one.is_dir()
        ]
        names = {one.name for one in package.iterdir()}
        assert {"jobs", "mke_ray", "conf"} <= names
        assert not names & {".git", ".venv", "outputs", "tests"}
        assert not [*package.rglob("*.db"), *package.rglob("*.mp4")]
    for job in json.loads(story.shown[-1]):
        variables = set(job["runtime_env"]["env_vars"])
        assert variables <= {"RAY_JOB_STOP_WAIT_TIME_S", "OMP_NUM_THREADS"}
