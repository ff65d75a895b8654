"""What a worker imports, each time that one starts."""

import subprocess
import sys

import pytest

HEAVY = {"scipy.stats", "deepspeed", "mlflow", "sklearn", "matplotlib", "optuna"}


@pytest.mark.parametrize("module", ["mke_ray.train.worker", "mke_ray.search.ranks"])
def test_a_worker_does_not_import_what_takes_long_and_is_not_needed(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & HEAVY
