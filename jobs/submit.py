"""Submit a job to a running cluster, follow it, stop it; the same line again goes on with it."""

from mke_ray.submission.command import run

if __name__ == "__main__":
    run(__file__)
