"""Comparison of a run with a reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.data import atomic_masses

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.quantities import standard_quantities
from piwsl.analysis.quantities.stability import LARGEST_DEVIATION, find_stability
from piwsl.analysis.quantity import (
    Quantity,
    QuantityComparison,
    Sample,
    checked_quantities,
    measure,
    survey_frames,
    undecided,
)
from piwsl.analysis.reference import Reference
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.run_directory import Run
from piwsl.analysis.skip import choose_skip
from piwsl.errors import DataError
from piwsl.structures.bonds import Bonds
from piwsl.structures.matching import check_formula, check_order, map_atoms
from piwsl.structures.periodic import image_vectors, images_of
from piwsl.trajectories.frame_source import first_frame, unwrapped
from piwsl.typing import FloatArray

_SHARE_OF_OTHERS = 0.1  # of the bonds; more differ only if the atoms have another order


def compare_run(
    run: Run,
    reference: Reference | ReferenceStatistics,
    accept_mapping: bool = False,
    quantities: Sequence[Quantity[Any]] = (),
    skip: float | None = None,
) -> Comparison:
    """Compare a run with a reference, in two passes over the frames of each.

    Structure is compared over the stable frames only. Memory does not grow with the number of frames. If both run and
    reference have cells, they are compared as crystals or liquids; otherwise as molecules in vacuum.

    Args:
        run: Run to be measured.
        reference: Frames of the reference, or saved statistics.
        accept_mapping: Reorder the atoms of the run to match the reference, by the bonds of the first frame.
        quantities: Custom quantities, measured in addition to those in `piwsl.analysis.quantities`.
        skip: Time in ps to skip at the start of the run; by default the time during which energies drift.

    Raises:
        DataError: The molecules or the orders of atoms differ, the molecule has no bonds, or frames cannot be read.
        ConfigError: ``quantities`` contains an object of another type, two quantities have the same key, or ``skip``
            leaves no frame.
    """
    check_formula(run.species, reference.species, reference.name)
    start, cell = first_frame(run.frames)
    notes: list[str] = []
    if isinstance(reference, Reference):
        weights = structure_weights(run, reference)
        reference = (reference if cell is not None else reference.in_vacuum()).measured(quantities, weights)
    if cell is None and reference.is_periodic:
        raise DataError(
            f"{reference.name} contains statistics of a periodic cell, but the run has no cell: give reference frames"
        )
    if cell is not None and not reference.is_periodic:
        notes.append(f"the cell of the run is ignored, because {reference.name} has no cell")
        run, cell = replace(run, frames=unwrapped(run.frames).without_cells()), None
    measured_quantities = checked_quantities(standard_quantities(cell is not None), quantities)
    bonds = reference.bonds
    if cell is None:
        run, order_notes = _in_order(run, reference, accept_mapping)
        notes = [*order_notes, *notes]
    else:
        check_order(run.species, reference.species, reference.name, None)
        bonds, run = images_of(bonds, start, cell), replace(run, frames=unwrapped(run.frames))
        other = _other_lengths(bonds, start, cell)
        if other > _SHARE_OF_OTHERS * len(bonds):
            notes.append(
                f"bonds and angles are not compared: {other} of {len(bonds)} bonds of {reference.name} differ by more "
                f"than {LARGEST_DEVIATION} angstrom in the first frame of the run, because the orders of equal atoms "
                "or the crystals differ: reorder the atoms of the run or of the reference"
            )
            bonds = bonds.select(np.zeros(len(bonds), dtype=bool))
    surveys = survey_frames(measured_quantities, run.species)
    stability = find_stability(run.frames, run.times, bonds, surveys.values())
    count = stability.stable_frames
    end = float(run.times[count]) if count < len(run.times) else np.inf
    skipped = choose_skip(run, count, end, skip)
    frames = run.frames.after(skipped.frames)
    weights = atomic_masses[reference.species] if reference.weights is None else reference.weights
    sample = Sample(
        frames, count - skipped.frames, bonds, reference.start, cell, reference.name, surveys, run, end,
        skipped.time if skipped.time > 0 else -np.inf, weights,
    )  # fmt: skip
    if not np.allclose(weights, run.frames.masses, rtol=1e-6):
        notes.append(f"radius of gyration and RMSD are weighted by the masses of {reference.name}, not of the run")
    notes += [skipped.note, *run.notes, *reference.notes]
    if not count:
        notes.append("a bond is broken in the first frame: structure is not compared")
    compared, quantity_notes = _compare(sample, measured_quantities, reference)
    if skipped.obstacle is not None:
        compared = [undecided(entry) for entry in compared]
        notes.append(skipped.obstacle)
    notes += [*quantity_notes, *_notes_on_the_run(run, count, reference)]
    return Comparison(run, reference, stability, tuple(notes), tuple(compared), skipped)


def structure_weights(run: Run, reference: Reference) -> FloatArray | None:
    """Return the masses of a run (atoms,), amu, for use as structural weights of a reference.

    Returns:
        None if the masses equal those of the reference, or if the order of the atoms differs.
    """
    same = np.array_equal(run.species, reference.species)
    if not same or np.allclose(run.frames.masses, reference.frames.masses, rtol=1e-6):
        return None
    return run.frames.masses


def _compare(
    sample: Sample, quantities: Sequence[Quantity[Any]], reference: ReferenceStatistics
) -> tuple[list[QuantityComparison[Any]], list[str]]:
    """Return the comparisons of all quantities, and notes."""
    statistics = measure(sample, quantities)
    compared, notes = [], []
    for quantity in quantities:
        if quantity.needs_frames and not sample.frames:
            continue
        expected = reference.measured.get(quantity.key)
        if quantity.key not in statistics:
            note = quantity.missing_note(sample)
            notes += [] if note is None else [note]
        elif expected is None and quantity.needs_reference:
            notes.append(f"{reference.name} contains no statistics of {quantity.key}, which is not compared")
        else:
            comparison = quantity.compare(statistics[quantity.key], expected, sample)
            compared.append(comparison)
            notes += comparison.notes
    return compared, notes


def _notes_on_the_run(run: Run, stable: int, reference: ReferenceStatistics) -> list[str]:
    notes = []
    if 0 < stable < len(run.frames):
        notes.append(f"structure is compared over the {stable} frames before the first broken frame")
    if reference.length is None:
        notes.append(
            f"the frames of {reference.name} have no times: their correlation is estimated from their order in the file"
        )
    if run.ensemble == "nve":
        notes.append(
            "a constant-energy run may have another temperature than its reference, which changes the structure"
        )
    return notes


def _other_lengths(bonds: Bonds, positions: FloatArray, cell: FloatArray) -> int:
    """Return the number of bonds that differ by more than 0.5 angstrom in a frame and in the reference."""
    lengths = np.linalg.norm(image_vectors(positions[None], cell[None], bonds)[0], axis=-1)
    return int((np.abs(lengths - bonds.lengths) > LARGEST_DEVIATION).sum())


def _in_order(run: Run, reference: ReferenceStatistics, accept_mapping: bool) -> tuple[Run, list[str]]:
    """Return the run with its atoms in the order of the reference, and notes."""
    _, positions = next(run.frames.pieces())
    mapping = map_atoms(run.species, positions[0], reference.species, reference.bonds)
    if mapping is not None and np.array_equal(mapping, np.arange(len(mapping))):
        return run, []
    if mapping is None or not accept_mapping:
        check_order(run.species, reference.species, reference.name, mapping)
        if mapping is None:
            return run, []
        return run, [
            f"the bonds of the first frame and of {reference.name} connect different atoms: "
            "if only the order of the atoms differs, map them with accept_mapping=True"
        ]
    note = (
        f"the atoms of the run were mapped by their bonds to the order of {reference.name}; indices refer to this order"
    )
    return replace(run, frames=run.frames.reordered(mapping)), [note]
