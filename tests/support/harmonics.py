"""Real harmonics and their rotations by least squares on points: independent of the recursions in the package."""

import math

import numpy as np
import torch


def real_harmonics(l_max, points):
    """Return the real harmonics (P, (l_max + 1)^2) of unit vectors (P, 3), by degree l and order m = -l .. l.

    The associated Legendre functions are computed by their standard recursion in l, without the factor sin(theta)^m.
    This factor is part of the phases (x + i y)^m, so nothing is singular at the poles.
    """
    x, y, z = points.T
    phases = (x + 1j * y)[:, None] ** np.arange(l_max + 1)
    harmonics = np.empty((len(points), (l_max + 1) ** 2))
    for m in range(l_max + 1):
        # P_mm / sin^m, without the sign (-1)^m of Condon and Shortley.
        below, current = np.zeros_like(z), np.full_like(z, float(math.prod(range(1, 2 * m, 2))))
        for degree in range(m, l_max + 1):
            norm = math.sqrt((2 * degree + 1) * math.factorial(degree - m) / math.factorial(degree + m))
            center = degree * degree + degree
            if m == 0:
                harmonics[:, center] = norm * current
            else:
                harmonics[:, center + m] = math.sqrt(2.0) * norm * current * phases[:, m].real
                harmonics[:, center - m] = math.sqrt(2.0) * norm * current * phases[:, m].imag
            following = ((2 * degree + 1) * z * current - (degree + m) * below) / (degree - m + 1)
            below, current = current, following
    return harmonics


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
