"""The chaos benchmark with one kill of each kind: nothing is lost, doubled or mixed."""

import os
import subprocess
import sys

import pytest
from composed import REPOSITORY

NUM_KINDS = 7
TIMEOUT_S = 540


@pytest.mark.s3
def test_a_pass_under_fire_loses_doubles_and_mixes_nothing() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    few = ["--kills", str(NUM_KINDS), "--clips", "32", "--delay", "0.5", "--pause", "1.5"]
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / "chaos.py"), *few],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert f"{NUM_KINDS} kills in" in ended.stdout and "driver 1," in ended.stdout
    assert "0 rows lost, 0 twice, 0 mixed, 0 other problems" in ended.stdout
