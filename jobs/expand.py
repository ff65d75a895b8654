"""Expand a unimodal teacher into a multimodal student: every stage in order, each idempotent."""

from mke_ray.config import run_job
from mke_ray.expansion import expand

if __name__ == "__main__":
    run_job(expand, __file__)
