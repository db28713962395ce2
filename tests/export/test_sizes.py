"""Exported files refuse another number or order of atoms by themselves, without piwsl."""

import numpy as np
import pytest
import torch

from piwsl.errors import ConfigError, DataError, ElementError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.replica_evaluation import bind_replicas
from piwsl.interfaces.openmm.force import check_order
from tests.support.molecules import frame, oxide

ETHANOL = frame("CH3CH2OH")
FILES = {
    "molecule": (lambda exports: exports.openmm(), r"made for 9 atoms \(C2H6O\), got 18"),
    "copies": (lambda exports: exports.openmm(copies=3), r"made for 27 atoms \(3 copies of C2H6O\), got 18"),
    "edges": (lambda exports: exports.cell(), r"made for 3 atoms \(CHO\), got 18"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_script_without_piwsl(exports, kind):
    make, message = FILES[kind]
    module = torch.jit.load(str(make(exports)))
    with pytest.raises(torch.jit.Error, match=message):
        module(torch.randn(18, 3))
    with pytest.raises(torch.jit.Error, match="made for"):
        module(torch.randn(18))


def test_a_frozen_module_keeps_the_check(exports):
    """TorchForce freezes modules."""
    module = torch.jit.freeze(torch.jit.load(str(exports.openmm())).eval())
    for _ in range(3):
        module(torch.from_numpy(ETHANOL.positions / 10.0))
    with pytest.raises(torch.jit.Error, match=r"made for 9 atoms \(C2H6O\), got 18"):
        module(torch.randn(18, 3))


def test_the_general_form_compares_species_and_positions(exports):
    module = torch.jit.load(str(exports.general()))
    with pytest.raises(torch.jit.Error, match=r"positions of shape \[18, 3\], but species of shape \[9\]"):
        module(torch.from_numpy(ETHANOL.species), torch.randn(18, 3))


def test_bound_potentials(exports):
    with pytest.raises(DataError, match="exported for 9 atoms, got 18 positions"):
        bind(load_exported(exports.openmm()))(np.zeros((18, 3)))
    with pytest.raises(DataError, match="bound to 9 atoms, got 18 positions"):
        bind(load_exported(exports.general()), ETHANOL.species)(np.zeros((18, 3)))
    for path in (exports.openmm(copies=3), exports.general()):
        with pytest.raises(DataError, match=r"the shape must be \(R, 9, 3\)"):
            bind_replicas(load_exported(path), ETHANOL.species)(torch.zeros(3, 18, 3, dtype=torch.float64))


@pytest.mark.torchforce
def test_a_torchforce_in_a_system_of_two_molecules(exports):
    import openmm
    from openmmtorch import TorchForce

    system = openmm.System()
    for _ in range(18):
        system.addParticle(1.0)
    force = TorchForce(str(exports.openmm()))
    force.setOutputsForces(True)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.random.default_rng(0).normal(size=(18, 3)))
    with pytest.raises(openmm.OpenMMException, match=r"made for 9 atoms \(C2H6O\), got 18"):
        context.getState(energy=True)


def test_the_order_of_elements(exports):
    path, species = exports.openmm(copies=3), [*ETHANOL.species.tolist()] * 3
    module = torch.jit.load(str(path))
    module.check_order(species)
    check_order(path, species)
    other = [*species[:2], *species[3:], species[2]]
    with pytest.raises(torch.jit.Error, match=r"atom 2 has the atomic number 1, .* 8 \(O\)"):
        module.check_order(other)
    with pytest.raises(ElementError, match=r"atom 2 is H, .* with O: the order of the atoms differs"):
        check_order(path, other)
    with pytest.raises(torch.jit.Error, match="made for 27 atoms"):
        module.check_order(species[:9])
    torch.jit.load(str(exports.cell())).check_order(oxide().species.tolist())
    with pytest.raises(ConfigError, match="accepts any atoms"):
        check_order(exports.general(), species)
