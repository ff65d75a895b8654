"""What the figures of the synthetic study show: one scale, and numbers that can be read."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from mke_ray.focus import gaussian_figures
from mke_ray.focus.gaussian import (
    ALPHA,
    CHANNELS,
    GAMMA,
    GENERAL,
    NO_KD,
    RANDOM,
    RANKED,
    REGULAR,
    SPECIFIC,
    TEACHER,
)


def spread(mean: float, half: float = 0.02) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def of_channels(at: float, half: float) -> dict[str, Any]:
    arms = (GENERAL, RANKED, REGULAR, NO_KD, RANDOM, SPECIFIC)
    return {
        "at": at,
        "arms": {name: {"over_regular": spread(0, half), "teacher": spread(0.7)} for name in arms},
    }


def of_sharing(at: float, gain: float) -> dict[str, Any]:
    return {
        "at": at,
        "gain": spread(gain),
        **{name: spread(0.7) for name in (TEACHER, REGULAR, NO_KD)},
    }


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the figures that are drawn."""
    drawn: list[Figure] = []
    new_figure = gaussian_figures.new_figure

    def kept(*size: float) -> Figure:
        drawn.append(new_figure(*size))
        return drawn[-1]

    monkeypatch.setattr(gaussian_figures, "new_figure", kept)
    return drawn


def test_panels_of_channels_have_one_scale_and_numbers_beside_it(figures: list[Figure]) -> None:
    settings = [of_channels(0.3, 0.01), of_channels(0.5, 0.2)]
    gaussian_figures.gaussian_pictures({CHANNELS: settings, GAMMA: [], ALPHA: []})
    first, second = figures[0].axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xticks().tolist() == second.get_xticks().tolist()
    renderer = figures[0].canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    for axes in (first, second):
        right = axes.get_window_extent(renderer).x1
        assert len(axes.texts) == 7
        assert all(one.get_window_extent(renderer).x0 > right for one in axes.texts)


def test_gains_stand_at_their_dots_and_none_on_another(figures: list[Figure]) -> None:
    shared = [
        of_sharing(at, gain)
        for at, gain in ((0.0, -0.02), (0.5, 0.014), (0.67, 0.014), (0.75, 0.008), (0.8, -1e-4))
    ]
    gaussian_figures.gaussian_pictures({CHANNELS: [], GAMMA: shared, ALPHA: []})
    axes = figures[0].axes[0]
    written = ["\N{MINUS SIGN}2.0", "+1.4", "+1.4", "+0.8", "0.0"]
    assert [one.get_text() for one in axes.texts] == written
    renderer = figures[0].canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    boxes = [one.get_window_extent(renderer) for one in axes.texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    for box, setting in zip(boxes, shared, strict=True):
        x, y = axes.transData.transform((setting["at"], 100 * setting["gain"]["mean"]))
        assert box.x0 < x < box.x1
        assert min(abs(box.y0 - y), abs(box.y1 - y)) < figures[0].dpi * 8 / 72
