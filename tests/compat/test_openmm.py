import numpy as np
import openmm
import pytest
from openmm import unit

from piwsl.compat.openmm import plain_value, state_positions


def test_values_come_in_the_units_of_openmm():
    system = openmm.System()
    for _ in range(2):
        system.addParticle(1.0)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    positions = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])
    context.setPositions(positions * unit.nanometer)
    context.setVelocities(np.ones((2, 3)) * unit.nanometer / unit.picosecond)
    state = context.getState(positions=True, velocities=True, energy=True)
    assert state_positions(state) == pytest.approx(positions)
    assert plain_value(state.getPositions(asNumpy=True)) == pytest.approx(positions)
    assert plain_value(state.getVelocities(asNumpy=True)) == pytest.approx(np.ones((2, 3)))
    assert plain_value(state.getKineticEnergy()) == pytest.approx(3.0)  # kJ/mol
