"""Make the page of a run again from what is stored, or put several runs side by side."""

from mke_ray.config import run_job
from mke_ray.config_upkeep import ReportConfig

if __name__ == "__main__":
    run_job(
        "mke_ray.expansion.reporting.report", __file__, schema=ReportConfig, config_name="report"
    )
