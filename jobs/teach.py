"""Train the teacher on the labelled split, or check the one that the user named."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.expansion.teach", __file__)
