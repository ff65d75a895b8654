"""Tells Ray that this node is about to go: at once, or when the cloud says so.

``--deadline-s 90`` is for a preStop hook: it returns when the node has nothing left to do, or then.
``--watch aws`` or ``--watch gcp`` asks the machine until it is told that it will be taken back.
"""

import argparse
import http.client
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.autoscaler.v2.utils import is_head_node
from ray.core.generated.autoscaler_pb2 import DrainNodeReason, NodeState, NodeStatus
from ray.util import get_node_ip_address

logger = logging.getLogger("drain_node")

ASK_EVERY_S = 2.0

_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Cloud:
    """How a machine is told that it will be taken back.

    Args:
        address: Where it asks.
        is_told: Asks there.
        deadline_s: How long it has from then on, with something to spare.
    """

    address: str
    is_told: Callable[[str], bool]
    deadline_s: float


def told_by_aws(address: str) -> bool:
    """Return whether AWS announced an interruption; its metadata wants a session first."""
    life = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _answer(f"{address}/latest/api/token", life, method="PUT")
    own = {"X-aws-ec2-metadata-token": token}
    return _answer(f"{address}/latest/meta-data/spot/instance-action", own) != ""


def told_by_gcp(address: str) -> bool:
    """Return whether GCP announced a preemption."""
    own = {"Metadata-Flavor": "Google"}
    return _answer(f"{address}/computeMetadata/v1/instance/preempted", own).upper() == "TRUE"


CLOUDS = {
    "aws": Cloud("http://169.254.169.254", told_by_aws, 110.0),
    "gcp": Cloud("http://metadata.google.internal", told_by_gcp, 25.0),
}


def wait_for_notice(cloud: Cloud, *, ask_every_s: float = ASK_EVERY_S) -> None:
    """Ask until the machine is told that it will be taken back."""
    while not cloud.is_told(cloud.address):
        time.sleep(ask_every_s)


def nodes_here(client: GcsClient, node_ip: str) -> list[NodeState]:
    """Return the living Ray nodes of a machine, without the head, which nobody drains."""
    states = get_cluster_resource_state(client).node_states
    return [
        one
        for one in states
        if one.node_ip_address == node_ip
        and one.status != NodeStatus.DEAD
        and not is_head_node(one)
    ]


def drain(client: GcsClient, node_ip: str, deadline_s: float) -> int:
    """Tell Ray that a machine goes; return how many nodes of it were told."""
    deadline_ms = int((time.time() + deadline_s) * 1000)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    num_told = 0
    for node in nodes_here(client, node_ip):
        is_taken, why_not = client.drain_node(
            node.node_id.hex(), reason, f"{node_ip} is about to go", deadline_ms
        )
        logger.info("node %s: %s", node.node_id.hex(), why_not or "told")
        num_told += is_taken
    return num_told


def wait_until_done(client: GcsClient, node_ip: str, deadline_s: float) -> None:
    """Return when the nodes of a machine have nothing left to do, at the deadline at the latest."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until and nodes_here(client, node_ip):
        time.sleep(1.0)


def main(arguments: list[str] | None = None) -> int:
    """Drain this node, if Ray knows it."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    deadline_s = args.deadline_s
    if args.watch:
        cloud = CLOUDS[args.watch]
        wait_for_notice(Cloud(args.metadata_url or cloud.address, cloud.is_told, cloud.deadline_s))
        deadline_s = cloud.deadline_s
    client = GcsClient(address=args.address)
    if not drain(client, args.node_ip, deadline_s):
        logger.warning("no node of %s at %s was drained", args.node_ip, args.address)
        return 0
    wait_until_done(client, args.node_ip, deadline_s)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    address = os.environ.get("RAY_ADDRESS") or f"{os.environ.get('FQ_RAY_IP', '127.0.0.1')}:6379"
    parser.add_argument("--address", default=address, help="of the head, with its port")
    parser.add_argument("--node-ip", default=os.environ.get("POD_IP") or get_node_ip_address())
    parser.add_argument("--deadline-s", type=float, default=90.0, help="how long this node has")
    parser.add_argument("--watch", choices=sorted(CLOUDS), help="wait until this cloud says so")
    parser.add_argument("--metadata-url", help="asked in the place of the cloud's own address")
    return parser


def _answer(url: str, headers: dict[str, str], *, method: str = "GET") -> str:
    """Return what a metadata service says, "" where it says nothing."""
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310  # as given
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
            return answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", None) != 404:  # which is how AWS says "no"
            logger.warning("%s: %s", url, error)
        return ""


if __name__ == "__main__":
    sys.exit(main())
