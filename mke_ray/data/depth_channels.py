"""Channels of a depth map: distance, its inverse, height above the floor, slope, normals."""

# H height, W width, K depth channels, P points.

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mke_ray.schema import DepthChannels

DEFAULT_VIEW_DEG = 60.0

_METRES_OF_DEPTH = 10.0
_NEAREST_M = 0.5
_METRES_OF_HEIGHT = 3.0
# The floor is as high as this share of all points lies below; the lowest ones are errors.
_FLOOR_SHARE = 0.01
# A plane is fitted to a window of so many pixels to each side.
_RADIUS = 2
_LEAST_POINTS = 6
# Rounds of the search for gravity, and how far a normal may be from it, or from its plane.
_ROUNDS_DEG = (45.0, 45.0, 45.0, 45.0, 45.0, 15.0, 15.0, 15.0, 15.0, 15.0)


def depth_channels(
    metres_HW: np.ndarray, channels: str, *, view_deg: float = DEFAULT_VIEW_DEG
) -> np.ndarray:
    """Return the channels of a depth map.

    Args:
        metres_HW: Distance along the axis of the camera in metres [H, W], 0 where unknown.
        channels: One of ``DepthChannels``; ``DepthSpec`` says what each of them is.
        view_deg: Horizontal angle of view of the camera, for normals and heights.

    Returns:
        float32 [H, W, K], 0 where the depth is not known.
    """
    metres_HW = metres_HW.astype(np.float64)
    is_known_HW = metres_HW > 0
    inverse_HW = np.where(is_known_HW, 1.0 / np.where(is_known_HW, metres_HW, 1.0), 0.0)
    if channels == DepthChannels.METRES:
        return metres_HW[:, :, None].astype(np.float32)
    if channels == DepthChannels.INVERSE:
        return inverse_HW[:, :, None].astype(np.float32)
    return _hha(inverse_HW, is_known_HW, view_deg)


def _hha(inverse_HW: np.ndarray, is_known_HW: np.ndarray, view_deg: float) -> np.ndarray:
    """Return the six channels of geometry, float32 [H, W, 6].

    Source:
        Gupta, Girshick, Arbelaez, Malik, Learning Rich Features from RGB-D Images for Object
        Detection and Segmentation, ECCV 2014, section 2 (disparity, height, angle to gravity).
    """
    height, width = inverse_HW.shape
    rays_HW3 = _rays(height, width, view_deg)
    normal_HW3, has_normal_HW = _normals(inverse_HW, is_known_HW, rays_HW3)
    up_3 = _up(normal_HW3[has_normal_HW])
    metres_HW = np.where(is_known_HW, 1.0 / np.where(is_known_HW, inverse_HW, 1.0), 0.0)
    cosine_HW = np.clip(normal_HW3 @ up_3, -1.0, 1.0)
    angle_HW = np.where(has_normal_HW, np.arccos(cosine_HW) / math.pi, 0.0)
    channels = [
        metres_HW / _METRES_OF_DEPTH,
        np.minimum(_NEAREST_M * inverse_HW, 1.0),
        _heights(metres_HW[:, :, None] * rays_HW3 @ up_3, is_known_HW) / _METRES_OF_HEIGHT,
        angle_HW,
        normal_HW3[:, :, 0],
        -normal_HW3[:, :, 1],
    ]
    return np.stack(channels, axis=2).astype(np.float32)


def _rays(height: int, width: int, view_deg: float) -> np.ndarray:
    """Return where each pixel looks: right, down and forwards, [H, W, 3] with 1 forwards."""
    half = math.tan(math.radians(view_deg) / 2)
    right_W = (np.arange(width) + 0.5 - width / 2) * (2 * half / width)
    down_H = (np.arange(height) + 0.5 - height / 2) * (2 * half / width)
    right_HW, down_HW = np.meshgrid(right_W, down_H)
    return np.stack([right_HW, down_HW, np.ones((height, width))], axis=2)


def _normals(
    inverse_HW: np.ndarray, is_known_HW: np.ndarray, rays_HW3: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the normal of the surface at each pixel, towards the camera, and where there is one.

    Of a plane n.P = d the inverse distance is (n / d).ray, linear in the ray. So it is fitted by
    least squares to the inverse distances of a window, which is exact for planes.

    Returns:
        Unit vectors (right, down, forwards) [H, W, 3], 0 where there is none, and bool [H, W].
    """
    known_HW = is_known_HW.astype(np.float64)
    products_HW33 = rays_HW3[:, :, :, None] * rays_HW3[:, :, None, :] * known_HW[:, :, None, None]
    right_HW3 = rays_HW3 * (inverse_HW * known_HW)[:, :, None]
    matrix_HW33 = _window_sums(products_HW33)
    vector_HW3 = _window_sums(right_HW3)
    num_HW = _window_sums(known_HW)
    determinant_HW = np.linalg.det(matrix_HW33)
    step = rays_HW3[0, 1, 0] - rays_HW3[0, 0, 0] if rays_HW3.shape[1] > 1 else 0.0
    has_normal_HW = is_known_HW & (num_HW >= _LEAST_POINTS)
    has_normal_HW &= determinant_HW > 1e-3 * step**4 * np.maximum(num_HW, 1.0) ** 2
    matrix_HW33 = np.where(has_normal_HW[:, :, None, None], matrix_HW33, np.eye(3))
    slope_HW3 = -np.linalg.solve(matrix_HW33, vector_HW3[:, :, :, None])[:, :, :, 0]
    length_HW = np.linalg.norm(slope_HW3, axis=2)
    has_normal_HW &= length_HW > 0
    normal_HW3 = slope_HW3 / np.where(length_HW > 0, length_HW, 1.0)[:, :, None]
    return np.where(has_normal_HW[:, :, None], normal_HW3, 0.0), has_normal_HW


def _window_sums(array_HWX: np.ndarray) -> np.ndarray:
    """Return sums over a window around each pixel, of the same shape; outside counts as 0."""
    size = 2 * _RADIUS + 1
    for axis in (0, 1):
        widths = [(0, 0)] * array_HWX.ndim
        widths[axis] = (_RADIUS, _RADIUS)
        padded = np.pad(array_HWX, widths)
        array_HWX = sliding_window_view(padded, size, axis=axis).sum(axis=-1)
    return array_HWX


def _up(normal_P3: np.ndarray) -> np.ndarray:
    """Return which direction is up, a unit vector (right, down, forwards).

    It begins with up in the picture. In each round, normals near to it count as floors, those
    near to its plane as walls; up is then what is most parallel to the first and most
    perpendicular to the second.

    Source:
        Gupta, Arbelaez, Malik, Perceptual Organization and Recognition of Indoor Scenes from RGB-D
        Images, CVPR 2013, section 2.
    """
    up_3 = np.array([0.0, -1.0, 0.0])
    for limit_deg in _ROUNDS_DEG:
        cosine_P = np.abs(normal_P3 @ up_3)
        floor_P3 = normal_P3[cosine_P > math.cos(math.radians(limit_deg))]
        wall_P3 = normal_P3[cosine_P < math.sin(math.radians(limit_deg))]
        if not len(floor_P3):
            return up_3
        _, vectors_33 = np.linalg.eigh(wall_P3.T @ wall_P3 - floor_P3.T @ floor_P3)
        nearest_3 = vectors_33[:, 0]
        up_3 = nearest_3 if nearest_3 @ up_3 > 0 else -nearest_3
    return up_3


def _heights(height_HW: np.ndarray, is_known_HW: np.ndarray) -> np.ndarray:
    """Return metres above the floor, 0 where the depth is not known."""
    if not is_known_HW.any():
        return np.zeros_like(height_HW)
    floor = np.quantile(height_HW[is_known_HW], _FLOOR_SHARE)
    return np.where(is_known_HW, height_HW - floor, 0.0)
