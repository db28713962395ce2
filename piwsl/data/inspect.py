"""The data report: a summary of a set of frames, with warnings about implausible labels and structures."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.consistency import Repeats, energy_warnings, survey_repeats
from piwsl.data.energy_work import EnergyWork, compare_energies_and_work
from piwsl.data.frames import FrameSet
from piwsl.data.names import STRUCTURE, FoundNames
from piwsl.data.plausibility import WRONG_SIGN, StressReport, survey_geometry, survey_stresses
from piwsl.typing import FloatArray, IntArray
from piwsl.units import HARTREE

# Values outside these ranges suggest that labels or structures are not in eV and angstrom.
FORCE_RMS_BAND = (0.02, 12.0)  # eV/angstrom
SMALLEST_DISTANCE_BAND = (0.6, 3.5)  # angstrom
_STRESSES_READ = 2000  # frames
SPREADS_READ = 5000  # frames
LARGEST_SAMPLE = 20_000  # frames whose forces are read


@dataclass(frozen=True)
class SpreadReport:
    """Spreads of labels from an ensemble, over a sample of the frames that store them.

    Attributes:
        frames: Number of frames with a spread.
        forces: Median and largest standard deviation of the force on an atom, eV/angstrom; None if not stored.
        energies: Median and largest standard deviation of the energy of a frame, eV; None if not stored.
    """

    frames: int
    forces: tuple[float, float] | None
    energies: tuple[float, float] | None

    def line(self) -> str:
        """Return the spreads as text."""
        parts = []
        if self.forces is not None:
            parts.append(f"force on an atom: median {self.forces[0]:.3f}, largest {self.forces[1]:.3f} eV/A")
        if self.energies is not None:
            parts.append(f"energy: median {self.energies[0]:.3f}, largest {self.energies[1]:.3f} eV")
        return f"on {self.frames} frames; {'; '.join(parts)}"


@dataclass(frozen=True)
class DataReport:
    """Counts and ranges of a set of frames, with energies in eV and lengths in angstrom.

    Counts, formulas and energies refer to all frames. Forces refer to ``sample`` labeled frames, evenly spaced in a
    large set. The smallest distance refers to at most a few thousand frames.
    """

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
    stresses: int
    sample: int
    names: FoundNames = field(default_factory=FoundNames)
    stress: StressReport | None = None
    bond_correlation: float | None = None
    energy_work: EnergyWork | None = None
    unusable_stresses: int = 0
    charges: str = ""
    unlabeled: int = 0
    spreads: SpreadReport | None = None
    repeats: Repeats = Repeats(0, 0, 0.0, 0)  # noqa: RUF009  # immutable
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report as text, one fact per line."""
        formulas = ", ".join(f"{name} ({count})" for name, count in list(self.formulas.items())[:4])
        more = f" and {len(self.formulas) - 4} more" if len(self.formulas) > 4 else ""
        sizes = f"{self.atoms[0]}" if self.atoms[0] == self.atoms[1] else f"{self.atoms[0]} to {self.atoms[1]}"
        stresses = f", stress on {self.stresses}" if self.stresses else ""
        sample = f" (of a sample of {self.sample} frames)" if self.sample < self.forces else ""
        lines = [
            f"frames             {self.frames}: {formulas}{more}",
            f"elements           {' '.join(self.elements)}; {sizes} atoms; {self.periodic_frames} periodic",
            f"labels             energies on {self.energies} and forces on {self.forces} of {self.frames} frames"
            + stresses,
            *self.names.lines(),
            *([f"charges            {self.charges}"] if self.charges else []),
        ]
        if self.unlabeled:
            lines.append(f"without labels     {self.unlabeled} of {self.frames} frames")
        if self.repeats.copies:
            lines.append(f"copies             {self.repeats.copies} of {self.repeats.compared} labeled frames")
        if self.spreads is not None:
            lines.append(f"spread of labels   {self.spreads.line()}")
        if self.energy_per_atom is not None and self.energy_spread is not None:
            low, high = self.energy_per_atom
            lines.append(
                f"energy             {low:.4f} to {high:.4f} eV/atom; "
                f"spread at equal formula {self.energy_spread:.3f} eV"
            )
        if self.force_rms is not None:
            lines.append(f"forces             RMS {self.force_rms:.3f}, largest {self.force_max:.2f} eV/A{sample}")
        if self.bond_correlation is not None:
            lines.append(f"force along bonds  correlation with the length {self.bond_correlation:.2f}")
        if self.stress is not None:
            lines.append(f"stress             {self.stress.line()}")
        lines.append(f"smallest distance  {self.smallest_distance:.3f} A")
        return lines + [f"note: {note}" for note in self.notes] + [f"warning: {text}" for text in self.warnings]


def inspect_frames(frames: FrameSet, largest_sample: int = LARGEST_SAMPLE) -> DataReport:
    """Create the report for a set of frames. For large files, only one frame is in memory at a time.

    Args:
        frames: Frames to be examined.
        largest_sample: Number of labeled frames beyond which forces are read from evenly spaced frames only, between
            one and two times this number.
    """
    census = frames.census
    labeled = census.has_energy
    sample = np.flatnonzero(census.has_forces)
    sample = sample[:: max(1, len(sample) // largest_sample)].copy()
    force_rms, force_max = _forces(frames, sample)
    geometry = survey_geometry(frames)
    stressed = np.flatnonzero(census.has_stress)
    stressed = stressed[:: max(1, len(stressed) // _STRESSES_READ)].copy()
    report = DataReport(
        frames=len(frames),
        formulas=census.formulas(),
        elements=[chemical_symbols[z] for z in census.elements],
        atoms=(int(census.sizes.min()), int(census.sizes.max())),
        periodic_frames=int(census.periodic.sum()),
        energies=int(labeled.sum()),
        forces=int(census.has_forces.sum()),
        energy_per_atom=_energy_per_atom(census) if labeled.any() else None,
        energy_spread=energy_spread(census) if labeled.any() else None,
        force_rms=force_rms,
        force_max=force_max,
        smallest_distance=geometry.smallest_distance,
        stresses=int(census.has_stress.sum()),
        sample=len(sample),
        names=frames.names,
        stress=survey_stresses(frames.select(stressed)) if len(stressed) else None,
        bond_correlation=geometry.bond_correlation,
        energy_work=compare_energies_and_work(frames),
        unusable_stresses=int(census.unusable_stress.sum()),
        charges=_charges(census),
        unlabeled=int((~census.labeled).sum()),
        spreads=survey_spreads(frames),
        repeats=survey_repeats(frames),
        notes=[*frames.notes, *(f"labels made from {origin}" for origin in census.labels_from)],
    )
    report.warnings.extend(_warnings(census, report))
    return report


def evaluation_warnings(frames: FrameSet) -> list[str]:
    """Return the warnings of the report; those about the names in the file if no frame has a label."""
    return inspect_frames(frames).warnings if frames.census.labeled.any() else frames.names.warnings()


def structure_warnings(frames: FrameSet) -> list[str]:
    """Return the warnings about structures without regard to labels: cell, charge, smallest distance."""
    smallest = survey_geometry(frames).smallest_distance
    return [*frames.names.warnings(STRUCTURE), *_distance_warnings(smallest, int(frames.census.sizes.max()))]


def survey_spreads(frames: FrameSet) -> SpreadReport | None:
    """Measure the stored spreads of labels in evenly spaced frames; return None if no frame stores a spread."""
    stored = int(frames.census.has_spread.sum())
    if not stored:
        return None
    forces, energies = stored_spreads(frames)
    return SpreadReport(stored, _median_and_largest(forces), _median_and_largest(energies))


def stored_spreads(frames: FrameSet) -> tuple[FloatArray, FloatArray]:
    """Return the spreads of the force labels on atoms (k,) and of the energy labels (m,), of evenly spaced frames."""
    stored = np.flatnonzero(frames.census.has_spread)
    forces: list[FloatArray] = [np.zeros(0)]
    energies: list[float] = []
    for index in stored[:: max(1, len(stored) // SPREADS_READ)]:
        frame = frames[int(index)]
        if frame.force_spread is not None and frame.has_forces:
            forces.append(frame.force_spread)
        if np.isfinite(frame.energy_spread) and frame.has_energy:
            energies.append(frame.energy_spread)
    return np.concatenate(forces), np.array(energies)


def _median_and_largest(values: FloatArray) -> tuple[float, float] | None:
    return (float(np.median(values)), float(values.max())) if len(values) else None


def _forces(frames: FrameSet, sample: IntArray) -> tuple[float | None, float | None]:
    """Return the RMS component and the largest norm of the forces of these frames, eV/angstrom."""
    if not len(sample):
        return None, None
    chosen = frames if len(sample) == len(frames) else frames.select(sample)  # reading a whole file in order is faster
    squares = np.concatenate([np.square(frame.forces).sum(1) for frame in chosen])
    return sqrt(squares.mean() / 3), sqrt(squares.max())


def _energy_per_atom(census: Census) -> tuple[float, float]:
    per_atom = census.energy / census.sizes
    return float(np.nanmin(per_atom)), float(np.nanmax(per_atom))


def energy_spread(census: Census) -> float:
    """Return the standard deviation of energies at equal formula (root of the mean variance), eV."""
    labeled = census.has_energy
    rows, energies = census.composition[labeled], census.energy[labeled]
    order = np.argsort(rows, kind="stable")
    groups = np.split(energies[order], np.flatnonzero(np.diff(rows[order])) + 1)
    variances = [float(np.var(group)) for group in groups if len(group) > 1]
    return sqrt(np.mean(variances)) if variances else 0.0


def _charges(census: Census) -> str:
    """Return how many frames state which charge and which number of unpaired electrons; empty if none does."""
    if not census.states_charges:
        return ""
    parts = []
    for column, unit in zip(census.charge_spin.T, ("e", "unpaired electrons"), strict=True):
        stated = np.isfinite(column)
        values, counts = np.unique(column[stated], return_counts=True)
        sign = "+g" if unit == "e" else "g"
        listed = ", ".join(f"{v:{sign if v else 'g'}} ({n})" for v, n in zip(values, counts, strict=True))
        missing = int((~stated).sum())
        parts.append(f"{unit}: {listed or 'none stated'}" + (f", not stated ({missing})" if missing and listed else ""))
    return "; ".join(parts)


def _odd_spins(census: Census) -> int:
    """Return the number of frames whose unpaired electrons do not fit their number of electrons."""
    unpaired = census.charge_spin[:, 1]
    stated = np.isfinite(unpaired)
    return int(((census.electrons[stated] - unpaired[stated].astype(np.int64)) % 2 == 1).sum())


def _warnings(census: Census, report: DataReport) -> list[str]:
    warnings = []
    if odd := _odd_spins(census):
        warnings.append(
            f"in {odd} frames, the number of unpaired electrons is even and the number of electrons is odd, or the "
            "reverse: check charge and unpaired_electrons (the multiplicity is the number of unpaired electrons + 1)"
        )
    if report.force_rms is not None:
        low, high = FORCE_RMS_BAND
        if not low <= report.force_rms <= high:
            warnings.append(
                f"force RMS {report.force_rms:.3g} eV/A is outside {low} to {high}: check that the labels are in eV "
                "and angstrom (kcal/mol read as eV are 23 times too large, hartree and bohr 51 times too small)"
            )
    warnings.extend(_distance_warnings(report.smallest_distance, max(report.atoms)))
    depth = _depth(census)
    if depth > 1.5:
        warnings.append(
            f"an energy is {depth:.1f} times that of all electrons of its atoms: "
            "check that the energies are in eV (kcal/mol read as eV give 23)"
        )
    if report.bond_correlation is not None and report.bond_correlation > WRONG_SIGN:
        warnings.append(
            f"the force along a bond increases with its length (correlation {report.bond_correlation:+.2f}, which is "
            "negative for forces): check that these are forces and not gradients"
        )
    elif report.energy_work is not None:
        warnings.extend(report.energy_work.warnings())
    if report.unusable_stresses:
        warnings.append(
            f"{report.unusable_stresses} frames have a stress but are not periodic in three directions: their stress "
            "is undefined and is ignored"
        )
    if report.stress is not None:
        warnings.extend(report.stress.warnings())
    warnings.extend(energy_warnings(census))
    warnings.extend(report.repeats.warnings())
    warnings.extend(report.names.warnings())
    if not report.energies and not report.forces:
        warnings.append("no frame has a label: these frames can be used only for label-free losses")
    return warnings


def _distance_warnings(smallest: float, atoms: int) -> list[str]:
    """Return a warning if the smallest distance in structures of up to ``atoms`` atoms is implausible."""
    low, high = SMALLEST_DISTANCE_BAND
    if smallest < low:
        return [f"two atoms are only {smallest:.3f} A apart: check the length unit"]
    return [f"no two atoms are closer than {high} A: check the length unit"] if smallest > high and atoms > 1 else []


def _depth(census: Census) -> float:
    """Return the largest ratio of an energy to the Thomas-Fermi energy of the atoms, about Z^2.4 / 2 hartree each."""
    separate = -0.5 * HARTREE * (census.compositions @ census.numbers.astype(float) ** 2.4)
    ratios = census.energy / separate[census.composition]
    return float(np.max(ratios[census.has_energy], initial=0.0))
