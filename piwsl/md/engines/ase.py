"""ASE as engine."""

import json
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from piwsl.errors import EngineError
from piwsl.md.calculator import PiwslCalculator
from piwsl.md.engines.ase_dynamics import DYNAMICS
from piwsl.md.engines.base import Energies, EngineState, Snapshot, phase_seed
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom
from piwsl.typing import FloatArray
from piwsl.units import ASE_TIME


class ASEEngine:
    """The dynamics of `ase_dynamics`, with the ASE calculator."""

    name = "ase"
    force = "ASE"
    force_reason = "the engine is ASE"

    def __init__(self, model: Path, structure: Atoms, protocol: MDProtocol, step: int = 0) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.platform = f"torch on {device}"
        self.ensemble: str = protocol.ensemble_at(step)
        if self.ensemble == "npt" and not structure.pbc.all():
            raise EngineError("npt changes the box, and the structure is not periodic along all directions: choose nvt")
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._protocol, self._temperature = protocol, protocol.temperature_at(step)
        self._atoms = structure.copy()
        self._atoms.calc = PiwslCalculator(model, device)
        self._rng = np.random.default_rng(phase_seed(protocol.seed, step, protocol.equilibration))
        self.forces()  # a potential that was not made for the structure is refused here

    def start(self, velocities: FloatArray) -> None:
        """Begin at the start structure."""
        self._atoms.set_velocities(velocities * ASE_TIME)
        self._make()

    def advance(self, steps: int) -> None:
        """Move on."""
        self._dynamics.dynamics.run(steps)

    def set_temperature(self, temperature: float) -> None:
        """Set the thermostat, K."""
        self._dynamics.set_temperature(temperature)

    def snapshot(self) -> Snapshot:
        """Positions and velocities of the same time."""
        cell = self._atoms.cell.array.copy() if self._atoms.pbc.any() else None
        return Snapshot(self._atoms.get_positions(), self._atoms.get_velocities() / ASE_TIME, cell)

    def energies(self) -> Energies:
        """Energies now; the potential energy is that of the last force evaluation."""
        return Energies(float(self._atoms.get_potential_energy()), float(self._atoms.get_kinetic_energy()))

    def forces(self) -> FloatArray:
        """Forces (n, 3) now."""
        return np.asarray(self._atoms.get_forces())

    def state(self) -> EngineState:
        """Positions, momenta as ASE keeps them, cell, thermostat and barostat, the state of the random generator."""
        return {
            "positions": self._atoms.get_positions(),
            "momenta": self._atoms.get_momenta(),
            "cell": self._atoms.cell.array,
            "generator": np.array(json.dumps(self._rng.bit_generator.state)),
            **self._dynamics.extended(),
        }

    def restore(self, state: EngineState, seed: int) -> bool:
        """Go on from a state, exactly."""
        self._atoms.set_cell(state["cell"])
        self._atoms.set_positions(state["positions"])
        self._atoms.set_momenta(state["momenta"])
        self._make()
        self._dynamics.set_extended(state)
        self._rng.bit_generator.state = json.loads(str(state["generator"]))
        return True

    def reseed(self, seed: int) -> None:
        """Draw other random numbers from now on."""
        self._rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _make(self) -> None:
        kind = DYNAMICS[self.ensemble]
        arguments = (self._protocol, self._temperature, self._rng, self.degrees_of_freedom)
        self._dynamics = kind(self._atoms, *arguments)
