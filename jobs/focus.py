"""Measure what distillation between modalities gives, and which channels of a teacher to keep."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.focus.job.focus", __file__)
