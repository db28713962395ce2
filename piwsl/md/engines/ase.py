"""Engine that runs ASE dynamics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet
from ase.units import kB
from numpy.linalg import LinAlgError

from piwsl.compat.ase import chain_variables, hold_atoms, set_barostat, set_chain_variables, set_thermostat
from piwsl.errors import DataError, EngineError, reason_of
from piwsl.md.calculator import RunCalculator
from piwsl.md.engines.base import EngineState, Snapshot, phase_seed
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom
from piwsl.runs.json_text import json_text
from piwsl.structures.constraints import fixed_atoms
from piwsl.trajectories.thermo import Energies
from piwsl.typing import FloatArray
from piwsl.units import ASE_TIME, BAR


class ASEEngine:
    """Engine with a class of `DYNAMICS` and the ASE calculator of the potential.

    For the arguments, see `piwsl.md.engines.make.make_engine`.
    """

    name = "ase"
    force = "ASE"
    force_reason = "the engine is ASE"

    def __init__(self, model: Path, structure: Atoms, protocol: MDProtocol, step: int = 0) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.platform = f"torch on {device}"
        self.ensemble: str = protocol.ensemble_at(step)
        if self.ensemble == "npt" and not structure.pbc.all():
            raise EngineError("npt requires a structure that is periodic along all directions: choose ensemble='nvt'")
        self.degrees_of_freedom = degrees_of_freedom(structure, conserves_momentum(self.ensemble, self.name))
        self._protocol, self._temperature = protocol, protocol.temperature_at(step)
        self._atoms = structure.copy()
        self._atoms.calc = RunCalculator(model, device)
        self._rng = np.random.default_rng(phase_seed(protocol.seed, step, protocol.equilibration))
        self.forces()  # raises an error if the potential was exported for other atoms

    def start(self, velocities: FloatArray) -> None:
        """Set velocities (n, 3), angstrom/fs, for the start structure."""
        self._atoms.set_velocities(velocities * ASE_TIME)
        self._make()

    def advance(self, steps: int) -> None:
        """Advance by a number of steps.

        Raises:
            EngineError: Positions or cell cannot be evaluated.
        """
        try:
            self._dynamics.dynamics.run(steps)
        except (DataError, LinAlgError) as error:  # raised by calculator and barostat
            raise EngineError(f"ASE failed: {reason_of(error)}") from None

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K."""
        self._dynamics.set_temperature(temperature)

    def snapshot(self) -> Snapshot:
        """Return positions and velocities at the same time."""
        cell = self._atoms.cell.array.copy() if self._atoms.pbc.any() else None
        return Snapshot(self._atoms.get_positions(), self._atoms.get_velocities() / ASE_TIME, cell)

    def energies(self) -> Energies:
        """Return the current energies; the potential energy comes from the last force evaluation."""
        return Energies(float(self._atoms.get_potential_energy()), float(self._atoms.get_kinetic_energy()))

    def forces(self) -> FloatArray:
        """Return the current forces (n, 3), including the forces on fixed atoms."""
        return np.asarray(self._atoms.get_forces(apply_constraint=False))

    def state(self) -> EngineState:
        """Return positions, momenta in ASE units, cell, and the states of thermostat, barostat and random generator."""
        return {
            "positions": self._atoms.get_positions(),
            "momenta": self._atoms.get_momenta(),
            "cell": self._atoms.cell.array,
            "generator": np.array(json_text(self._rng.bit_generator.state)),
            **self._dynamics.extended(),
        }

    def restore(self, state: EngineState, seed: int) -> bool:
        """Continue exactly from a state."""
        self._atoms.set_cell(state["cell"])
        self._atoms.set_positions(state["positions"])
        self._atoms.set_momenta(state["momenta"])
        self._make()
        self._dynamics.set_extended(state)
        self._rng.bit_generator.state = json.loads(str(state["generator"]))
        return True

    def reseed(self, seed: int) -> None:
        """Reseed the random number generator."""
        self._rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _make(self) -> None:
        kind = DYNAMICS[self.ensemble]
        arguments = (self._protocol, self._temperature, self._rng, self.degrees_of_freedom)
        self._dynamics = kind(self._atoms, *arguments)


class Dynamics:
    """Velocity Verlet dynamics at constant energy; also the base class for the other ensembles.

    Args:
        atoms: Structure with calculator and velocities; the dynamics changes its positions.
        protocol: Protocol with time step, temperature and time constants.
        temperature: Initial temperature of the thermostat, K.
        rng: Random number generator.
        degrees_of_freedom: Number of kinetic degrees of freedom.
    """

    def __init__(
        self,
        atoms: Atoms,
        protocol: MDProtocol,
        temperature: float,
        rng: np.random.Generator,
        degrees_of_freedom: int,
    ) -> None:
        self.atoms, self.protocol, self.rng = atoms, protocol, rng
        self.degrees_of_freedom = degrees_of_freedom
        self.timestep = protocol.timestep / ASE_TIME
        self.dynamics: Any = self.make(temperature)

    def make(self, temperature: float) -> Any:
        """Return the ASE dynamics object."""
        return VelocityVerlet(self.atoms, self.timestep)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K."""

    def extended(self) -> EngineState:
        """Return the internal variables of thermostat and barostat."""
        return {}

    def set_extended(self, state: EngineState) -> None:
        """Set the internal variables of thermostat and barostat."""


class LangevinDynamics(Dynamics):
    """Langevin dynamics: Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006)."""

    def make(self, temperature: float) -> Any:
        """Return the ASE dynamics object."""
        friction = self.protocol.friction * ASE_TIME
        return Langevin(
            self.atoms, self.timestep, temperature_K=temperature, friction=friction, fixcm=False, rng=self.rng
        )

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K."""
        self.dynamics.set_temperature(temperature_K=temperature)


class CSVRDynamics(Dynamics):
    """Canonical sampling through velocity rescaling.

    Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007).
    """

    def make(self, temperature: float) -> Any:
        """Return the ASE dynamics object with corrected degrees of freedom; ASE counts all coordinates."""
        taut = self.protocol.thermostat_time / ASE_TIME
        dynamics = Bussi(self.atoms, self.timestep, temperature_K=temperature, taut=taut, rng=self.rng)
        dynamics.ndof = self.degrees_of_freedom
        return _set_bussi(dynamics, temperature)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K."""
        _set_bussi(self.dynamics, temperature)


def _set_bussi(dynamics: Bussi, temperature: float) -> Bussi:
    """Set the temperature of the thermostat, K."""
    dynamics.temp = temperature * kB
    dynamics.target_kinetic_energy = 0.5 * dynamics.temp * dynamics.ndof
    return dynamics


class NoseHooverDynamics(Dynamics):
    """Nose-Hoover chain of three beads: Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.set_temperature(args[2])

    def make(self, temperature: float) -> Any:
        """Return the ASE dynamics object."""
        tdamp = self.protocol.thermostat_time / ASE_TIME
        dynamics = NoseHooverChainNVT(self.atoms, self.timestep, temperature_K=temperature, tdamp=tdamp)
        if self.atoms.constraints:
            hold_atoms(dynamics, fixed_atoms(self.atoms))
        return dynamics

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the thermostat, K."""
        set_thermostat(self.dynamics, temperature, self.degrees_of_freedom)

    def extended(self) -> EngineState:
        """Return the positions and momenta of the beads."""
        return chain_variables(self.dynamics)

    def set_extended(self, state: EngineState) -> None:
        """Set the positions and momenta of the beads."""
        set_chain_variables(self.dynamics, self.atoms, state)


class NPTDynamics(NoseHooverDynamics):
    """Isotropic constant-pressure dynamics: Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994)."""

    def make(self, temperature: float) -> Any:
        """Return the ASE dynamics object."""
        return IsotropicMTKNPT(
            self.atoms,
            self.timestep,
            temperature_K=temperature,
            pressure_au=self.protocol.pressure * BAR,
            tdamp=self.protocol.thermostat_time / ASE_TIME,
            pdamp=self.protocol.barostat_time / ASE_TIME,
        )

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of thermostat and barostat, K."""
        set_thermostat(self.dynamics, temperature, self.degrees_of_freedom)
        set_barostat(self.dynamics, temperature, self.degrees_of_freedom)


DYNAMICS: dict[str, type[Dynamics]] = {
    "nve": Dynamics,
    "nvt-langevin": LangevinDynamics,
    "nvt-nose-hoover": NoseHooverDynamics,
    "nvt-csvr": CSVRDynamics,
    "npt": NPTDynamics,
}
