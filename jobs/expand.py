"""Expand a unimodal teacher into a multimodal student: every stage in order, each idempotent."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.expansion.expand", __file__)
