"""Labels that are asked for settle a verdict sooner than labels at random, and no less honestly."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import ask


def test_fewer_labels_are_needed_than_at_random():
    rng = np.random.default_rng(0)
    differs = rng.random(2000) < 0.2
    student = np.where(differs, rng.random(2000) < 0.6, rng.random(2000) < 0.8)
    teacher = np.where(differs, ~student & (rng.random(2000) < 0.9), student)
    slip = ~differs & (rng.random(2000) < 0.02)
    world = ask.World(teacher ^ slip, student, differs)
    assert 0.02 < world.gain < 0.08
    plain, _ = ask.labels_needed(world, ask.at_random, num_draws=40)
    mine, above = ask.labels_needed(world, ask.asked, num_draws=40)
    assert plain is not None and mine is not None
    assert mine < 0.8 * plain
    assert above <= 0.06
