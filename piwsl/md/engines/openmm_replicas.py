"""Engine for replicas as molecules of one OpenMM System.

Only this module uses nm, ps and kJ/mol; arguments and results are in the units of piwsl.
"""

import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase import Atoms

from piwsl.compat.openmm import plain_value, state_positions
from piwsl.errors import EngineError, reason_of
from piwsl.export.replica_evaluation import BoundReplicas
from piwsl.interfaces.openmm.probe import import_openmm, probe_pythonforce
from piwsl.md.engines.base import EngineState, Snapshot, kinetic_energy, phase_seed, split_seed
from piwsl.md.engines.openmm import choose_platform, make_integrator, particle_masses, platform_properties
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom, inertial_masses
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, KJ_PER_MOL, NANOMETER, PICOSECOND

_SPEED = NANOMETER / PICOSECOND  # nm/ps in angstrom/fs
_FORCE = KJ_PER_MOL / NANOMETER  # kJ/mol/nm in eV/angstrom


class OpenMMReplicas:
    """Engine with leapfrog Verlet (nve) or Langevin middle (nvt-langevin), one System of R molecules, one PythonForce.

    One integrator draws the random numbers of all replicas, so the trajectory of a replica depends on their number.
    When a replica is removed, the others continue in a new System with new random numbers.

    Args:
        potential: Potential bound to the atoms of the structure.
        structure: Structure with the species and masses of every replica, without a cell.
        protocol: Protocol with time step, temperature, friction and seed.
        starts: Initial positions and velocities of each replica, by replica number.
        step: First step of the phase.

    Raises:
        EngineError: The structure is periodic, or OpenMM cannot be used.
    """

    name = "openmm"
    force = "PythonForce"
    force_reason = "PythonForce supports any number of replicas"

    def __init__(
        self,
        potential: BoundReplicas,
        structure: Atoms,
        protocol: MDProtocol,
        starts: Mapping[int, Snapshot],
        step: int = 0,
    ) -> None:
        self._openmm = import_openmm()
        if structure.pbc.any():
            raise EngineError(
                "engine openmm supports replicas of molecules without a cell only: choose engine='native'"
            )
        self.platform = choose_platform()
        probe = probe_pythonforce(self.platform)
        if not probe.works:
            raise EngineError(f"replicas in OpenMM need PythonForce: {probe.reason}: choose engine='native'")
        self._protocol, self._temperature = protocol, protocol.temperature_at(step)
        self.ensemble: str = protocol.ensemble_at(step)
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._callable = ReplicaForce(potential)
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._particles, self._inertial_masses = particle_masses(structure), inertial_masses(structure)
        self._numbers, self._removed = list(starts), 0
        self._seeds = {number: phase_seed(protocol.seed_of(number), step, protocol.equilibration) for number in starts}
        snapshots = list(starts.values())
        self._build(snapshots)
        if self.ensemble == "nve":  # the leapfrog integrator needs velocities half a step earlier
            earlier = np.stack([start.velocities for start in snapshots]) - self._half_kick() * self.forces()
            self._place(np.stack([start.positions for start in snapshots]), earlier)

    @property
    def replicas(self) -> list[int]:
        """Numbers of the remaining replicas."""
        return list(self._numbers)

    def advance(self, steps: int) -> None:
        """Advance by a number of steps.

        Raises:
            EngineError: OpenMM failed; the error contains the message of OpenMM.
        """
        if not self._numbers:
            return
        try:
            self._integrator.step(steps)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM failed: {reason_of(error)}") from None

    def snapshots(self) -> list[Snapshot]:
        """Return positions, and velocities half a step earlier, as stored by both integrators."""
        if not self._numbers:
            return []
        state = self._context.getState(positions=True, velocities=True)
        positions = self._by_replica(plain_value(state.getPositions(asNumpy=True))) * NANOMETER
        velocities = self._by_replica(plain_value(state.getVelocities(asNumpy=True))) * _SPEED
        return [Snapshot(x, v) for x, v in zip(positions, velocities, strict=True)]

    def energies(self) -> list[Energies]:
        """Evaluate the potential and return the current energies; in nve, both energies belong to the same time."""
        forces = self.forces()
        later = self._half_kick() * forces if self.ensemble == "nve" else np.zeros_like(forces)
        return [
            Energies(float(potential), kinetic_energy(self._masses, snapshot.velocities + kick))
            for potential, snapshot, kick in zip(self._callable.energies, self.snapshots(), later, strict=True)
        ]

    def forces(self) -> FloatArray:
        """Evaluate the potential and return the current forces (R, n, 3)."""
        if not self._numbers:
            self._callable.energies = np.zeros(0)
            return np.zeros((0, len(self._masses), 3))
        state = self._context.getState(forces=True)
        return self._by_replica(plain_value(state.getForces(asNumpy=True))) * _FORCE

    def state(self, replica: int) -> EngineState:
        """Return positions and velocities; the random state is shared by all replicas and cannot be restored."""
        now = self.snapshots()[self._numbers.index(replica)]
        return {"positions": now.positions, "velocities": now.velocities}

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Continue replicas from their positions and velocities; the continuation is exact in nve."""
        self._seeds.update(seeds)
        snapshots = dict(zip(self._numbers, self.snapshots(), strict=True))
        for replica, state in states.items():
            snapshots[replica] = Snapshot(state["positions"], state["velocities"])
        self._build(list(snapshots.values()))
        return self.ensemble == "nve"

    def reseed(self, replica: int, seed: int) -> None:
        """Reseed the random number generator, which all replicas share."""
        self._seeds[replica] = seed
        self._build(self.snapshots())

    def remove(self, replica: int) -> None:
        """Remove a replica; the other replicas continue in a new System."""
        place = self._numbers.index(replica)
        snapshots = self.snapshots()
        del snapshots[place], self._numbers[place]
        self._removed += 1
        self._build(snapshots)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K; no effect in nve."""
        self._temperature = temperature
        if self.ensemble == "nvt-langevin":
            self._integrator.setTemperature(temperature)

    def _build(self, snapshots: list[Snapshot]) -> None:
        """Create a new System, integrator and Context."""
        if not snapshots:
            return
        seed = split_seed(self._seeds[self._numbers[0]], 4, self._removed)
        self._integrator = make_integrator(self._openmm, self.ensemble, self._protocol, self._temperature, seed)
        system = self._openmm.System()
        for mass in self._particles * len(snapshots):
            system.addParticle(mass)
        system.addForce(self._openmm.PythonForce(self._callable))
        platform = self._openmm.Platform.getPlatformByName(self.platform)
        properties = platform_properties(self.platform)
        try:
            self._context = self._openmm.Context(system, self._integrator, platform, properties)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM cannot start on {self.platform}: {reason_of(error)}") from None
        self._place(
            np.stack([start.positions for start in snapshots]), np.stack([start.velocities for start in snapshots])
        )

    def _place(self, positions: FloatArray, velocities: FloatArray) -> None:
        self._context.setPositions(positions.reshape(-1, 3) / NANOMETER)
        self._context.setVelocities(velocities.reshape(-1, 3) / _SPEED)

    def _half_kick(self) -> FloatArray:
        """Return the velocity change in half a step per unit force (n, 1)."""
        return 0.5 * self._protocol.timestep * ACCELERATION / self._inertial_masses[:, None]

    def _by_replica(self, values: Any) -> FloatArray:
        return np.asarray(values, dtype=np.float64).reshape(-1, len(self._masses), 3)


class ReplicaForce:
    """Function that PythonForce calls for the energy and the forces at an OpenMM State.

    Attributes:
        energies: Energies (R,) from the last call, eV.
    """

    def __init__(self, potential: BoundReplicas) -> None:
        self._potential = potential
        self.energies: FloatArray = np.zeros(0)

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Return the energy in kJ/mol and the forces (R n, 3) in kJ/mol/nm at the positions of a State.

        Raises:
            RuntimeError: An error occurred. The message contains the traceback, because OpenMM keeps only the message.
        """
        try:
            positions = state_positions(state).reshape(-1, self._potential.n_atoms, 3) * NANOMETER
            result = self._potential(torch.from_numpy(positions).to(self._potential.device))
        except Exception as error:
            raise RuntimeError("".join(traceback.format_exception(error))) from error
        self.energies = result.energies.cpu().numpy()
        return float(self.energies.sum()) / KJ_PER_MOL, result.forces.cpu().numpy().reshape(-1, 3) / _FORCE
