"""Evaluate the arms on the test split, open the gate and write the report."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.expansion.evaluate", __file__)
