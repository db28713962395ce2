"""ASE as engine. ASE's own unit of time stays inside this module."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from piwsl.md.calculator import PiwslCalculator
from piwsl.md.engines.base import Energies, EngineState, Snapshot, split_seed
from piwsl.md.protocol import MDProtocol
from piwsl.typing import FloatArray
from piwsl.units import ASE_TIME


class ASEEngine:
    """Velocity Verlet (nve) or Langevin (nvt), by ASE.

    Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006) for the Langevin scheme.
    """

    name = "ase"
    force = "ASE"
    force_reason = "the engine is ASE"

    def __init__(self, model: Path, structure: Atoms, protocol: MDProtocol) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.platform = f"torch on {device}"
        self._atoms = structure.copy()
        self._atoms.calc = PiwslCalculator(model, device)
        self._rng = np.random.default_rng(split_seed(protocol.seed, 1))
        timestep = protocol.timestep / ASE_TIME
        self._dynamics: Any
        if protocol.ensemble == "nvt":
            self._dynamics = Langevin(
                self._atoms,
                timestep,
                temperature_K=protocol.temperature,
                friction=protocol.friction * ASE_TIME,
                fixcm=False,
                rng=self._rng,
            )
        else:
            self._dynamics = VelocityVerlet(self._atoms, timestep)
        self.forces()  # a potential that was not made for the structure is refused here

    def start(self, velocities: FloatArray) -> None:
        """Begin at the start structure."""
        self._atoms.set_velocities(velocities * ASE_TIME)

    def advance(self, steps: int) -> None:
        """Move on."""
        self._dynamics.run(steps)

    def snapshot(self) -> Snapshot:
        """Positions and velocities of the same time."""
        return Snapshot(self._atoms.get_positions(), self._atoms.get_velocities() / ASE_TIME)

    def energies(self) -> Energies:
        """Energies now; the potential energy is that of the last force evaluation."""
        return Energies(float(self._atoms.get_potential_energy()), float(self._atoms.get_kinetic_energy()))

    def forces(self) -> FloatArray:
        """Forces (n, 3) now."""
        return np.asarray(self._atoms.get_forces())

    def state(self) -> EngineState:
        """Positions, momenta as ASE keeps them, and the state of the random generator."""
        generator = np.array(json.dumps(self._rng.bit_generator.state))
        return {
            "positions": self._atoms.get_positions(),
            "momenta": self._atoms.get_momenta(),
            "generator": generator,
        }

    def restore(self, state: EngineState, seed: int) -> bool:
        """Go on from a state, exactly."""
        self._atoms.set_positions(state["positions"])
        self._atoms.set_momenta(state["momenta"])
        self._rng.bit_generator.state = json.loads(str(state["generator"]))
        return True
