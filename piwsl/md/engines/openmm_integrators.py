"""OpenMM's integrators and barostat for the ensembles of a protocol. Nanometres, ps and bar stay inside this module."""

from types import ModuleType
from typing import Any

from piwsl.md.protocol import MDProtocol
from piwsl.units import PICOSECOND

BAROSTAT_INTERVAL = 25  # steps between attempts to change the box, OpenMM's default


def make_integrator(openmm: ModuleType, ensemble: str, protocol: MDProtocol, temperature: float, seed: int) -> Any:
    """The integrator of an ensemble.

    nve: Verlet in the leapfrog form. nvt-langevin and npt: Langevin middle (Zhang et al., J. Phys. Chem. A 123, 6056,
    2019). nvt-nose-hoover: a chain of three beads in the same scheme (Zhang et al., J. Chem. Phys. 147, 034109, 2017).
    """
    timestep = protocol.timestep / PICOSECOND
    if ensemble == "nve":
        return openmm.VerletIntegrator(timestep)
    if ensemble == "nvt-nose-hoover":
        return openmm.NoseHooverIntegrator(temperature, PICOSECOND / protocol.thermostat_time, timestep)
    integrator = openmm.LangevinMiddleIntegrator(temperature, protocol.friction * PICOSECOND, timestep)
    integrator.setRandomNumberSeed(seed)
    return integrator


def make_barostat(openmm: ModuleType, protocol: MDProtocol, temperature: float, seed: int) -> Any:
    """Monte Carlo moves of the volume (Aqvist et al., Chem. Phys. Lett. 384, 288, 2004), as a Force of the System."""
    barostat = openmm.MonteCarloBarostat(protocol.pressure, temperature, BAROSTAT_INTERVAL)
    barostat.setRandomNumberSeed(seed)
    return barostat


def count_freedom(integrator: Any, degrees_of_freedom: int) -> None:
    """Tell a Nose-Hoover chain that overall motion takes no part; to be called once there is a Context.

    OpenMM counts all coordinates, and would keep a molecule whose overall motion was removed hotter by 3n / (3n - 6).
    """
    if hasattr(integrator, "getNumThermostats"):
        for index in range(integrator.getNumThermostats()):
            integrator.getThermostat(index).setNumDegreesOfFreedom(degrees_of_freedom)


def set_temperature(openmm: ModuleType, integrator: Any, context: Any, temperature: float) -> None:
    """Set thermostat and barostat, where there are such, to a temperature in K."""
    if hasattr(integrator, "setTemperature"):
        integrator.setTemperature(temperature)
    name = openmm.MonteCarloBarostat.Temperature()
    if name in context.getParameters():
        context.setParameter(name, temperature)
