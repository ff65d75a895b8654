"""Folders of picture pairs, and of pictures with sounds, through every stage in this process."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from composed import composed
from omegaconf import OmegaConf
from PIL import Image
from scipy.io import wavfile

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.whole import run_stages
from mke_ray.storage import open_root

CLASSES = ["low", "high"]
NUM_PER_SPLIT = {"labelled": 12, "unlabeled": 24, "probe": 12, "test": 16}
RGB = {"kind": "image", "height": 20, "width": 24}
ENCODER = {"type": "image", "channels": [4, 8], "num_features": 8}

DEPTH = {"kind": "image", "height": 16, "width": 16, "lossless": True}
AUDIO = {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.5}
HEARING = {
    "type": "log_mel",
    "sample_rate_hz": 8000,
    "num_mels": 20,
    "mel_scale": "slaney",
    "filter_norm": "slaney",
    "channels": [8],
    "num_features": 8,
}


def picture(level, generator):
    """Return a PNG file of noise around a grey."""
    pixels = np.clip(generator.normal(level, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tone(number, generator):
    """Return a WAV file at 22.05 kHz, low or high."""
    time_N = np.arange(11_025) / 22_050
    sound_N = 0.4 * np.sin(2 * np.pi * (400, 1600)[number] * time_N)
    file = io.BytesIO()
    noise_N = generator.normal(0, 0.05, len(time_N))
    wavfile.write(file, 22_050, (32767 * (sound_N + noise_N)).astype(np.int16))
    return file.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_pairs(folder, other_suffix):
    """Write files ``rgb/SPLIT/CLASS/n.png`` and their others; one is partial and one bad."""
    generator = np.random.default_rng(0)
    for split, num in NUM_PER_SPLIT.items():
        for sample in range(num):
            number = sample % 2
            between = "" if split == "unlabeled" else f"{CLASSES[number]}/"
            key = f"{split}/{between}{sample:03d}"
            put(folder / f"rgb/{key}.png", picture((90, 160)[number], generator))
            other = tone(number, generator)
            if other_suffix == ".png":
                other = picture((60, 200)[number], generator)
            put(folder / f"other/{key}{other_suffix}", other)
    (folder / f"other/unlabeled/003{other_suffix}").unlink()
    put(folder / "rgb/unlabeled/005.png", b"<html>404</html>")
    put(folder / f"other/unlabeled/005{other_suffix}", b"")


def write_yaml(path, node, header=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + OmegaConf.to_yaml(OmegaConf.create(node)))


def write_experiment(folder, spec, encoder):
    """Write the configuration as a user would: one experiment and the groups that it chooses."""
    write_yaml(folder / "decode/pairs.yaml", {"rgb": RGB, "other": spec})
    student = {
        "encoders": {"rgb": ENCODER, "other": encoder},
        "fusion": "${fusion}",
        "head_hidden": [8],
    }
    write_yaml(folder / "student/pairs.yaml", student)
    teacher = {"modality": "rgb", "network": ENCODER, "fit": {"num_steps": 6}}
    view = {"_target_": "mke_ray.data.views.ImageView", "height": 16, "width": 20, "flip": True}
    experiment = {
        "defaults": [
            {"override /source": "pairs"},
            {"override /decode": "pairs"},
            {"override /student": "pairs"},
            {"override /engine": "torch"},
        ],
        "name": "pairs",
        "arms": ["um_student", "mke"],
        "teacher": teacher,
        "views": {"rgb": view},
        "supervised": {"_target_": "mke_ray.objectives.MKEObjective", "alpha": 1.0},
        "fit": {"num_steps": 6, "global_batch": 8, "optimizer": {"type": "adamw", "lr": 2.0e-3}},
        "labelling": {"unit_size": 8, "runner": "local"},
    }
    write_yaml(folder / "experiment/pairs.yaml", experiment, "# @package _global_\n")


@pytest.mark.parametrize(
    ("suffix", "spec", "encoder"), [(".png", DEPTH, ENCODER), (".wav", AUDIO, HEARING)]
)
def test_a_folder_of_pairs_goes_through_every_stage(tmp_path, suffix, spec, encoder):
    make_pairs(tmp_path / "bucket", suffix)
    write_experiment(tmp_path / "conf", spec, encoder)
    files = f'{{rgb: "rgb/{{key}}.png", other: "other/{{key}}{suffix}"}}'
    (job,) = composed(
        f"hydra.searchpath=[file://{tmp_path / 'conf'}]",
        "experiment=pairs",
        f"source.root={tmp_path / 'bucket'}",
        f"source.files={files}",
        f"source.classes={CLASSES}",
        "scaling.launch=local",
        "tracking=off",
        f"root={tmp_path / 'run'}",
    )
    metrics = run_stages(job)
    counts = metrics["counts"]
    num_all = sum(NUM_PER_SPLIT.values())
    assert (counts["samples"], counts["ok"]) == (num_all, num_all - 2)
    assert (counts["partial"], counts["bad"], counts["retry"]) == (1, 1, 0)
    assert {"teacher", "um_student", "mke"} <= set(metrics["arms"])
    assert metrics["arms"]["mke"]["num_test"] == NUM_PER_SPLIT["test"]
    assert metrics["pseudo_labels"]["num"] == NUM_PER_SPLIT["unlabeled"] - 1
    report = Path(job.root) / "report"
    assert json.loads((report / "metrics.json").read_text()) == metrics
    page = (report / "index.html").read_text()
    assert "missing_file" in page and "unsupported" in page
    manifest = Manifest.open(open_root(job.root).child("manifest"))
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    assert Counter(row.split for row in rows) == NUM_PER_SPLIT
    assert all(row.etag for row in rows)
