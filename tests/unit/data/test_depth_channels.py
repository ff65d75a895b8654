"""Tests of the channels of a depth map: planes of known place have known slopes and heights."""

import math

import numpy as np
import pytest

from mke_ray.data.depth_channels import depth_channels

HEIGHT, WIDTH, VIEW_DEG = 30, 40, 60.0


def rays():
    half = math.tan(math.radians(VIEW_DEG) / 2)
    right = (np.arange(WIDTH) + 0.5 - WIDTH / 2) * 2 * half / WIDTH
    down = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) * 2 * half / WIDTH
    return np.stack([*np.meshgrid(right, down), np.ones((HEIGHT, WIDTH))], axis=2)


def plane(normal, distance):
    """Return the depth of a plane ``normal . P = -distance``, 0 where no ray meets it."""
    slope = rays() @ np.asarray(normal, float)
    return np.where(slope < -1e-9, -distance / np.where(slope < -1e-9, slope, -1.0), 0.0)


def nearest(*planes):
    """Return the depth of the nearest of some planes, and which it is."""
    stacked = np.stack([np.where(one > 0, one, np.inf) for one in planes])
    depth = stacked.min(axis=0)
    return np.where(np.isfinite(depth), depth, 0.0), stacked.argmin(axis=0)


FLOOR = plane((0, -1, 0), 1.2)
WALL = plane((0, 0, -1), 8.0)
SIDE = plane((-math.sin(0.7), 0, -math.cos(0.7)), 3.0)


def hha(depth):
    return depth_channels(depth, "hha", view_deg=VIEW_DEG)


def test_a_floor_has_angle_and_height_zero_and_a_wall_a_horizontal_normal():
    depth, which = nearest(FLOOR, WALL)
    channels = hha(depth)
    inner = np.zeros(depth.shape, bool)
    inner[3:-3, 3:-3] = True
    edge = np.abs(np.diff(which, axis=0)).astype(bool)
    for row in np.flatnonzero(edge.any(axis=1)):
        inner[max(row - 3, 0) : row + 4] = False
    floor, wall = channels[inner & (which == 0)], channels[inner & (which == 1)]
    assert len(floor) > 50 and len(wall) > 50
    # Between the two, normals belong to neither, and tilt what is taken for up a little.
    assert np.abs(floor[:, [2, 3, 4]]).max() < 1e-2
    assert np.allclose(floor[:, 5], 1.0, atol=1e-3)
    assert np.allclose(wall[:, 3], 0.5, atol=1e-2)
    assert np.abs(wall[:, [4, 5]]).max() < 1e-3
    assert np.allclose(wall[:, :2], [0.8, 0.0625], atol=1e-4)
    assert wall[:, 2].min() > 0


def test_a_floor_alone_is_flat_to_the_last_digit():
    channels = hha(FLOOR)[FLOOR > 0]
    has_normal = np.abs(channels[:, 5]) > 0
    assert has_normal.mean() > 0.9
    assert np.abs(channels[has_normal][:, [2, 3, 4]]).max() < 1e-4


def test_heights_are_metres_above_the_floor():
    depth, which = nearest(FLOOR, WALL)
    down_m = depth * rays()[:, :, 1]
    wall = which == 1
    assert np.allclose(hha(depth)[wall][:, 2] * 3, 1.2 - down_m[wall], atol=1e-2)


def test_a_camera_that_looks_down_still_finds_the_floor():
    pitch = math.radians(20)
    up = (0, -math.cos(pitch), -math.sin(pitch))
    front = (0, math.sin(pitch), -math.cos(pitch))
    depth, which = nearest(plane(up, 1.2), plane(front, 3.0))
    channels = hha(depth)
    assert np.median(channels[which == 0][:, 3]) < 0.01
    assert np.median(channels[which == 1][:, 3]) == pytest.approx(0.5, abs=0.01)


def test_a_mirrored_depth_map_negates_the_horizontal_normal_alone():
    depth, _ = nearest(FLOOR, SIDE)
    channels, mirrored = hha(depth), hha(depth[:, ::-1])[:, ::-1]
    assert np.abs(channels[:, :, 4]).max() > 0.5
    assert np.allclose(mirrored[:, :, 4], -channels[:, :, 4], atol=1e-4)
    others = [0, 1, 2, 3, 5]
    assert np.allclose(mirrored[:, :, others], channels[:, :, others], atol=1e-4)


def test_nothing_is_said_where_the_depth_is_not_known():
    depth, _ = nearest(FLOOR, WALL)
    depth[10:15, 5:20] = 0.0
    for channels in ("metres", "inverse", "hha"):
        found = depth_channels(depth, channels, view_deg=VIEW_DEG)
        assert (found[11:14, 6:19] == 0).all()
        assert np.isfinite(found).all() and found.dtype == np.float32
    assert (hha(np.zeros((6, 8))) == 0).all()


def test_metres_and_inverse_are_what_they_say():
    depth = np.array([[0.0, 2.0], [4.0, 0.5]])
    assert np.array_equal(depth_channels(depth, "metres")[:, :, 0], depth)
    expected = [[0, 0.5], [0.25, 2]]
    assert np.array_equal(depth_channels(depth, "inverse")[:, :, 0], expected)
