import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT

from piwsl.compat.ase import chain_variables, set_barostat, set_chain_variables, set_thermostat

KINDS = {
    "nvt": lambda atoms: NoseHooverChainNVT(atoms, units.fs, temperature_K=300, tdamp=50 * units.fs),
    "npt": lambda atoms: IsotropicMTKNPT(
        atoms, units.fs, temperature_K=300, pressure_au=0.0, tdamp=50 * units.fs, pdamp=500 * units.fs
    ),
}


def copper():
    atoms = bulk("Cu", cubic=True) * 2
    atoms.calc = EMT()
    atoms.set_velocities(np.random.default_rng(0).normal(0.0, 0.02, (len(atoms), 3)))
    return atoms


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_continues_from_its_variables(kind):
    whole = copper()
    dynamics = KINDS[kind](whole)
    dynamics.run(5)
    half, variables = whole.copy(), chain_variables(dynamics)
    assert all(np.isfinite(value).all() for value in variables.values())
    dynamics.run(5)
    half.calc = EMT()
    again = KINDS[kind](half)
    set_chain_variables(again, half, variables)
    again.run(5)
    assert half.positions == pytest.approx(whole.positions, abs=1e-12)
    assert half.cell.array == pytest.approx(whole.cell.array, abs=1e-12)


def test_a_new_temperature_keeps_the_velocities_of_the_beads():
    atoms = copper()
    dynamics = KINDS["npt"](atoms)
    dynamics.run(5)
    set_thermostat(dynamics, 300, 93)
    set_barostat(dynamics, 300, 93)
    before = chain_variables(dynamics)
    set_thermostat(dynamics, 600, 93)
    set_barostat(dynamics, 600, 93)
    after = chain_variables(dynamics)
    for momentum in ("_thermostat._p_eta", "_barostat._p_xi", "p_eps"):  # masses are proportional to the temperature
        assert np.abs(before[momentum]).max() > 0
        assert after[momentum] == pytest.approx(2 * before[momentum])
