"""Animated molecule or crystal, thinned for the report page."""

import base64
import zlib
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from markupsafe import Markup

from piwsl.analysis.comparison import Comparison
from piwsl.errors import DataError
from piwsl.structures.bonds import find_bonds
from piwsl.structures.metals import are_chemical
from piwsl.trajectories.frame_source import first_frame
from piwsl.typing import FloatArray, IntArray

MOST_FRAMES = 200
MOST_NUMBERS = 500_000  # largest number of coordinates in all scenes of a page, about 1.3 MB
PRECISION = 0.01  # angstrom
TURNED, TILTED = -20.0, 12.0  # degrees; rotation of a cell from the view with its first vector across the page


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of one run for the 3-D view.

    Attributes:
        name: Name of the run.
        species: Atomic numbers (atoms,).
        bonds: Atom indices (bonds, 2) of the bonds in the first frame.
        times: Times (frames,), fs.
        positions: Positions (frames, atoms, 3), angstrom. The first frame is rotated into the plane of the page and the
            other frames are superposed on it; a crystal is only rotated slightly.
        end: Time at which the run became unphysical, fs, or None.
        cell: Corner of the first cell of a crystal and its three neighboring corners (4, 3), angstrom, or None.
    """

    name: str
    species: IntArray
    bonds: IntArray
    times: FloatArray
    positions: FloatArray
    end: float | None
    cell: FloatArray | None = None

    @property
    def edges(self) -> FloatArray:
        """Both ends of the edges of the cell (12, 2, 3), angstrom; empty for a molecule."""
        if self.cell is None:
            return np.zeros((0, 2, 3))
        corner, vectors = self.cell[0], self.cell[1:] - self.cell[0]
        ends = []
        for axis in range(3):
            others = np.delete(vectors, axis, axis=0)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                start = corner + i * others[0] + j * others[1]
                ends.append((start, start + vectors[axis]))
        return np.array(ends)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols (atoms,)."""
        return [chemical_symbols[int(number)] for number in self.species]

    def encoded(self) -> str:
        """Return position differences between frames as little-endian int16 (0.01 angstrom), deflated, base64."""
        largest = np.iinfo(np.int16).max
        steps = np.clip(np.rint(self.positions / PRECISION), -largest, largest).astype("<i2")
        steps[1:] = np.diff(steps, axis=0)  # overflow wraps around, and is undone by the summation
        return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii")


def scene_of(comparison: Comparison, name: str, numbers: int = MOST_NUMBERS) -> Scene | None:
    """Return at most 200 frames of a run, including the first broken frame.

    Args:
        comparison: Comparison of the run.
        name: Name of the run.
        numbers: Largest number of coordinates, which limits the number of frames for large systems.

    Returns:
        Scene; None if no frame has finite positions, or a single frame is too large.
    """
    run = comparison.run
    atoms = len(run.species)
    most = min(MOST_FRAMES, numbers // (3 * atoms))
    if most < 1:
        return None
    end = None if comparison.stable else comparison.stable_time.value
    frames = len(run.frames)
    chosen = np.unique(np.linspace(0, frames - 1, most).round().astype(int))
    if end is not None and len(chosen) > 1:
        broken = min(int(np.searchsorted(run.times, end)), frames - 1)
        chosen[np.argmin(np.abs(chosen - broken))] = broken
    chosen = np.unique(chosen)
    positions = np.asarray(run.frames.at(chosen), dtype=np.float64)
    finite = np.isfinite(positions).all(axis=(1, 2))
    if not finite.any():
        return None
    positions, times = positions[finite], run.times[chosen][finite]
    try:
        bonds = find_bonds(run.species, positions[:1]).pairs
    except DataError:  # no bonds in the first frame
        bonds = np.zeros((0, 2), dtype=np.int64)
    masses, cell = run.frames.masses, first_frame(run.frames)[1]
    if cell is None:
        return Scene(name, run.species, bonds, times, superposed(positions, masses), end)
    bonds = bonds[are_chemical(run.species, bonds)]
    still, corners = at_rest(positions, masses, cell)
    return Scene(name, run.species, bonds, times, still, end, corners)


def at_rest(positions: FloatArray, weights: FloatArray, cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the frames of a crystal without the drift of its center, and its cell, rotated for the view.

    Args:
        positions: Unwrapped positions (frames, atoms, 3).
        weights: Weights (atoms,).
        cell: Cell (3, 3) of the first frame.

    Returns:
        Positions (frames, atoms, 3), and a corner of the cell with its three neighboring corners (4, 3).
    """
    share = weights / weights.sum()
    drift = np.einsum("i,fij->fj", share, positions)
    centered = positions - drift[:, None]
    corners = np.concatenate([np.zeros((1, 3)), cell]) - drift[0]
    turn, tilt = np.radians(TURNED), np.radians(TILTED)
    about_y = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    rotation = about_y @ about_x
    return centered @ rotation, corners @ rotation


def superposed(positions: FloatArray, weights: FloatArray) -> FloatArray:
    """Superpose frames on the first frame, with its longest axis along x and its shortest axis along z.

    The rotations minimize the squared distances (Kabsch, Acta Cryst. A 32, 922 (1976)).

    Args:
        positions: Positions (frames, atoms, 3).
        weights: Weights (atoms,).
    """
    share = (weights / weights.sum())[:, None]
    centered = positions - (positions * share).sum(axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(centered[0] - centered[0].mean(axis=0), full_matrices=True)
    first = centered[0] @ (axes.T * [1.0, 1.0, np.linalg.det(axes)])
    u, _, v = np.linalg.svd(centered.transpose(0, 2, 1) @ (share * first))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]
    return np.asarray(centered @ (u @ v))


SIZE = (820.0, 420.0)  # pixels
LARGEST_SCALE = 75.0  # pixels per angstrom


def picture_svg(scene: Scene) -> Markup:
    """Draw the first frame as balls and sticks, viewed along its shortest axis, as an ``<svg>`` element."""
    positions = scene.positions[0]
    radii = 0.42 * covalent_radii[scene.species]
    edges = scene.edges
    corners = edges.reshape(-1, 3)
    low = np.concatenate([positions - radii[:, None], corners]).min(axis=0)
    high = np.concatenate([positions + radii[:, None], corners]).max(axis=0)
    span = np.maximum(high - low, 1e-6)
    scale = min(LARGEST_SCALE, 0.92 * SIZE[0] / span[0], 0.92 * SIZE[1] / span[1])
    center = (low + high) / 2
    places, ends = (np.array(SIZE) / 2 + scale * (points - center)[..., :2] * [1, -1] for points in (positions, edges))
    depth = positions[:, 2]
    shapes = [
        (
            float(depth[[i, j]].min()) - 0.01,  # behind the two atoms
            f'<line x1="{places[i, 0]:.1f}" y1="{places[i, 1]:.1f}" x2="{places[j, 0]:.1f}" y2="{places[j, 1]:.1f}" '
            f'stroke="var(--outline)" stroke-width="{0.22 * scale:.1f}" stroke-linecap="round"/>',
        )
        for i, j in scene.bonds
    ]
    shapes += [
        (
            float(edge[:, 2].mean()),
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--muted)" stroke-width="1"/>',
        )
        for edge, ((x1, y1), (x2, y2)) in zip(edges, ends, strict=True)
    ]
    for place, number, radius, z in zip(places, scene.species, radii, depth, strict=True):
        color = "#" + "".join(f"{round(255 * float(part)):02x}" for part in jmol_colors[number])
        shapes.append(
            (
                float(z),
                f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius * scale:.1f}" fill="{color}" '
                'stroke="var(--muted)" stroke-width="1"/>',
            )
        )
    content = "".join(shape for _, shape in sorted(shapes))
    return Markup(f'<svg role="img" aria-label="The first frame" viewBox="0 0 {SIZE[0]:g} {SIZE[1]:g}">{content}</svg>')
