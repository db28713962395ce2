"""Engine that runs OpenMM. This module converts between OpenMM units (nm, ps, kJ/mol) and piwsl units."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from ase import Atoms

from piwsl.compat.openmm import plain_value
from piwsl.data.charges import charge_of
from piwsl.errors import EngineError, reason_of
from piwsl.export.evaluation import BoundPotential, bind
from piwsl.export.loading import open_model
from piwsl.interfaces.openmm.force import OpenMMForce, choose_force
from piwsl.interfaces.openmm.probe import import_openmm, probe_platform
from piwsl.md.engines.base import EngineState, Snapshot, phase_seed
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom, inertial_masses
from piwsl.structures.cells import periodic_directions
from piwsl.structures.constraints import fixed_atoms
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, KJ_PER_MOL, NANOMETER, PICOSECOND

_SPEED = NANOMETER / PICOSECOND  # nm/ps in angstrom/fs
_FORCE = KJ_PER_MOL / NANOMETER  # kJ/mol/nm in eV/angstrom
_SAME_POSITION = 1e-6  # angstrom, tolerance between a checkpoint and the separately stored positions
# Largest allowed difference between the forces inside OpenMM and a direct call of the same file, relative to the
# largest force. Single precision causes about 1e-6; a wrong structure or unit causes about 1.
FORCE_AGREEMENT = 1e-3


def choose_platform() -> str:
    """Return CUDA if both PyTorch and OpenMM can use a GPU, otherwise Reference.

    The potential is a single force that runs outside OpenMM, so the CPU platform has no advantage. For a small
    molecule, its overhead is 0.26 ms per step, compared with 0.002 ms for Reference.
    """
    return "CUDA" if torch.cuda.is_available() and probe_platform("CUDA").works else "Reference"


def platform_properties(platform: str) -> dict[str, str]:
    """Return the properties of a Context: mixed precision on the GPU of PyTorch, as OpenMM could choose another one."""
    return {"Precision": "mixed", "DeviceIndex": str(torch.cuda.current_device())} if platform == "CUDA" else {}


class OpenMMEngine:
    """Engine with an OpenMM integrator and the potential as TorchForce or PythonForce.

    For the arguments, see `piwsl.md.engines.make.make_engine`. ``force`` overrides the automatic choice of the force.
    """

    name = "openmm"

    def __init__(
        self,
        model: Path,
        structure: Atoms,
        protocol: MDProtocol,
        step: int = 0,
        force: OpenMMForce | None = None,
    ) -> None:
        self._openmm = import_openmm()
        if structure.pbc.any() and not structure.pbc.all():
            raise EngineError(
                "OpenMM supports boxes that are periodic along all directions or none: choose engine='ase'"
            )
        self._protocol, self._structure = protocol, structure
        self.ensemble: str = protocol.ensemble_at(step)
        self._temperature = protocol.temperature_at(step)
        seed = phase_seed(protocol.seed, step, protocol.equilibration)
        self._periodic = bool(structure.pbc.all())
        if self.ensemble == "npt" and not self._periodic:
            raise EngineError("npt requires a periodic structure: choose ensemble='nvt'")
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self.platform = choose_platform()
        device = "cuda" if self.platform == "CUDA" else "cpu"
        stated = charge_of(structure)
        potential = open_model(model, structure.numbers, self._periodic, device=device, stated=stated)
        direct = bind(potential, structure.numbers, periodic_directions(structure), stated)
        chosen = force or choose_force(
            potential, structure.numbers, periodic=self._periodic, platform=self.platform, stated=stated
        )
        self.force, self.force_reason = chosen.kind, chosen.reason
        self._masses = inertial_masses(structure)
        self._system = self._openmm.System()
        for mass in particle_masses(structure):
            self._system.addParticle(mass)
        self._system.addForce(chosen.force)
        if self._periodic:
            self._system.setDefaultPeriodicBoxVectors(*_reduced_box(structure))
        if self.ensemble == "npt":
            self._system.addForce(make_barostat(self._openmm, protocol, self._temperature, seed))
        self._integrator, self._context = self._build(seed)
        self._place(structure.positions, np.zeros((len(structure), 3)))
        self._compare_with(direct, model)

    def start(self, velocities: FloatArray) -> None:
        """Set the start structure and velocities; in nve, shift the velocities back by half a step for the leapfrog."""
        self._place(self._structure.positions, np.zeros_like(velocities))
        if self.ensemble == "nve":
            shift = 0.5 * self._protocol.timestep * ACCELERATION
            velocities = velocities - shift * self.forces() / self._masses[:, None]
        self._place(self._structure.positions, velocities)

    def advance(self, steps: int) -> None:
        """Advance by a number of steps.

        Raises:
            EngineError: OpenMM failed; the error contains the message of OpenMM.
        """
        try:
            self._integrator.step(steps)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM failed: {reason_of(error)}") from None

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of thermostat and barostat, K."""
        set_temperature(self._openmm, self._integrator, self._context, temperature)

    def snapshot(self) -> Snapshot:
        """Return positions, and velocities half a step earlier, as stored by the integrators."""
        state = self._context.getState(positions=True, velocities=True)
        positions = plain_value(state.getPositions(asNumpy=True)) * NANOMETER
        velocities = plain_value(state.getVelocities(asNumpy=True)) * _SPEED
        if not self._periodic:
            return Snapshot(positions, velocities)
        cell = np.asarray(plain_value(state.getPeriodicBoxVectors(asNumpy=True))) * NANOMETER
        return Snapshot(self._unwrapped(positions, cell), velocities, cell)

    def energies(self) -> Energies:
        """Evaluate the potential and return the potential and the kinetic energy at the same time."""
        state = self._context.getState(energy=True)
        return Energies(
            plain_value(state.getPotentialEnergy()) * KJ_PER_MOL,
            plain_value(state.getKineticEnergy()) * KJ_PER_MOL,
        )

    def forces(self) -> FloatArray:
        """Evaluate the potential and return the current forces (n, 3)."""
        state = self._context.getState(forces=True)
        return np.asarray(plain_value(state.getForces(asNumpy=True)) * _FORCE)

    def state(self) -> EngineState:
        """Return positions, velocities, the portable OpenMM State, and the OpenMM checkpoint with the random state."""
        now = self.snapshot()
        state = self._context.getState(positions=True, velocities=True, parameters=True, integratorParameters=True)
        text = self._openmm.XmlSerializer.serialize(state).encode()
        return {
            "positions": now.positions,
            "velocities": now.velocities,
            "state_xml": np.frombuffer(text, dtype=np.uint8),
            "checkpoint": np.frombuffer(self._context.createCheckpoint(), dtype=np.uint8),
        }

    def restore(self, state: EngineState, seed: int) -> bool:
        """Continue from the checkpoint if this OpenMM version and platform accept it, otherwise from the State."""
        self._last = state["positions"]
        try:
            self._context.loadCheckpoint(state["checkpoint"].tobytes())
            if np.abs(self.snapshot().positions - state["positions"]).max() < _SAME_POSITION:
                return True
        except self._openmm.OpenMMException:
            pass
        self.reseed(seed)
        self._context.setState(self._openmm.XmlSerializer.deserialize(state["state_xml"].tobytes().decode()))
        return self.ensemble in ("nve", "nvt-nose-hoover")

    def reseed(self, seed: int) -> None:
        """Reseed the random number generator; OpenMM accepts a seed only in a new Context."""
        state = self._context.getState(positions=True, velocities=True, parameters=True, integratorParameters=True)
        if self.ensemble == "npt":
            self._system.getForce(self._system.getNumForces() - 1).setRandomNumberSeed(seed)
        self._integrator, self._context = self._build(seed)
        self._context.setState(state)

    def _build(self, seed: int) -> tuple[Any, Any]:
        integrator = make_integrator(self._openmm, self.ensemble, self._protocol, self._temperature, seed)
        platform = self._openmm.Platform.getPlatformByName(self.platform)
        properties = platform_properties(self.platform)
        try:
            context = self._openmm.Context(self._system, integrator, platform, properties)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM cannot start on {self.platform}: {reason_of(error)}") from None
        count_freedom(integrator, self.degrees_of_freedom)
        return integrator, context

    def _place(self, positions: FloatArray, velocities: FloatArray) -> None:
        self._last = positions
        self._context.setPositions(positions / NANOMETER)
        self._context.setVelocities(velocities / _SPEED)

    def _unwrapped(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """Undo the wrapping of atoms into the box by the barostat."""
        if self.ensemble == "npt":
            inverse = np.linalg.inv(cell)
            positions = positions + np.round((self._last - positions) @ inverse) @ cell
            self._last = positions
        return positions

    def _compare_with(self, potential: BoundPotential, model: Path) -> None:
        """Compare the forces inside OpenMM with a direct call before the first step.

        Raises:
            EngineError: The forces differ, or OpenMM cannot evaluate the potential.
        """
        try:
            inside = self.forces()
        except self._openmm.OpenMMException as error:
            raise EngineError(
                f"OpenMM cannot evaluate the potential: {reason_of(error)}: run `piwsl doctor`, or use engine='ase'"
            ) from None
        direct = potential(self._structure.positions, self._structure.cell.array if self._periodic else None).forces
        difference, largest = np.abs(inside - direct).max(), np.abs(direct).max()
        if difference > FORCE_AGREEMENT * max(largest, 1.0):
            raise EngineError(
                f"the forces of {self.force} and of {model} differ by {difference:.2g} eV/angstrom: report this error "
                "with the output of `piwsl doctor`"
            )


def particle_masses(structure: Atoms) -> list[float]:
    """Return the particle masses for a System, amu. Fixed atoms have the mass 0, so OpenMM does not move them."""
    masses: list[float] = np.where(fixed_atoms(structure), 0.0, structure.get_masses()).tolist()
    return masses


def _reduced_box(structure: Atoms) -> list[FloatArray]:
    """Return reduced box vectors in nm in the orientation of OpenMM: first along x, second in the xy plane.

    Raises:
        EngineError: The cell has a different orientation.
    """
    cell = structure.cell.array
    if np.abs([cell[0, 1], cell[0, 2], cell[1, 2]]).max() > 1e-6 * np.abs(cell).max() or (np.diag(cell) <= 0).any():
        rotate = "atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)"
        if structure.cell.handedness < 0:
            raise EngineError(
                "OpenMM needs right-handed cell vectors: exchange two vectors, which does not change the crystal, and "
                f"rotate (in ASE: atoms.set_cell(atoms.cell[[1, 0, 2]]); {rotate}), or choose engine='ase'"
            )
        raise EngineError(
            "OpenMM needs the first cell vector along x and the second in the xy plane: rotate the structure "
            f"(in ASE: {rotate}), or choose engine='ase'"
        )
    a, b, c = (row.copy() for row in cell)
    c -= b * np.round(c[1] / b[1])
    c -= a * np.round(c[0] / a[0])
    b -= a * np.round(b[0] / a[0])
    return [a / NANOMETER, b / NANOMETER, c / NANOMETER]


BAROSTAT_INTERVAL = 25  # steps between attempts to change the box (default of OpenMM)


def make_integrator(openmm: ModuleType, ensemble: str, protocol: MDProtocol, temperature: float, seed: int) -> Any:
    """Create the integrator of an ensemble.

    - nve: leapfrog Verlet.
    - nvt-langevin and npt: Langevin middle (Zhang et al., J. Phys. Chem. A 123, 6056, 2019).
    - nvt-nose-hoover: chain of three beads in the middle scheme (Zhang et al., J. Chem. Phys. 147, 034109, 2017).
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
    """Create a Monte Carlo barostat (Aqvist et al., Chem. Phys. Lett. 384, 288, 2004)."""
    barostat = openmm.MonteCarloBarostat(protocol.pressure, temperature, BAROSTAT_INTERVAL)
    barostat.setRandomNumberSeed(seed)
    return barostat


def count_freedom(integrator: Any, degrees_of_freedom: int) -> None:
    """Set the number of degrees of freedom of a Nose-Hoover chain after the Context has been created.

    OpenMM counts all coordinates. Without this correction, the temperature of a molecule without overall motion would
    be too high by a factor of 3n / (3n - 6).
    """
    if hasattr(integrator, "getNumThermostats"):
        for index in range(integrator.getNumThermostats()):
            integrator.getThermostat(index).setNumDegreesOfFreedom(degrees_of_freedom)


def set_temperature(openmm: ModuleType, integrator: Any, context: Any, temperature: float) -> None:
    """Set the temperature of the thermostat and the barostat if they exist, K."""
    if hasattr(integrator, "setTemperature"):
        integrator.setTemperature(temperature)
    name = openmm.MonteCarloBarostat.Temperature()
    if name in context.getParameters():
        context.setParameter(name, temperature)
