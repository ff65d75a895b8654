"""The processes that write the demo, as real ones."""

import os
import sys
import time

import psutil

from mke_ray.data.demo import TABLE


def test_the_processes_that_write_end_with_the_job_that_started_them(tmp_path):
    code = (
        "from mke_ray.data.demo import DemoSource\n"
        f"DemoSource({str(tmp_path)!r}, num_unlabeled=5000, num_processes=2).prepare()"
    )
    path = os.pathsep.join(filter(None, sys.path))
    job = psutil.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    try:
        deadline_s = time.monotonic() + 60
        while not list(tmp_path.glob("clips/**/*.mp4")) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        writers = [one for one in job.children() if "spawn_main" in " ".join(one.cmdline())]
        assert writers and not (tmp_path / TABLE).exists()
    finally:
        job.kill()
        job.wait(20)
    _, alive = psutil.wait_procs(writers, timeout=10)
    for one in alive:
        one.kill()
    assert not alive
