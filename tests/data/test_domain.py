"""What a model has seen, and who is told that a structure is something else."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import piwsl
from piwsl.data.domain import TrainingDomain, check_domain
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.reference_energies import are_determined
from piwsl.errors import DataError
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.md.run_model import domain_warnings
from tests.support.domains import with_domain
from tests.support.models_for_tests import trained_model
from tests.support.molecules import frame

ETHANOL, WATER, PEROXIDE = molecule("CH3CH2OH"), molecule("H2O"), molecule("H2O2")


def domain_of(*atoms, cutoff=4.0):
    rng = np.random.default_rng(0)
    frames = []
    for each in atoms:
        forces = rng.normal(size=(len(each), 3))
        frames.append(Frame.from_atoms(each, -10.0 * len(each), forces))
    return TrainingDomain.of(FrameSet(frames), cutoff)


DOMAIN = domain_of(ETHANOL)


def test_the_record():
    distances = ETHANOL.get_all_distances()
    hydrogens = np.flatnonzero(ETHANOL.numbers == 1)
    apart = distances[np.ix_(hydrogens, hydrogens)]
    assert DOMAIN.shortest["H-H"] == pytest.approx(apart[apart > 0].min(), abs=1e-4)
    assert DOMAIN.shortest["H-O"] == pytest.approx(distances[2][hydrogens].min(), abs=1e-4)
    assert (DOMAIN.formulas, DOMAIN.elements, DOMAIN.kinds) == (["C2H6O"], [1, 6, 8], ["molecules"])
    assert "O-O" not in DOMAIN.shortest
    assert DOMAIN.energy_per_atom == (-10.0, -10.0)
    forces = np.random.default_rng(0).normal(size=(9, 3))
    assert DOMAIN.largest_force == pytest.approx(np.linalg.norm(forces, axis=1).max())
    assert TrainingDomain.model_validate_json(DOMAIN.model_dump_json()) == DOMAIN


def test_what_was_seen_is_no_concern():
    atoms = ETHANOL.copy()
    atoms.rattle(0.02, seed=1)
    assert DOMAIN.concerns(atoms) == {}
    copper = bulk("Cu", cubic=True)
    assert domain_of(copper).concerns(copper.repeat(2)) == {}  # a larger cell of the same composition


def squeezed():
    atoms = ETHANOL.copy()
    atoms.positions[3] = atoms.positions[2] + [0.0, 0.0, 0.5]
    return atoms


def in_a_box():
    atoms = ETHANOL.copy()
    atoms.set_cell([20.0] * 3)
    atoms.pbc = True
    return atoms


def charged():
    atoms = ETHANOL.copy()
    atoms.info["charge"] = -1
    return atoms


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (WATER, "the structure is H2O, but the model was trained only on C2H6O"),
        (squeezed(), "are 0.50 angstrom apart, but in training H-O were 0.9[0-9] at the closest"),
        (in_a_box(), "the structure is a periodic cell, but the model was trained only on molecules"),
        (charged(), "the structure has a charge of -1, which does not occur in the training data"),
        (PEROXIDE, r"in training O-O were never within 4"),
    ],
)
def test_concerns(atoms, words, caplog):
    with pytest.raises(DataError, match=words):
        check_domain(DOMAIN, atoms, "model.pt", strict=True)
    name = f"{words}.pt"
    with caplog.at_level(logging.WARNING):
        assert check_domain(DOMAIN, atoms, name)
        assert check_domain(DOMAIN, atoms, name) == []  # once
    assert check_domain(None, atoms, name, strict=True) == []


def test_each_copy_is_compared(exports, tmp_path):
    """Evaluation with a file for two copies, which do not interact; a run has one of them as its structure."""
    model = with_domain(exports.openmm(copies=2), tmp_path / "copies.pt", ETHANOL)
    both = ETHANOL + ETHANOL
    assert DOMAIN.concerns(both, copies=2) == {}
    assert list(DOMAIN.concerns(ETHANOL + squeezed(), copies=2)) == ["distance H-O"]
    assert domain_warnings(model, ETHANOL, model, strict=True) == []
    piwsl.evaluate(model, [Frame.from_atoms(both, 0.0)], strict=True)
    wrong = ETHANOL + squeezed()
    with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.50 angstrom apart"):
        domain_warnings(model, squeezed(), model, strict=True)
    with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.50 angstrom apart"):
        piwsl.evaluate(model, [Frame.from_atoms(wrong, 0.0)], strict=True)


def test_many_compositions_are_meant_for_others():
    chains = [Atoms("H" * n, np.arange(n)[:, None] * [1.0, 0.0, 0.0]) for n in range(2, 110)]
    domain = domain_of(*chains)
    assert (domain.compositions, len(domain.formulas)) == (108, 100)
    assert not any(kind.startswith("composition") for kind in domain.concerns(chains[-1]))


def test_determined_reference_energies():
    def frames(*names):
        return FrameSet([Frame.from_atoms(molecule(name), -1.0) for name in names])

    assert not are_determined(frames("H2O", "H2O"))
    assert are_determined(frames("H2O", "H2O2"))
    assert not are_determined(frames("H2O", "CH3CH2OH"))
    assert are_determined(frames("H2O", "CH3CH2OH"), known=[8])
    assert are_determined(frames("H2O"), known=[1, 8])
    assert "one composition does not determine the reference energies of 3 elements" in DOMAIN.remark()
    assert domain_of(WATER, PEROXIDE).remark() is None
    assert not are_determined(FrameSet([Frame.from_atoms(WATER)]))


@pytest.fixture
def ethanol_model(tmp_path):
    """A model that has seen ethanol alone."""
    model = trained_model(channels=4, layers=1)
    object.__setattr__(model, "domain", DOMAIN)
    save_trained(model, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.slow
def test_every_door_warns_once(ethanol_model, tmp_path, caplog):
    """The calculator, export, evaluation, the OpenMM force of a trained file, and runs with each engine."""
    doors = {
        "ase": lambda model, strict: _ase(model, strict),
        "export": lambda model, strict: piwsl.export_model(
            model, tmp_path / f"{strict}.pt", target="openmm", structure=WATER, strict=strict
        ),
        "evaluate": lambda model, strict: piwsl.evaluate(model, [frame("H2O", labeled=True)], strict=strict),
        "openmm": lambda model, strict: piwsl.openmm_force(model, WATER.numbers, kind="python", strict=strict),
        "ase-run": lambda model, strict: _run(model, tmp_path / "ase-run", strict, engine="ase", minimize=True),
        "openmm-run": lambda model, strict: _run(model, tmp_path / "openmm-run", strict, engine="openmm"),
        "replicas": lambda model, strict: _run(model, tmp_path / "replicas", strict, replicas=2),
    }
    for name, door in doors.items():
        model = tmp_path / f"{name}.pt"
        model.write_bytes(ethanol_model.read_bytes())
        with pytest.raises(DataError, match="the structure is H2O, but the model was trained only on C2H6O"):
            door(model, True)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            door(model, False)
        said = [record.getMessage() for record in caplog.records if "trained only on C2H6O" in record.getMessage()]
        assert len(said) == 1, name


def _ase(model, strict):
    atoms = WATER.copy()
    atoms.calc = piwsl.PiwslCalculator(model, strict=strict)
    return atoms.get_potential_energy()


def _run(model, output, strict, **options):
    return piwsl.run_md(WATER, model, steps=2, output=output, strict=strict, **options)


@pytest.mark.slow
def test_exported_files_keep_the_record(ethanol_model, tmp_path):
    from piwsl.export.exported_file import load_exported

    exported = piwsl.export_model(ethanol_model, tmp_path / "general.pt")
    assert load_exported(exported.path).domain == load_trained(ethanol_model).domain == DOMAIN
