"""Train the teacher on the labelled split, or check the one that the user named."""

from mke_ray.config import run_job
from mke_ray.expansion import teach

if __name__ == "__main__":
    run_job(teach, __file__)
