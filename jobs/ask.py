"""List the unlabeled samples whose labels would settle a verdict, or teach most."""

from mke_ray.config import run_job
from mke_ray.config_help import JobHelp

HELP = JobHelp(
    header="mke_ray: which unlabeled samples people should label, as a sheet and a table.\n\n"
    "It needs a run that is finished, and the settings of that run (docs/asking.md).",
    footer="Examples\n"
    "  python jobs/ask.py ask.num=80                    80 samples to settle the verdict\n"
    "  python jobs/ask.py ask.num=80 dry_run=true       check everything, write nothing\n"
    "  python jobs/ask.py ask.purpose=learn ask.num=40  40 samples that teach most\n"
    "  python jobs/expand.py probe.more=labels.csv      with the labels that came back",
    section="ask",
)

if __name__ == "__main__":
    run_job("mke_ray.ask.job.ask", __file__, help_of=HELP)
