"""Decode every sample once and write the teacher's pseudo-labels."""

from mke_ray.config import run_job
from mke_ray.expansion import label

if __name__ == "__main__":
    run_job(label, __file__)
