"""What a training worker imports, each time that a group starts."""

import subprocess
import sys


def test_a_worker_does_not_import_what_takes_long_and_is_not_needed():
    code = "import sys, mke_ray.train.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mke_ray.train.worker" in loaded
    assert not loaded & {"scipy.stats", "deepspeed", "mlflow", "sklearn", "matplotlib"}
