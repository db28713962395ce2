"""Labels of ASE structures that a script passes instead of a file."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from piwsl.data.read import as_frames, read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from tests.support.molecules import frame


def labeled(count=3):
    made = []
    for seed in range(count):
        one = frame("H2O", seed=seed, labeled=True)
        atoms = one.atoms()
        atoms.info.update(REF_energy=one.energy, config_type="cold")
        atoms.arrays["REF_forces"] = one.forces
        made.append((atoms, one))
    return made


def test_values_of_info_and_arrays_are_labels(tmp_path):
    frames = as_frames([atoms for atoms, _ in labeled()])
    for one, (_, expected) in zip(frames, labeled(), strict=True):
        assert one.energy == expected.energy
        assert np.array_equal(one.forces, expected.forces)
        assert one.config_type == "cold"
    assert set(frames.names.read) == {"REF_energy", "REF_forces", "config_type"}
    counts = write_frames([atoms for atoms, _ in labeled()], tmp_path / "a.h5")
    assert (counts["energies"], counts["forces"]) == (3, 3)
    assert read_frames(tmp_path / "a.h5")[1].energy == labeled()[1][1].energy


def test_stored_results_are_labels_with_a_note():
    atoms, expected = labeled()[0]
    del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    atoms.calc = SinglePointCalculator(atoms, energy=expected.energy, forces=expected.forces)
    frames = as_frames(atoms)
    assert frames[0].energy == expected.energy
    assert frames[0].has_forces
    assert frames.notes == ("1 of 1 frames have no REF_energy/REF_forces: plain energy/forces were read instead",)


def test_results_for_other_positions_are_no_labels():
    atoms = labeled()[0][1].atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    atoms.positions[0] += 0.1
    assert not as_frames(atoms)[0].has_energy


def test_no_calculator_is_called():
    atoms = labeled()[0][1].atoms()
    atoms.calc = EMT()
    assert not as_frames(atoms)[0].has_energy
    assert not atoms.calc.results
    energy = atoms.get_potential_energy()
    assert as_frames(atoms)[0].energy == energy


def test_what_is_wrong_is_one_line():
    atoms = labeled()[0][1].atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=float("nan"))
    with pytest.raises(DataError, match=r"^structures in memory: frame 1: energy is not a finite number"):
        as_frames([frame("H2O").atoms(), atoms])
