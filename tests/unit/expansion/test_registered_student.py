"""A student as it is registered: another version whenever another student would be loaded."""

from types import SimpleNamespace

import pytest
import torch

from mke_ray.expansion.exporting import package_of
from mke_ray.models import build_student, save_student
from mke_ray.registry import DIGEST_TAG
from mke_ray.schema import LabelSpace
from mke_ray.storage import open_root

SPEC = {
    "encoders": {"x": {"type": "features", "num_inputs": 3, "hidden": [4]}},
    "fusion": {"type": "concat"},
}
DECODE = {"x": {"kind": "features", "num_features": 3}}


def package(folder, *, temperature=1.0, gain=0.1, card=""):
    torch.manual_seed(0)
    root = open_root(str(folder))
    save_student(
        root,
        build_student(SPEC, 2).eval(),
        spec=SPEC,
        label_space=LabelSpace(("cat", "dog")),
        temperature=temperature,
        card=card,
        extra={"decode": DECODE, "gate": {"gain": gain}},
    )
    run = SimpleNamespace(classes=dict)
    return package_of(root, run, {"fit": "f"}, name="cats", alias="champion")


@pytest.mark.parametrize("changed", [{"temperature": 2.0}, {"gain": 0.2}])
def test_the_same_weights_are_another_version_by_temperature_and_verdict(tmp_path, changed):
    first, again = package(tmp_path / "a"), package(tmp_path / "b")
    other = package(tmp_path / "c", **changed)
    assert first.tags == again.tags
    assert first.tags["student"] == other.tags["student"]
    assert first.tags[DIGEST_TAG] != other.tags[DIGEST_TAG]


def test_a_long_card_is_cut_to_what_mlflow_keeps(tmp_path):
    assert len(package(tmp_path, card="word " * 2000).description) == 5000
