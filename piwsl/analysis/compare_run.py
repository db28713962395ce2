"""Measuring a run against a reference."""

from dataclasses import dataclass, replace

import numpy as np

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.crystal import (
    CrystalStatistics,
    crystal_structure_of,
    find_stable_crystal,
)
from piwsl.analysis.molecule import (
    StableFrames,
    StableMolecule,
    StructureStatistics,
    find_stable_frames,
    structure_of,
)
from piwsl.analysis.quantities.angles import (
    InternalComparison,
    InternalStatistics,
    compare_internal,
    torsion_profiles,
)
from piwsl.analysis.quantities.bond_lengths import BondLengths, compare_bond_statistics
from piwsl.analysis.quantities.diffusion import Diffusion, compare_diffusion, displacement_curve, finite_size_note
from piwsl.analysis.quantities.energy import EnergyDrift, TemperatureStatistics, energy_drift, temperature_statistics
from piwsl.analysis.quantities.radial import Coordination, compare_coordination, compare_radial
from piwsl.analysis.quantities.shape import ShapeComparison, compare_shapes, compare_volumes, rmsd_curve
from piwsl.analysis.quantities.spectrum import (
    Vibrations,
    compare_spectra,
    correlation_curve,
    longest_interval,
    shortest_segment,
)
from piwsl.analysis.reference import Reference
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.run_directory import Run, Thermo
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison, compare
from piwsl.errors import DataError
from piwsl.structures.bonds import Bonds
from piwsl.structures.matching import check_formula, check_order, map_atoms
from piwsl.structures.periodic import images_of
from piwsl.trajectories.source import first_frame, unwrapped
from piwsl.units import PICOSECOND


@dataclass(frozen=True, eq=False)
class _Structure:
    """What is compared of the stable frames; empty where there are none."""

    distances: DistributionComparison | None = None
    pair_distances: dict[str, DistributionComparison] | None = None
    bonds: tuple[BondLengths, ...] = ()
    internal: InternalComparison | None = None
    shapes: tuple[ShapeComparison, ...] = ()
    coordination: tuple[Coordination, ...] = ()
    diffusion: tuple[Diffusion, ...] = ()
    curves: tuple[CurveComparison, ...] = ()


def compare_run(run: Run, reference: Reference | ReferenceStatistics, accept_mapping: bool = False) -> Comparison:
    """Measure a run against a reference, in two passes over the frames of each.

    Structure is compared over the stable frames only. The memory that is needed does not grow with the frames. A run
    in a cell is compared as a crystal or liquid; where only one side has a cell, as a molecule in vacuum.

    Args:
        run: what is measured.
        reference: its frames, or statistics of them that were saved.
        accept_mapping: take the order of the atoms from the reference, by the bonds of the first frame of the run.

    Raises:
        DataError: different molecules or orders of atoms, a molecule without bonds, or frames that cannot be read.
    """
    check_formula(run.species, reference.species, reference.name)
    start, cell = first_frame(run.frames)
    notes: list[str] = []
    if isinstance(reference, Reference):
        reference = (reference if cell is not None else reference.in_vacuum()).statistics
    if cell is None and reference.is_periodic:
        raise DataError(f"{reference.name} holds statistics of a periodic cell, the run has none: name its frames")
    if cell is not None and not reference.is_periodic:
        notes.append(f"the cell of the run is not looked at: {reference.name} has none")
        run, cell = replace(run, frames=unwrapped(run.frames).without_cells()), None
    if cell is None:
        run, said = _in_order(run, reference, accept_mapping)
        stable: StableFrames = find_stable_frames(run.frames, run.times, reference.bonds)
        bonds = reference.bonds
    else:
        check_order(run.species, reference.species, reference.name, None)
        said, bonds = [], images_of(reference.bonds, start, cell)
        run = replace(run, frames=unwrapped(run.frames))
        stable = find_stable_crystal(run.frames, run.times, bonds)
    notes = [*said, *notes, *run.notes, *reference.notes]
    end = run.times[stable.count] if stable.count < len(run.times) else np.inf
    temperature, drift = _energies(run.thermo, run, float(end), notes)
    kelvin = run.target_temperature or (None if temperature is None else temperature.mean.value)
    found = _Structure()
    if not stable.count:
        notes.append("the first frame is already broken: no structure is compared")
    elif isinstance(stable, StableMolecule):
        found = _compare_molecules(run, stable, reference, kelvin, notes)
    else:
        found = _compare_crystals(run, bonds, stable.count, reference, kelvin, notes)
    notes += _about_the_run(run, stable.count, reference)
    return Comparison(
        run,
        reference,
        stable.stability,
        stable.contact,
        found.distances,
        found.pair_distances or {},
        found.bonds,
        found.internal,
        found.shapes,
        temperature,
        drift,
        tuple(notes),
        found.curves,
        found.coordination,
        found.diffusion,
    )


def _compare_molecules(
    run: Run, stable: StableMolecule, reference: ReferenceStatistics, kelvin: float | None, notes: list[str]
) -> _Structure:
    ours = structure_of(run.frames, reference.bonds, stable.modes, stable.count, reference.start)
    theirs = reference.structure
    assert isinstance(theirs, StructureStatistics)  # as `compare_run` sees to
    distances = compare(ours.distances.all_pairs, theirs.distances.all_pairs)
    by_pair = {
        kind: compare(histogram, theirs.distances.by_kind[kind]) for kind, histogram in ours.distances.by_kind.items()
    }
    notes += _about_samples(distances)
    profiles = () if kelvin is None else torsion_profiles(ours.internal, theirs.internal, kelvin)
    vibrations = _compare_vibrations(run, ours.vibrations, theirs.vibrations, notes)
    return _Structure(
        distances,
        by_pair,
        compare_bond_statistics(ours.bonds, theirs.bonds),
        compare_internal(ours.internal, theirs.internal),
        compare_shapes(ours.shape, theirs.shape),
        curves=(*profiles, *vibrations, rmsd_curve(ours.shape, run.times)),
    )


def _compare_crystals(
    run: Run, bonds: Bonds, frames: int, reference: ReferenceStatistics, kelvin: float | None, notes: list[str]
) -> _Structure:
    ours, theirs = crystal_structure_of(run.frames, bonds, frames), reference.structure
    assert isinstance(theirs, CrystalStatistics)  # as `compare_run` sees to
    pairs = [(kind, one, theirs.radial[kind]) for kind, one in ours.radial.items() if kind in theirs.radial]
    radial = tuple(compare_radial(*pair) for pair in pairs)
    shells = [compare_coordination(*pair) for pair in pairs]
    coordination = [one for shell in shells for one in shell]
    if not len(bonds):
        notes.append(f"no bonds in the cell of {reference.name}: if it should have some, check the unit of positions")
    if not all(shells):
        notes.append("of some pairs of elements the reference shows no shell that ends: no coordination number")
    diffusion, lines = [], []
    for element, found in ours.displacements.items():
        known = theirs.displacements.get(element)
        diffusion.append(compare_diffusion(element, found, known))
        lines.append(displacement_curve(element, found, known, diffusion[-1].difference))
    if diffusion and kelvin is not None:
        volume = ours.volume.total
        notes.append(finite_size_note(kelvin, float(volume[1] / volume[0]) * len(run.species)))
    elif not diffusion:
        notes.append("too few frames for diffusion coefficients: a hundred are needed")
    vibrations = _compare_vibrations(run, ours.vibrations, theirs.vibrations, notes)
    return _Structure(
        bonds=compare_bond_statistics(ours.bonds, theirs.bonds),
        internal=compare_internal(*(InternalStatistics(one.angles, {}, {}) for one in (ours, theirs))),
        shapes=(compare_volumes(ours.volume, theirs.volume),),
        coordination=tuple(coordination),
        diffusion=tuple(diffusion),
        curves=(*radial, *lines, *vibrations),
    )


def _compare_vibrations(
    run: Run, ours: Vibrations | None, theirs: Vibrations | None, notes: list[str]
) -> tuple[CurveComparison, ...]:
    """The spectrum and the velocity autocorrelation, where frames are close enough."""
    if ours is not None:
        spectra = compare_spectra(ours.spectrum, None if theirs is None else theirs.spectrum)
        return spectra, correlation_curve(ours, theirs)
    notes.append(
        f"no vibrational spectrum: it needs frames every {longest_interval(run.species):.1f} fs, for longer than "
        f"{shortest_segment() / PICOSECOND:.1f} ps (piwsl md --trajectory-interval)"
    )
    return ()


def _about_the_run(run: Run, stable: int, reference: ReferenceStatistics) -> list[str]:
    notes = []
    if 0 < stable < len(run.frames):
        notes.append(f"structure is compared over the {stable} frames before the first broken one")
    if reference.length is None:
        notes.append(
            f"the frames of {reference.name} have no times: their correlation is judged by their order in the file"
        )
    if run.ensemble == "nve":
        notes.append(
            "a constant-energy run need not have the temperature of its reference, which alone makes structure differ"
        )
    return notes


def _in_order(run: Run, reference: ReferenceStatistics, accepted: bool) -> tuple[Run, list[str]]:
    """The run with its atoms in the order of the reference."""
    _, first = next(run.frames.pieces())
    mapping = map_atoms(run.species, first[0], reference.species, reference.bonds)
    if mapping is not None and np.array_equal(mapping, np.arange(len(mapping))):
        return run, []
    if mapping is None or not accepted:
        check_order(run.species, reference.species, reference.name, mapping)
        if mapping is None:
            return run, []
        return run, [
            f"the bonds of the first frame join other atoms than those of {reference.name}: "
            "if only their order differs, accept that of the reference with --map-atoms"
        ]
    note = f"the atoms of the run are in the order of {reference.name}, as their bonds tell: indices are those of it"
    return replace(run, frames=run.frames.reordered(mapping)), [note]


def _about_samples(distances: DistributionComparison) -> list[str]:
    notes = []
    for side, found in (("run", distances.run), ("reference", distances.reference)):
        if found.samples < 2:
            notes.append(f"the {side} holds fewer than two independent structures: no error bar, no verdict on h(r)")
        if found.beyond > 0:
            notes.append(
                f"{found.beyond:.2%} of the distances of the {side} are beyond {found.edges[-1]:g} Å, outside h(r)"
            )
    return notes


def _energies(
    thermo: Thermo | None, run: Run, end: float, notes: list[str]
) -> tuple[TemperatureStatistics | None, EnergyDrift | None]:
    """Over the rows before the break: what comes after it is no physics."""
    if thermo is None:
        return None, None
    rows = (thermo.times < end) & np.isfinite(thermo.total) & np.isfinite(thermo.temperature)
    temperature = drift = None
    try:
        temperature = temperature_statistics(thermo.temperature[rows], thermo.kinetic[rows], run.target_temperature)
        if run.ensemble == "nve":
            drift = energy_drift(thermo.times[rows], thermo.total[rows], len(run.species))
    except DataError as error:
        notes.append(str(error))
    return temperature, drift
