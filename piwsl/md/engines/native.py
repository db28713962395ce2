"""Replicas moved by a loop in torch, on the device of the potential."""

import json
from collections.abc import Mapping

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from piwsl.export.replicas import BoundReplicas
from piwsl.md.engines.base import Energies, EngineState, Snapshot, kinetic_energy, phase_seed
from piwsl.md.engines.schemes import make_scheme
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom
from piwsl.typing import FloatArray

# Random numbers drawn ahead, in bytes.
_DRAWN = 2**24


class NativeReplicas:
    """Velocity Verlet (nve), Langevin middle (nvt-langevin) or a Nose-Hoover chain (nvt-nose-hoover) in float64.

    Each replica has a stream of random numbers of its own, and draws the same numbers alone, among others, after others
    have left, and after a restart.

    Args:
        potential: for the atoms of the structure.
        structure: species, masses, and the cell of every replica.
        protocol: time step, temperature, friction and seed.
        starts: where each replica begins, by its number.
        step: with which the phase of the run begins.
    """

    name = "native"
    force = "torch"
    force_reason = "the loop calls the potential itself"

    def __init__(
        self,
        potential: BoundReplicas,
        structure: Atoms,
        protocol: MDProtocol,
        starts: Mapping[int, Snapshot],
        step: int = 0,
    ) -> None:
        self._potential = potential
        self.ensemble: str = protocol.ensemble_at(step)
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._cell = np.array(structure.cell.array) if structure.pbc.any() else None
        masses = self._on_device(self._masses)
        self._scheme = make_scheme(
            self.ensemble, protocol, len(starts), masses, protocol.temperature_at(step), self.degrees_of_freedom
        )
        self._numbers = list(starts)
        seeds = [phase_seed(protocol.seed_of(number), step, protocol.equilibration) for number in starts]
        self._streams = [np.random.default_rng(seed) for seed in seeds]
        self._positions = self._on_device(np.stack([one.positions for one in starts.values()]))
        self._velocities = self._on_device(np.stack([one.velocities for one in starts.values()]))
        self._forces: Tensor | None = None  # at the positions; None where they are to be evaluated
        self._energies = self._positions.new_zeros(len(starts))
        at_a_time = f"{potential.chunk} copies a call, {potential.threads} at a time"
        self.platform = f"torch on {potential.device.type}, {at_a_time}"

    @property
    def replicas(self) -> list[int]:
        """Numbers of the replicas that are left."""
        return list(self._numbers)

    def advance(self, steps: int) -> None:
        """Move on."""
        if not self._numbers:
            return
        forces = self._evaluated()
        block = max(1, _DRAWN // (8 * self._positions.numel()))
        for first in range(0, steps, block):
            for noise in self._noise(min(block, steps - first)):
                forces = self._scheme.step(self._positions, self._velocities, forces, noise, self._evaluate)

    def snapshots(self) -> list[Snapshot]:
        """Positions, and velocities of the same time (nve) or half a step before (others)."""
        positions, velocities = self._positions.cpu().numpy(), self._velocities.cpu().numpy()
        return [Snapshot(x.copy(), v.copy(), self._cell) for x, v in zip(positions, velocities, strict=True)]

    def energies(self) -> list[Energies]:
        """Energies now; the potential energies are those of the last force evaluation."""
        self._evaluated()
        potential, velocities = self._energies.tolist(), self._velocities.cpu().numpy()
        return [Energies(u, kinetic_energy(self._masses, v)) for u, v in zip(potential, velocities, strict=True)]

    def forces(self) -> FloatArray:
        """Forces (R, n, 3) now, those of the last evaluation."""
        forces: FloatArray = self._evaluated().cpu().numpy().copy()
        return forces

    def state(self, replica: int) -> EngineState:
        """Positions, velocities, variables of the thermostat, and the state of the stream of random numbers."""
        place = self._numbers.index(replica)
        return {
            "positions": self._positions[place].cpu().numpy().copy(),
            "velocities": self._velocities[place].cpu().numpy().copy(),
            "thermostat": self._scheme.variables[place].cpu().numpy().copy(),
            "generator": np.array(json.dumps(self._streams[place].bit_generator.state)),
        }

    def restore(self, states: dict[int, EngineState], seeds: dict[int, int]) -> bool:
        """Let replicas go on from states, exactly."""
        for replica, state in states.items():
            place = self._numbers.index(replica)
            self._positions[place] = self._on_device(state["positions"])
            self._velocities[place] = self._on_device(state["velocities"])
            self._scheme.variables[place] = self._on_device(state["thermostat"])
            self._streams[place].bit_generator.state = json.loads(str(state["generator"]))
        self._forces = None
        return True

    def reseed(self, replica: int, seed: int) -> None:
        """Draw other random numbers from now on."""
        self._streams[self._numbers.index(replica)] = np.random.default_rng(seed)

    def remove(self, replica: int) -> None:
        """Take a replica out."""
        place = self._numbers.index(replica)
        del self._numbers[place], self._streams[place]
        kept = [row for row in range(len(self._positions)) if row != place]
        self._energies, self._scheme.variables = self._energies[kept], self._scheme.variables[kept]
        self._positions, self._velocities = self._positions[kept], self._velocities[kept]
        self._forces = None if self._forces is None else self._forces[kept]

    def set_temperature(self, temperature: float) -> None:
        """Of the thermostat, K; no effect in nve."""
        self._scheme.set_temperature(temperature)

    def _evaluate(self, positions: Tensor) -> Tensor:
        self._forces = None  # until they are known
        found = self._potential(positions)
        self._energies, self._forces = found.energies, found.forces
        return found.forces

    def _evaluated(self) -> Tensor:
        """Forces at the positions."""
        return self._evaluate(self._positions) if self._forces is None else self._forces

    def _noise(self, steps: int) -> Tensor:
        """Normal random numbers (steps, R, n, 3), each replica's from its own stream; one zero a step if none count."""
        if not self._scheme.is_random:
            return self._positions.new_zeros(steps)
        shape = (steps, *self._positions.shape[1:])
        drawn = np.stack([stream.standard_normal(shape) for stream in self._streams], axis=1)
        return self._on_device(drawn)

    def _on_device(self, values: FloatArray) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._potential.device)
