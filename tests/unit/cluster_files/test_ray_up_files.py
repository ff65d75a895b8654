"""Cluster files of ``ray up``: by Ray's schema, by what the cloud's client takes, and closed."""

import copy
import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import ray.autoscaler
import yaml
from autoscaler_plans import autoscaling_config
from botocore.validate import ParamValidator
from cluster_files import CLUSTER, POOLS, RAY_UP, document, shell_words
from composed import REPOSITORY
from jsonschema import Draft7Validator

from mke_ray.node_pools import POOL_LABEL

AWS, GCP = RAY_UP
SCHEMA = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
TYPE_FIELDS = set(
    SCHEMA["properties"]["available_node_types"]["patternProperties"][".*"]["properties"]
)
# Of the documented fields of an instance of Compute Engine those that are used.
GCP_FIELDS: dict[str, Any] = {
    "machineType": None,
    "disks": {
        "boot": None,
        "autoDelete": None,
        "type": None,
        "interface": None,
        "initializeParams": {"diskSizeGb": None, "sourceImage": None, "diskType": None},
    },
    "networkInterfaces": {"subnetwork": None},
    "serviceAccounts": {"email": None, "scopes": None},
    "scheduling": {
        "provisioningModel": None,
        "instanceTerminationAction": None,
        "onHostMaintenance": None,
        "automaticRestart": None,
    },
    "shieldedInstanceConfig": {"enableIntegrityMonitoring": None, "enableVtpm": None},
}
# How many local disks Compute Engine lets these machines have.
LOCAL_DISKS = {
    "n2-standard-8": {0, 1, 2, 4, 8, 16, 24},
    "n2-standard-32": {0, 4, 8, 16, 24},
    "g2-standard-16": {0, 1},
    "g2-standard-48": {0, 4},
}
every_file = pytest.mark.parametrize("path", RAY_UP, ids=["aws", "gcp"])


def node_configs(path: Path) -> dict[str, dict[str, Any]]:
    types = document(path)["available_node_types"]
    return {name: one["node_config"] for name, one in types.items()}


def commands(path: Path) -> list[str]:
    """Return every command that a file has run on nodes."""
    cluster = document(path)
    keys = [key for key in cluster if key.endswith("_commands")]
    return [one for key in keys for one in cluster[key]]


@functools.cache
def ec2() -> Any:
    """Return what AWS's own client knows of its machines, which takes seconds to read."""
    return botocore.session.get_session().get_service_model("ec2")


def unknown_to_aws(config: dict[str, Any]) -> str:
    """Return what AWS's own client does not take of a node; Ray makes one subnet of several."""
    asked = {key: value for key, value in config.items() if key != "SubnetIds"}
    asked |= {"MinCount": 1, "MaxCount": 1}
    shape = ec2().operation_model("RunInstances").input_shape
    return ParamValidator().validate(asked, shape).generate_report()


def unknown_to_gcp(value: Any, known: dict[str, Any] | None) -> list[str]:
    """Return the fields of a node that are not among the documented ones."""
    if isinstance(value, list):
        return [one for each in value for one in unknown_to_gcp(each, known)]
    if not isinstance(value, dict):
        return []
    if known is None:
        return list(value)
    found = [key for key in value if key not in known]
    below = [unknown_to_gcp(value[key], known[key]) for key in value if key in known]
    return found + [one for each in below for one in each]


@every_file
def test_a_cluster_file_is_as_the_schema_of_ray_wants_it(path: Path) -> None:
    cluster = document(path)
    assert list(Draft7Validator(SCHEMA).iter_errors(cluster)) == []
    for one in cluster["available_node_types"].values():
        assert set(one) <= TYPE_FIELDS  # which the schema itself does not close
    autoscaling_config(path)  # Ray's own reading, with its defaults


def test_the_schema_refuses_a_misspelt_key() -> None:
    cluster = copy.deepcopy(document(AWS))
    cluster["idle_timeout_minute"] = 5
    cluster["available_node_types"]["head"]["resources"]["CPU"] = 0.5
    assert len(list(Draft7Validator(SCHEMA).iter_errors(cluster))) == 2


@pytest.mark.parametrize("name", ["head", *POOLS])
def test_the_client_of_aws_takes_every_node(name: str) -> None:
    config = node_configs(AWS)[name]
    assert unknown_to_aws(config) == ""
    assert "InstanceTyp" in unknown_to_aws({**config, "InstanceTyp": "x"})


@pytest.mark.parametrize("name", ["head", *POOLS])
def test_every_field_of_a_node_of_gcp_is_documented(name: str) -> None:
    config = node_configs(GCP)[name]
    assert unknown_to_gcp(config, GCP_FIELDS) == []
    assert unknown_to_gcp({**config, "machineTyp": "x"}, GCP_FIELDS) == ["machineTyp"]


@every_file
def test_pools_are_labelled_and_come_and_go(path: Path) -> None:
    cluster = document(path)
    types = cluster["available_node_types"]
    assert list(types) == ["head", *POOLS]
    assert sum(types[pool]["max_workers"] for pool in POOLS) == cluster["max_workers"]
    for name, one in types.items():
        assert one["labels"] == {POOL_LABEL: name}
        assert one["min_workers"] == 0


def test_pools_that_may_be_taken_back_are_spot_and_the_others_are_not() -> None:
    of_aws = {name: one.get("InstanceMarketOptions") for name, one in node_configs(AWS).items()}
    of_gcp = {name: one.get("scheduling", {}) for name, one in node_configs(GCP).items()}
    for name in ("head", *POOLS):
        is_spot = name in ("cpu-decode", "gpu-teacher")
        assert of_aws[name] == ({"MarketType": "spot"} if is_spot else None)
        assert (of_gcp[name].get("provisioningModel") == "SPOT") is is_spot


@every_file
def test_workers_listen_for_being_taken_back(path: Path) -> None:
    last = document(path)["worker_start_ray_commands"][-1]
    cloud = path.parent.name
    assert f"drain_node.py --address $RAY_HEAD_IP:6379 --watch {cloud}" in last


@every_file
def test_every_command_is_one_that_bash_can_parse(path: Path) -> None:
    for one in commands(path):
        checked = subprocess.run(
            ["bash", "-n"], input=one, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


@every_file
def test_nccl_keeps_off_the_bridge_of_docker_and_may_pin_memory(path: Path) -> None:
    docker = document(path)["docker"]
    assert {"--env NCCL_SOCKET_IFNAME=^lo,docker", "--ulimit memlock=-1:-1"} <= {
        *docker["run_options"]
    }
    assert "disable_shm_size_detection" not in docker  # Ray gives /dev/shm what its store needs


def test_what_the_page_changes_for_efa_is_taken_by_aws_and_by_ray() -> None:
    page = (REPOSITORY / "docs" / "cluster.md").read_text()
    (changed,) = (one for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "efa" in one)
    pool = yaml.safe_load(changed)["gpu-train"]
    assert not unknown_to_aws(pool["node_config"])
    assert not {"SubnetIds", "SecurityGroupIds"} & set(pool["node_config"])  # Ray takes one of both
    assert set(pool) <= TYPE_FIELDS
    cluster = copy.deepcopy(document(AWS))
    own = cluster["available_node_types"]["gpu-train"]
    kept = {
        k: v for k, v in own["node_config"].items() if k not in ("SubnetIds", "SecurityGroupIds")
    }
    own |= {**pool, "node_config": {**kept, **pool["node_config"]}}
    Draft7Validator(SCHEMA).validate(cluster)


@every_file
def test_a_cluster_wants_a_token_and_its_dashboard_listens_on_loopback(path: Path) -> None:
    cluster = document(path)
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert cluster["provider"]["use_internal_ips"] is True
    head = shell_words(" ".join(cluster["head_start_ray_commands"]))
    assert "--dashboard-host=127.0.0.1 " in head
    assert all("--dashboard-host" not in one for one in cluster["worker_start_ray_commands"])


@every_file
def test_ray_knows_every_option_that_nodes_are_started_with(path: Path) -> None:
    from ray.scripts.scripts import start

    known = {name for one in start.params for name in one.opts}
    started = [one for one in commands(path) if "ray start" in one]
    assert len(started) == 2
    for one in started:
        options = shell_words(one).split("ray start ")[1].split()
        assert {option.split("=")[0] for option in options} <= known


def test_nodes_of_aws_are_in_a_group_of_the_user_and_keep_their_credentials_close() -> None:
    for name, config in node_configs(AWS).items():
        assert config["SecurityGroupIds"]  # one that Ray makes lets the whole internet try its SSH
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        role = "mke-ray-head" if name == "head" else "mke-ray-worker"
        assert config["IamInstanceProfile"] == {"Name": role}
        assert all(one["Ebs"]["Encrypted"] for one in config["BlockDeviceMappings"])


def test_nodes_of_gcp_have_no_address_outside_and_accounts_of_their_own() -> None:
    for name, config in node_configs(GCP).items():
        assert all("accessConfigs" not in one for one in config["networkInterfaces"])
        (account,) = config["serviceAccounts"]
        role = "mke-ray-head" if name == "head" else "mke-ray-worker"
        assert account["email"].startswith(f"{role}@")


def test_nodes_of_aws_know_the_key_that_is_named_and_those_of_gcp_one_that_ray_makes() -> None:
    key_file = Path(document(AWS)["auth"]["ssh_private_key"])
    assert {one["KeyName"] for one in node_configs(AWS).values()} == {key_file.stem}
    assert "ssh_private_key" not in document(GCP)["auth"]  # else Ray hands no key to the nodes


def test_machines_of_gcp_have_as_many_local_disks_as_they_take_and_workers_have_some() -> None:
    for name, config in node_configs(GCP).items():
        number = sum(one["type"] == "SCRATCH" for one in config["disks"])
        assert number in LOCAL_DISKS[config["machineType"]]
        assert (number > 0) is (name != "head")
        assert [one["boot"] for one in config["disks"] if "boot" in one] == [True]


@pytest.mark.parametrize("name", ["iam_head.json", "iam_stores.json"])
def test_a_policy_gives_no_right_to_everything(name: str) -> None:
    policy = json.loads((CLUSTER / "aws" / name).read_text())
    assert policy["Version"] == "2012-10-17"
    for one in policy["Statement"]:
        assert set(one) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        actions = [one["Action"]] if isinstance(one["Action"], str) else one["Action"]
        assert all("*" not in action for action in actions)
        if one["Resource"] == "*":  # Amazon lets these be told no resource
            assert all(action.startswith("ec2:Describe") for action in actions)
        if {"ec2:TerminateInstances", "iam:PassRole"} & set(actions):
            assert one["Condition"]


def test_the_head_may_do_what_the_launcher_of_ray_calls_and_touches_its_own_cluster_only() -> None:
    policy = json.loads((CLUSTER / "aws" / "iam_head.json").read_text())
    granted = {
        action
        for one in policy["Statement"]
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    of_machines = {one.removeprefix("ec2:") for one in granted if one != "iam:PassRole"}
    assert of_machines <= set(ec2().operation_names)
    called = {"DescribeInstances", "DescribeImages", "RunInstances", "CreateTags"}
    assert called | {"TerminateInstances"} <= of_machines
    assert "iam:PassRole" in granted  # a worker has a role of its own
    tags = [
        value
        for one in policy["Statement"]
        for key, value in one.get("Condition", {}).get("StringEquals", {}).items()
        if key.endswith("/ray-cluster-name")
    ]
    assert tags and set(tags) == {document(AWS)["cluster_name"]}
