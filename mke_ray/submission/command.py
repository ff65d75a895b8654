"""What ``jobs/submit.py`` does: submit a job, follow it, stop it, each by the same line."""

import argparse
import os
import sys
import tempfile

from ray.job_submission import JobStatus

from mke_ray.errors import ConfigError, MkeRayError
from mke_ray.submission.cluster import JobCluster
from mke_ray.submission.line import entrypoint, job_line
from mke_ray.submission.parcel import check_size, files_to_take, pack, read_rules, variables

RULES = os.path.join("cluster", "runtime_env.yaml")
STOP_PATIENCE_S = 120.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python jobs/submit.py",
        description="Submit a job to a running cluster, follow it, stop it; the same line again "
        "goes on with it.",
        usage="%(prog)s [options] -- jobs/expand.py root=ROOT [key=value ...]",
    )
    made.add_argument(
        "--address",
        default=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"),
        help="URL of the cluster's dashboard (RAY_API_SERVER_ADDRESS)",
    )
    made.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="an environment variable of here that the job gets; no secret. May be repeated",
    )
    made.add_argument(
        "--py-module",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a package of your own that driver and workers import. May be repeated",
    )
    made.add_argument("--max-mb", type=float, default=20.0, help="the most that travels (20)")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--no-follow", action="store_true", help="submit, and do not wait")
    what.add_argument("--follow", action="store_true", help="follow the job of this line")
    what.add_argument("--stop", action="store_true", help="end the job of this line")
    made.add_argument("job", nargs="+", help="the line of the job, behind --")
    return made


def run(job_file: str) -> None:
    """Do what the command line says; errors that a user can mend end the process with status 2.

    Args:
        job_file: ``__file__`` of the main, which lies one folder below what travels.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(job_file)))
    try:
        sys.exit(_run(parser().parse_args(), folder))
    except MkeRayError as error:
        _say(f"{type(error).__name__}: {error} (see python jobs/submit.py --help)")
        sys.exit(2)


def _run(told: argparse.Namespace, folder: str) -> int:
    """Do what was told and return the exit status."""
    if told.follow or told.stop:  # of a job that runs; what would travel now is nothing to it
        cluster = JobCluster(told.address)
        job = _living(cluster, entrypoint(told.job))
        return _stop(cluster, job) if told.stop else _follow(cluster, job, told.address)
    rules = read_rules(os.path.join(folder, RULES))
    modules = [os.path.abspath(one) for one in told.py_module]
    parcels = {one: files_to_take(one, rules.excludes) for one in [folder, *modules]}
    check_size(parcels, max_mb=told.max_mb)
    line = job_line(told.job, {one.name for one in parcels[folder]}, folder)
    env_vars = {**rules.env_vars, **variables(told.env, os.environ)}
    cluster = JobCluster(told.address)
    with tempfile.TemporaryDirectory(prefix="mke_ray_submit_") as scratch:
        archive = os.path.join(scratch, "working_dir.zip")
        pack(folder, parcels[folder], archive)
        own = {"py_modules": modules, "excludes": list(rules.excludes)} if modules else {}
        job = cluster.submit(line, {"working_dir": archive, "env_vars": env_vars, **own})
    _say(f"Submitted {job}.\n{_how_to(job, told.address)}")
    return 0 if told.no_follow else _follow(cluster, job, told.address)


def _living(cluster: JobCluster, line: str) -> str:
    """Return the job that runs a line.

    Raises:
        ConfigError: None does.
    """
    if found := cluster.living(line):
        return str(found[0].submission_id)
    raise ConfigError(f"no job of the cluster waits or runs with the line: {line}")


def _follow(cluster: JobCluster, job: str, address: str) -> int:
    """Show what a job says until it ends; Ctrl-C ends the showing alone."""
    try:
        status = cluster.follow(job, _write)
    except KeyboardInterrupt:
        _say(f"\n{job} goes on.\n{_how_to(job, address)}")
        return 130
    if status is None:
        _say(
            f"The connection to {address} was lost. If the cluster is there, the same line with "
            f"--follow shows {job} again; if it is gone, start one and submit the same line, which "
            "goes on."
        )
        return 1
    _say(f"{job}: {status.value}")
    return 0 if status == JobStatus.SUCCEEDED else 1


def _stop(cluster: JobCluster, job: str) -> int:
    """End a job."""
    status = cluster.stop(job, patience_s=STOP_PATIENCE_S)
    _say(f"{job}: {status.value}. The same line submitted again goes on where it stopped.")
    return 0 if status.is_terminal() else 1


def _how_to(job: str, address: str) -> str:
    """Return how to go on with a job."""
    return (
        f"Follow:  the same line with --follow (ray job logs --address {address} --follow {job})\n"
        f"Stop:    the same line with --stop (ray job stop --address {address} {job})\n"
        "Resume:  the same line again"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
