"""The data report: what a set of frames holds, and whether it can be what it says."""

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.frames import FrameSet
from piwsl.data.neighbours import neighbour_edges
from piwsl.units import HARTREE

# Bands outside which labels or structures are unlikely to be in eV and angstrom.
FORCE_RMS_BAND = (0.02, 12.0)  # eV/angstrom
SMALLEST_DISTANCE_BAND = (0.6, 3.5)  # angstrom
_SEARCH_RADIUS = 4.0  # angstrom
_FRAMES_SEARCHED = 2000


@dataclass(frozen=True)
class DataReport:
    """Counts and ranges of a set of frames; energies in eV, lengths in angstrom."""

    frames: int
    formulas: dict[str, int]
    elements: list[str]
    atoms: tuple[int, int]
    periodic_frames: int
    energies: int
    forces: int
    energy_per_atom: tuple[float, float] | None
    energy_spread: float | None
    force_rms: float | None
    force_max: float | None
    smallest_distance: float
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text, one fact a line."""
        formulas = ", ".join(f"{name} ({count})" for name, count in list(self.formulas.items())[:4])
        more = f" and {len(self.formulas) - 4} more" if len(self.formulas) > 4 else ""
        sizes = f"{self.atoms[0]}" if self.atoms[0] == self.atoms[1] else f"{self.atoms[0]} to {self.atoms[1]}"
        lines = [
            f"frames             {self.frames}: {formulas}{more}",
            f"elements           {' '.join(self.elements)}; {sizes} atoms; {self.periodic_frames} periodic",
            f"labels             energies on {self.energies} and forces on {self.forces} of {self.frames} frames",
        ]
        if self.energy_per_atom is not None and self.energy_spread is not None:
            low, high = self.energy_per_atom
            lines.append(
                f"energy             {low:.4f} to {high:.4f} eV/atom; "
                f"spread at equal formula {self.energy_spread:.3f} eV"
            )
        if self.force_rms is not None:
            lines.append(f"forces             RMS {self.force_rms:.3f}, largest {self.force_max:.2f} eV/A")
        lines.append(f"smallest distance  {self.smallest_distance:.3f} A")
        return lines + [f"note: {note}" for note in self.notes] + [f"warning: {text}" for text in self.warnings]


def inspect_frames(frames: FrameSet) -> DataReport:
    """Count, measure and judge a set of frames."""
    formulas = Counter(frame.atoms().get_chemical_formula() for frame in frames)
    sizes = [len(frame.species) for frame in frames]
    per_atom = [frame.energy / len(frame.species) for frame in frames if frame.has_energy]
    squares = [np.square(frame.forces).sum(1) for frame in frames if frame.has_forces]
    squared = np.concatenate(squares) if squares else np.empty(0)
    report = DataReport(
        frames=len(frames),
        formulas=dict(formulas.most_common()),
        elements=[chemical_symbols[z] for z in frames.elements],
        atoms=(min(sizes), max(sizes)),
        periodic_frames=sum(any(frame.pbc) for frame in frames),
        energies=len(per_atom),
        forces=len(squares),
        energy_per_atom=(min(per_atom), max(per_atom)) if per_atom else None,
        energy_spread=_spread(frames) if per_atom else None,
        force_rms=sqrt(squared.mean() / 3) if squares else None,
        force_max=sqrt(squared.max()) if squares else None,
        smallest_distance=_smallest_distance(frames),
        notes=list(frames.notes),
    )
    report.warnings.extend(_warnings(frames, report))
    return report


def _spread(frames: FrameSet) -> float:
    """Standard deviation of the energy among frames of the same formula (root of the mean variance)."""
    groups: dict[str, list[float]] = {}
    for frame in frames:
        if frame.has_energy:
            groups.setdefault(str(np.bincount(frame.species).tolist()), []).append(frame.energy)
    variances = [float(np.var(group)) for group in groups.values() if len(group) > 1]
    return sqrt(np.mean(variances)) if variances else 0.0


def _smallest_distance(frames: FrameSet) -> float:
    """Smallest distance between two atoms, over an even choice of frames (up to a search radius)."""
    smallest = _SEARCH_RADIUS
    for frame in frames.frames[:: max(1, len(frames) // _FRAMES_SEARCHED)]:
        found = neighbour_edges(frame, _SEARCH_RADIUS)
        vectors = frame.positions[found.edges[1]] - frame.positions[found.edges[0]] + found.shifts
        if len(vectors):
            smallest = min(smallest, float(np.linalg.norm(vectors, axis=1).min()))
    return smallest


def _warnings(frames: FrameSet, report: DataReport) -> list[str]:
    found = []
    if report.force_rms is not None:
        low, high = FORCE_RMS_BAND
        if not low <= report.force_rms <= high:
            found.append(
                f"force RMS {report.force_rms:.3g} eV/A lies outside {low} to {high}: are the labels really in eV and "
                "angstrom? (kcal/mol read as eV are 23 times too large, hartree and bohr 51 times too small)"
            )
    low, high = SMALLEST_DISTANCE_BAND
    if report.smallest_distance < low:
        found.append(f"two atoms are only {report.smallest_distance:.3f} A apart: check the length unit")
    elif report.smallest_distance > high and max(report.atoms) > 1:
        found.append(f"no two atoms are closer than {high} A: check the length unit")
    depth = max((_depth(frame.energy, frame.species) for frame in frames if frame.has_energy), default=0.0)
    if depth > 1.5:
        found.append(
            f"an energy is {depth:.1f} times that of all electrons of its atoms: "
            "are the energies really in eV? (kcal/mol read as eV gives 23)"
        )
    if not report.energies and not report.forces:
        found.append("no frame has a label: only the label-free losses can learn from these frames")
    return found


def _depth(energy: float, species: np.ndarray) -> float:
    """Energy over the Thomas-Fermi energy of the separate atoms, about Z^2.4 / 2 hartree each."""
    return energy / float(-0.5 * HARTREE * np.sum(species.astype(float) ** 2.4))
