"""Rotations of harmonics by least squares on points: independent of the recursions in the package."""

import numpy as np
import torch

from piwsl.models.networks.sphere import real_harmonics


def some_rotation(seed=0):
    """A rotation matrix (3, 3)."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix[:, 0] *= np.sign(np.linalg.det(matrix))
    return matrix


def rotation_of_harmonics(l_max, matrix):
    """Matrix D with Y(R u) = D Y(u) for all unit vectors u, float64."""
    points = np.random.default_rng(1).normal(size=(4 * (l_max + 1) ** 2, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    before, after = real_harmonics(l_max, points), real_harmonics(l_max, points @ matrix.T)
    return torch.from_numpy(np.linalg.lstsq(before, after, rcond=None)[0].T.copy())


def about_z(orders, angle):
    """Rotation about z of coefficients in the frame of an edge: cosines and sines of m turn by m times the angle."""
    matrix = torch.zeros(len(orders), len(orders), dtype=torch.float64)
    for row, (degree, order) in enumerate(orders):
        matrix[row, row] = np.cos(order * angle)
        if order != 0:
            matrix[row, orders.index((degree, -order))] = -np.sin(order * angle)
    return matrix


def mirrored(orders):
    """Mirror image at the xz plane: all sines change their sign."""
    return torch.diag(torch.tensor([-1.0 if order < 0 else 1.0 for _, order in orders], dtype=torch.float64))
