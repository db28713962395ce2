"""Replicas as molecules of one OpenMM System. Nanometers, kJ/mol and ps stay inside this module."""

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
from piwsl.md.engines.openmm import choose_platform, make_integrator
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, KJ_PER_MOL, NANOMETER, PICOSECOND

_SPEED = NANOMETER / PICOSECOND  # nm/ps in angstrom/fs
_FORCE = KJ_PER_MOL / NANOMETER  # kJ/mol/nm in eV/angstrom


class OpenMMReplicas:
    """Leapfrog Verlet (nve) or Langevin middle (nvt-langevin) of one System with R molecules and one PythonForce.

    One integrator draws for all replicas, so what a replica does depends on how many there are. One that leaves takes
    its particles out of the System; the others go on from where they are, with new random numbers.

    Args:
        potential: for the atoms of the structure.
        structure: species and masses of every replica; without a cell.
        protocol: time step, temperature, friction and seed.
        starts: where each replica begins, by its number.
        step: with which the phase of the run begins.

    Raises:
        EngineError: the structure is periodic, or OpenMM cannot run it.
    """

    name = "openmm"
    force = "PythonForce"
    force_reason = "it takes any number of replicas"

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
            raise EngineError("replicas in one OpenMM System are molecules without a cell: choose --engine native")
        self.platform = choose_platform()
        works = probe_pythonforce(self.platform)
        if not works.works:
            raise EngineError(f"replicas in OpenMM need PythonForce: {works.reason}")
        self._protocol, self._temperature = protocol, protocol.temperature_at(step)
        self.ensemble: str = protocol.ensemble_at(step)
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._callable = ReplicaForce(potential)
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._numbers, self._removed = list(starts), 0
        self._seeds = {one: phase_seed(protocol.seed_of(one), step, protocol.equilibration) for one in starts}
        snapshots = list(starts.values())
        self._build(snapshots)
        if self.ensemble == "nve":  # the leapfrog takes velocities half a step earlier
            earlier = np.stack([one.velocities for one in snapshots]) - self._half_kick() * self.forces()
            self._place(np.stack([one.positions for one in snapshots]), earlier)

    @property
    def replicas(self) -> list[int]:
        """Numbers of the replicas that are left."""
        return list(self._numbers)

    def advance(self, steps: int) -> None:
        """Move on; raises EngineError with OpenMM's words."""
        if not self._numbers:
            return
        try:
            self._integrator.step(steps)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM failed: {reason_of(error)}") from None

    def snapshots(self) -> list[Snapshot]:
        """Positions, and velocities half a step before them, as both integrators keep them."""
        if not self._numbers:
            return []
        state = self._context.getState(positions=True, velocities=True)
        positions = self._by_replica(plain_value(state.getPositions(asNumpy=True))) * NANOMETER
        velocities = self._by_replica(plain_value(state.getVelocities(asNumpy=True))) * _SPEED
        return [Snapshot(x, v) for x, v in zip(positions, velocities, strict=True)]

    def energies(self) -> list[Energies]:
        """Energies now: one evaluation of the potential; in nve kinetic and potential of the same time."""
        forces = self.forces()
        later = self._half_kick() * forces if self.ensemble == "nve" else np.zeros_like(forces)
        return [
            Energies(float(potential), kinetic_energy(self._masses, one.velocities + kick))
            for potential, one, kick in zip(self._callable.energies, self.snapshots(), later, strict=True)
        ]

    def forces(self) -> FloatArray:
        """Forces (R, n, 3) now: one evaluation of the potential."""
        if not self._numbers:
            self._callable.energies = np.zeros(0)
            return np.zeros((0, len(self._masses), 3))
        state = self._context.getState(forces=True)
        return self._by_replica(plain_value(state.getForces(asNumpy=True))) * _FORCE

    def state(self, replica: int) -> EngineState:
        """Positions and velocities; the state of the random numbers is that of all replicas together."""
        now = self.snapshots()[self._numbers.index(replica)]
        return {"positions": now.positions, "velocities": now.velocities}

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Let replicas go on from their positions and velocities; in nve exactly."""
        self._seeds.update(seeds)
        snapshots = dict(zip(self._numbers, self.snapshots(), strict=True))
        for replica, state in states.items():
            snapshots[replica] = Snapshot(state["positions"], state["velocities"])
        self._build(list(snapshots.values()))
        return self.ensemble == "nve"

    def reseed(self, replica: int, seed: int) -> None:
        """Draw other random numbers from now on, for all replicas."""
        self._seeds[replica] = seed
        self._build(self.snapshots())

    def remove(self, replica: int) -> None:
        """Make a System of the replicas that are left."""
        place = self._numbers.index(replica)
        snapshots = self.snapshots()
        del snapshots[place], self._numbers[place]
        self._removed += 1
        self._build(snapshots)

    def set_temperature(self, temperature: float) -> None:
        """Of the thermostat, K; no effect in nve."""
        self._temperature = temperature
        if self.ensemble == "nvt-langevin":
            self._integrator.setTemperature(temperature)

    def _build(self, snapshots: list[Snapshot]) -> None:
        """A new System, integrator and Context."""
        if not snapshots:
            return
        seed = split_seed(self._seeds[self._numbers[0]], 4, self._removed)
        self._integrator = make_integrator(self._openmm, self.ensemble, self._protocol, self._temperature, seed)
        system = self._openmm.System()
        for mass in np.tile(self._masses, len(snapshots)):
            system.addParticle(mass)
        system.addForce(self._openmm.PythonForce(self._callable))
        platform = self._openmm.Platform.getPlatformByName(self.platform)
        properties = {"Precision": "mixed"} if self.platform == "CUDA" else {}
        try:
            self._context = self._openmm.Context(system, self._integrator, platform, properties)
        except self._openmm.OpenMMException as error:
            raise EngineError(f"OpenMM cannot start on {self.platform}: {reason_of(error)}") from None
        self._place(np.stack([one.positions for one in snapshots]), np.stack([one.velocities for one in snapshots]))

    def _place(self, positions: FloatArray, velocities: FloatArray) -> None:
        self._context.setPositions(positions.reshape(-1, 3) / NANOMETER)
        self._context.setVelocities(velocities.reshape(-1, 3) / _SPEED)

    def _half_kick(self) -> FloatArray:
        """What half a step adds to velocities, over the force, (n, 1)."""
        return 0.5 * self._protocol.timestep * ACCELERATION / self._masses[:, None]

    def _by_replica(self, values: Any) -> FloatArray:
        return np.asarray(values, dtype=np.float64).reshape(-1, len(self._masses), 3)


class ReplicaForce:
    """What PythonForce calls at every step: an OpenMM state to energy (kJ/mol) and forces (R n, 3) in kJ/mol/nm.

    Attributes:
        energies: (R,) eV, of the last call.
    """

    def __init__(self, potential: BoundReplicas) -> None:
        self._potential = potential
        self.energies: FloatArray = np.zeros(0)

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Energy and forces at the positions of a state.

        Raises:
            RuntimeError: whatever went wrong, with its own text; OpenMM passes on nothing else of an exception.
        """
        try:
            positions = state_positions(state).reshape(-1, self._potential.n_atoms, 3) * NANOMETER
            found = self._potential(torch.from_numpy(positions).to(self._potential.device))
        except Exception as error:
            raise RuntimeError("".join(traceback.format_exception(error))) from error
        self.energies = found.energies.cpu().numpy()
        return float(self.energies.sum()) / KJ_PER_MOL, found.forces.cpu().numpy().reshape(-1, 3) / _FORCE
