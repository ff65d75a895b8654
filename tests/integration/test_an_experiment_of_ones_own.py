"""A table, an experiment and networks that the package has never seen, named by YAML alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

EXPERIMENT = """
# @package _global_
defaults:
  - features

name: gestures
allow_targets: [gesture_nets]
source:
  table: gestures.npz
  modalities: {hand: hand, sound: ["mfcc*"], pulse: pulse}
  classes: [wave, point]
  columns: {label: gesture, group: person}
  missing: {sound: mean}
  splits: {labelled: 4, probe: 4, unlabeled: rest, test: 0.25}
decode:
  hand: {kind: features, num_features: 6}
  sound: {kind: features, num_features: 3}
  pulse: {kind: features, num_features: 1}
student:
  encoders:
    hand: {_target_: gesture_nets.Squared, num_inputs: 6}
    sound: {type: features, num_inputs: 3, hidden: [8]}
    pulse: {type: features, num_inputs: 1, hidden: [8]}
teacher: {modality: hand, fit: {num_steps: 30}}
fit: {num_steps: 20}
scaling: {launch: local}
tracking: {enabled: false}
"""

NETS = '''
"""Networks of a user."""

import torch
from torch import nn

from mke_ray.models.normaliser import Normaliser


class Squared(nn.Module):
    """Features and their squares through one layer."""

    def __init__(self, modality, *, num_inputs):
        super().__init__()
        self.modality, self.num_features = modality, 8
        self.needs = {"kind": "features", "num_features": num_inputs}
        self.normaliser = Normaliser(num_inputs, axis=1)
        self.layer = nn.Linear(2 * num_inputs, 8)

    def raw(self, x_BX):
        return x_BX.float()

    @torch.no_grad()
    def represent(self, x_BX):
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BD):
        return self.layer(torch.cat([x_BD, x_BD.square()], dim=1)).relu()


class FirstFinger:
    """A teacher that needs no training: the sign of the first feature of the hand."""

    modality = "hand"
    needs = {"kind": "features", "num_features": 6}

    def predict(self, arrays_BX):
        first_B = torch.as_tensor(arrays_BX)[:, 0]
        return torch.stack([-first_B, first_B], dim=1)

    def fingerprint(self):
        return "the first finger"
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    label_N = np.arange(160) % 2
    sign_N1 = (2 * label_N - 1)[:, None]
    mfcc_N2 = sign_N1 + generator.normal(size=(160, 2))
    mfcc_N2[::10, 0] = np.nan
    pulse_N = generator.normal(size=160)
    pulse_N[::16] = np.nan
    np.savez(
        tmp_path / "gestures.npz",
        hand=0.7 * sign_N1 + generator.normal(size=(160, 6)),
        mfcc_low=mfcc_N2,
        mfcc_high=sign_N1[:, 0] + generator.normal(size=160),
        pulse=pulse_N,
        gesture=np.array(["wave", "point"])[label_N],
        person=np.arange(160) // 8,
    )
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "gestures.yaml").write_text(EXPERIMENT)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "gesture_nets.py").write_text(NETS)
    return tmp_path


def expand(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / "expand.py"), "--config-dir", "conf"]
    where = os.pathsep.join([str(ROOT), str(folder / "code")])
    return subprocess.run(
        [*command, "experiment=gestures", "root=run", *overrides],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": where},
        check=False,
    )


def test_yaml_and_a_class_outside_the_package_make_an_experiment(folder: Path) -> None:
    done = expand(folder, "source.root=.")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "run" / "report" / "metrics.json").read_text())
    assert metrics["experiment"] == "gestures"
    assert metrics["arms"]["teacher"]["num_test"] == 40
    assert metrics["arms"]["mke"]["value"] > 0.5
    assert metrics["counts"] | {"ok": 150, "partial": 10, "bad": 0} == metrics["counts"]
    assert metrics["counts"]["partial_reasons"] == {"no_value": 10}
    filled, lacking = metrics["source_notes"]
    assert "filled 16 of 480 values of sound" in filled
    assert "10 of 160 rows lack" in lacking and "pulse 10" in lacking
    page = (folder / "run" / "report" / "index.html").read_text()
    assert filled in page and lacking in page
    specs = [json.loads(one.read_text()) for one in folder.glob("run/fits/*/*/student.json")]
    assert any("gesture_nets.Squared" in json.dumps(one) for one in specs)

    network = "{_target_: gesture_nets.FirstFinger}"
    done = expand(
        folder,
        "source.root=.",
        "root=second",
        "teacher=custom",
        "teacher.modality=hand",
        f"+teacher.network={network}",
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "second" / "report" / "metrics.json").read_text())
    assert metrics["arms"]["teacher"]["value"] > 0.5


def test_a_table_that_is_not_there_is_named_in_one_line(folder: Path) -> None:
    done = expand(folder, "source.root=code", "data_seeds=3")
    assert done.returncode == 2
    assert "source.table=gestures.npz is not in" in done.stderr
    assert "set source.root=DIR" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
