"""Evaluate the arms on the test split, open the gate and write the report."""

from mke_ray.config import run_job
from mke_ray.expansion import evaluate

if __name__ == "__main__":
    run_job(evaluate, __file__)
