"""What a dry run says of the cluster: whether it has room for the training workers."""

import os
from dataclasses import asdict

from mke_ray.config_schema import JobConfig
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.session import session_of
from mke_ray.train.launch import check_group
from mke_ray.train.scaling import Scaling


def cluster_lines(job: JobConfig) -> list[str]:
    """Say what the cluster offers that a job joins; a local Ray is not started for it.

    Raises:
        ConfigError: The cluster does not answer, or has no room; it names the number to change.
    """
    address = job.ray.address or os.environ.get("RAY_ADDRESS")
    if job.scaling.launch != "trainer" or address in (None, "", "local"):
        return []
    plain = {**asdict(job.scaling), "is_autoscaling": job.ray.autoscaling}
    scaling = Scaling.from_dict(plain)
    with session_of(job).connected():
        nodes = living_nodes()
    fits = check_group(scaling, nodes)
    said = (
        f"cluster         {len(nodes)} nodes of {sum(one.cpus for one in nodes):g} CPUs and "
        f"{sum(one.gpus for one in nodes):g} GPUs: "
    )
    return [said + ("room for the training workers" if fits else "training waits for more nodes")]
