"""Contrast between the data and the dynamics of the model under training.

A potential defines a distribution of structures, p(x) ~ exp(-E(x) / kT). Data sampled at the temperature T have the
highest likelihood if the gradient <dE/dw>_data - <dE/dw>_model with respect to the weights w vanishes. The term

    E(data) - E(chains)

has this gradient. It needs no label: it lowers the energy of the data and raises the energy of the structures that the
model itself visits. Unphysical minima, where dynamics of the model ends, are thus raised until the model leaves them.

The structures of the model come from persistent chains of Langevin dynamics, which continue from step to step while the
weights change (persistent contrastive divergence; for interatomic potentials see arXiv:2606.31660).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, BOLTZMANN

POOL = 2000  # largest number of frames from which chains start
HOTTEST = 4.0  # kinetic temperature, in units of the target, at which a chain has left the physical region
_LENGTHS = 1  # purpose of random numbers: the lifetime of a chain
_VELOCITIES = 2
_NOISE = 3
_PARTNERS = 4
_CHOICE = 5


@dataclass(frozen=True)
class ChainSettings:
    """Dynamics of the chains.

    Attributes:
        chains: Number of chains.
        temperature: Temperature of the thermostat, K. It must be the temperature of the data.
        timestep: Time step, fs.
        friction: Friction coefficient, 1/fs.
        lifetime: Largest number of steps before a chain starts again from a frame of the data.
    """

    chains: int = 4
    temperature: float = 500.0
    timestep: float = 0.5
    friction: float = 0.02
    lifetime: int = 2000


class Contrast:
    """Persistent Langevin chains of the model under training, and the loss term that they define.

    Each call moves every chain by one time step. The chains are divided among the processes of a run. All
    random numbers depend only on the seed, the step and the chain.

    Args:
        frames: Training frames. Chains start from them, and their energies are the other side of the contrast.
        settings: Dynamics of the chains.
        cutoff: Cutoff of the model, angstrom.
        seed: Seed of the run.
        coefficient: Coefficient of the term in the loss, 1/eV: a number, or a function of the step.
        rank: Rank of this process.
        processes: Number of processes.
    """

    name = "contrast"

    def __init__(
        self,
        frames: Sequence[Frame],
        settings: ChainSettings,
        cutoff: float,
        seed: int,
        coefficient: float | Callable[[int], float] = 1.0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.settings = settings
        self.cutoff = cutoff
        self.seed = seed
        self.coefficient = coefficient
        self.frames = self._pool(frames)
        self._same = _same_composition(self.frames)
        self.chains = [self._started(chain, 0) for chain in range(rank, settings.chains, processes)]

    def __call__(self, potential: Potential, step: int) -> Tensor:
        """Move the chains by one step, and return E(data) - E(chain) for each chain of this process.

        Args:
            potential: Potential under training.
            step: Training step.

        Returns:
            Values (chains,) in eV, float64, differentiable with respect to the weights.
        """
        if not self.chains:
            return torch.zeros(0, dtype=torch.float64, device=potential.scale.device)
        self.chains = [
            self._started(chain.index, step) if chain.is_over(self.settings) else chain for chain in self.chains
        ]
        batch = self._batch([chain.frame(self.frames) for chain in self.chains], potential)
        positions = batch.positions.detach().requires_grad_(True)
        energies = potential.energies(*batch.moved(positions).graph)
        # The same evaluation serves the loss and the next step of the dynamics.
        (gradient,) = torch.autograd.grad(energies.sum(), positions, retain_graph=True)
        partners = self._batch([self.frames[self._partner(chain, step)] for chain in self.chains], potential)
        values = potential.energies(*partners.graph) - energies
        forces = -gradient.detach().double().cpu().numpy()
        for chain, own in zip(self.chains, np.split(forces, np.cumsum(batch.n_atoms.tolist())[:-1]), strict=True):
            chain.move(own, self.settings, self._random(step, chain.index, _NOISE))
        return values

    def at(self, step: int) -> float:
        """Return the coefficient at a step."""
        return self.coefficient(step) if callable(self.coefficient) else self.coefficient

    def state(self) -> list[dict[str, Tensor]]:
        """Return the state of the chains of this process, as tensors for a checkpoint."""
        return [chain.state() for chain in self.chains]

    def load_state(self, chains: Sequence[dict[str, Tensor]]) -> None:
        """Continue the chains of a checkpoint, which may come from another number of processes."""
        stored = {int(chain["index"]): chain for chain in chains}
        self.chains = [
            Chain.from_state(stored[chain.index]) if chain.index in stored else chain for chain in self.chains
        ]

    def _pool(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames in memory, or a random selection of a large data set."""
        if len(frames) <= POOL:
            return list(frames)
        chosen = self._random(0, 0, _CHOICE).choice(len(frames), POOL, replace=False)
        return [frames[int(index)] for index in np.sort(chosen)]

    def _started(self, index: int, step: int) -> "Chain":
        """Return a chain at a random frame, with thermal velocities."""
        random = self._random(step, index, _VELOCITIES)
        frame = int(random.integers(len(self.frames)))
        positions = np.array(self.frames[frame].positions, dtype=np.float64)
        masses = _masses(self.frames[frame])
        velocities = random.standard_normal(positions.shape) * _thermal_speed(masses, self.settings.temperature)
        # Chains of different ages visit different distances from the data.
        lifetime = self._random(step, index, _LENGTHS).integers(1, self.settings.lifetime + 1)
        return Chain(index, frame, positions, velocities, masses, int(lifetime))

    def _partner(self, chain: "Chain", step: int) -> int:
        """Return a random frame with the composition of the chain. Energies of others would not cancel."""
        same = self._same[chain.start]
        return int(same[self._random(step, chain.index, _PARTNERS).integers(len(same))])

    def _batch(self, frames: Sequence[Frame], potential: Potential) -> Batch:
        weight = next(potential.network.parameters())
        return collate(frames, self.cutoff, weight.dtype).to(weight.device)

    def _random(self, step: int, chain: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step, chain, purpose))


class Chain:
    """One chain of Langevin dynamics.

    Args:
        index: Index among all chains of the run.
        start: Index of the frame from which the chain started.
        positions: Positions (N, 3), angstrom.
        velocities: Velocities (N, 3), angstrom/fs.
        masses: Masses (N,), amu.
        steps_left: Number of steps before the chain starts again.
    """

    def __init__(
        self,
        index: int,
        start: int,
        positions: FloatArray,
        velocities: FloatArray,
        masses: FloatArray,
        steps_left: int,
    ) -> None:
        self.index = index
        self.start = start
        self.positions = positions
        self.velocities = velocities
        self.masses = masses
        self.steps_left = steps_left

    def frame(self, frames: Sequence[Frame]) -> Frame:
        """Return the present structure of the chain, without labels."""
        start = frames[self.start]
        return replace(start, positions=self.positions, energy=np.nan, forces=np.full_like(self.positions, np.nan))

    def is_over(self, settings: ChainSettings) -> bool:
        """Return whether the chain reached its lifetime, or left the region in which dynamics is possible."""
        if self.steps_left <= 0 or not np.isfinite(self.positions).all():
            return True
        kinetic = 0.5 * float((self.masses[:, None] * self.velocities**2).sum()) / ACCELERATION
        return kinetic > HOTTEST * 1.5 * len(self.masses) * BOLTZMANN * settings.temperature

    def move(self, forces: FloatArray, settings: ChainSettings, random: np.random.Generator) -> None:
        """Advance the chain by one step: velocities by a whole step, then half a drift, noise, half a drift.

        Args:
            forces: Forces (N, 3) at the present positions, eV/angstrom.
            settings: Dynamics of the chain.
            random: Random numbers of this step.
        """
        kept = np.exp(-settings.friction * settings.timestep)
        thermal = _thermal_speed(self.masses, settings.temperature) * np.sqrt(1.0 - kept**2)
        velocities = self.velocities + settings.timestep * ACCELERATION * forces / self.masses[:, None]
        middle = self.positions + 0.5 * settings.timestep * velocities
        self.velocities = kept * velocities + thermal * random.standard_normal(velocities.shape)
        self.positions = middle + 0.5 * settings.timestep * self.velocities
        self.steps_left -= 1

    def state(self) -> dict[str, Tensor]:
        """Return the chain as tensors."""
        return {
            "index": torch.tensor(self.index),
            "start": torch.tensor(self.start),
            "positions": torch.from_numpy(self.positions),
            "velocities": torch.from_numpy(self.velocities),
            "masses": torch.from_numpy(self.masses),
            "steps_left": torch.tensor(self.steps_left),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Chain":
        """Return the chain of a stored state."""
        return cls(
            int(state["index"]),
            int(state["start"]),
            state["positions"].numpy(),
            state["velocities"].numpy(),
            state["masses"].numpy(),
            int(state["steps_left"]),
        )


def _masses(frame: Frame) -> FloatArray:
    masses: FloatArray = np.array(frame.atoms().get_masses(), dtype=np.float64)
    return masses


def _thermal_speed(masses: FloatArray, temperature: float) -> FloatArray:
    speeds: FloatArray = np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses)[:, None]
    return speeds


def _same_composition(frames: Sequence[Frame]) -> list[np.ndarray]:
    """Return, for each frame, the indices of the frames with the same elements, kind of cell and level of theory."""
    keys = [(tuple(sorted(map(int, frame.species))), tuple(frame.pbc), frame.level) for frame in frames]
    groups: dict[object, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    arrays = {key: np.array(indices) for key, indices in groups.items()}
    return [arrays[key] for key in keys]
