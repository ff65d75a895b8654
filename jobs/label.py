"""Decode every sample once and write the teacher's pseudo-labels."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.expansion.label", __file__)
