"""Replay: frames that the start model labels itself, mixed into the batches of a fine-tuning run.

They hold the new model to the start model where the labels say nothing, for instance at short distances. The labels are
computed before the first step, with the reference energies of the run, and are stored in the run directory. Validation
never uses them.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_masses, chemical_symbols

from piwsl.compat.torch import torch_bytes
from piwsl.data.batch import collate
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import structure_warnings
from piwsl.data.lazy import JoinedFrames
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, ElementError, RunDirectoryError
from piwsl.export.trained_file import DTYPES
from piwsl.losses.predictions import predict
from piwsl.models import Potential
from piwsl.runs.files import write_bytes
from piwsl.training.checkpoints import read_tensors
from piwsl.training.config import StartConfig, TrainingConfig
from piwsl.training.start import start_file
from piwsl.typing import FloatArray, IntArray
from piwsl.units import ACCELERATION, BOLTZMANN

LOGGER = logging.getLogger(__name__)

TIMESTEP = 0.5  # fs
FRICTION = 0.01  # 1/fs
STEPS_APART = 50  # steps between two frames of a trajectory
FRAMES_EACH = 4  # frames of a trajectory
LARGEST_FORCE = 100.0  # eV/angstrom; a trajectory with larger forces ends
_BATCH = 50
_STARTS, _NOISE = 5, 6  # random streams; 1 to 4 belong to the split, the orders of frames, and hidden forces


def replay_count(config: TrainingConfig) -> int:
    """Return the number of replay frames in a batch; 0 without replay.

    Raises:
        ConfigError: A batch would contain no replay frame, or nothing else.
    """
    start, size = config.start, config.optimizer.batch_size
    if start.replay is None:
        return 0
    count = math.floor(start.replay_share * size + 0.5)
    if not 0 < count < size:
        raise ConfigError(
            f"start.replay_share: {start.replay_share:g} of optimizer.batch_size = {size} is {count} frames: choose a "
            "share or a batch size with at least one frame of both kinds"
        )
    return count


def given_structures(config: TrainingConfig, most: int | None = None) -> FrameSet | None:
    """Return the structures of the file for replay, without labels; None if the run makes its own or uses no replay.

    If the file contains more structures than the run uses, or than ``most``, some of them are chosen at random.

    Raises:
        DataError: The file cannot be read.
        ElementError: A structure contains an element that the start model lacks.
    """
    source = config.start.replay
    if not isinstance(source, str):
        return None
    frames = read_frames(source, config.data.units)
    for text in structure_warnings(frames):
        LOGGER.warning(f"start.replay: {text}")
    known = _known_elements(config.start)
    unknown = sorted(set(frames.elements) - known)
    if unknown:
        raise ElementError(
            f"start.replay: {source} contains {_symbols(unknown)}, but {config.start.init_from} was not trained on it: "
            "remove these structures"
        )
    used = min(most or len(frames), replay_count(config) * config.optimizer.steps)
    if len(frames) > used:
        frames = frames.select(sorted(_random(config.seed, _STARTS).permutation(len(frames))[:used]))
    return FrameSet([frame.without_labels() for frame in frames], frames.source)


def replay_frames(
    config: TrainingConfig,
    given: FrameSet | None,
    train: FrameSet,
    potential: Potential,
    device: torch.device,
    most: int | None = None,
) -> FrameSet:
    """Return the replay frames of a run with the energies and forces of the start model.

    Args:
        config: Training configuration.
        given: Structures of the file, see `given_structures`. With None, they are made by short dynamics.
        train: Training frames of the main level, at which the dynamics starts.
        potential: Potential before training.
        device: Device for the evaluation.
        most: Largest number of frames to make, for a trial.

    Raises:
        ConfigError: No structure for dynamics consists of known elements, or the dynamics fails at once.
    """
    potential.to(device)
    try:
        model = _Model(potential, config.model.cutoff, DTYPES[config.weights_dtype], device)
        if given is not None:
            return FrameSet(list(model.labeled(given)), given.source)
        return FrameSet(_made(config, train, model, most))
    finally:
        potential.to("cpu")


@dataclass(frozen=True)
class _Model:
    """Start model, which labels structures."""

    potential: Potential
    cutoff: float
    dtype: torch.dtype
    device: torch.device

    def energies_and_forces(self, frames: Sequence[Frame]) -> tuple[FloatArray, FloatArray]:
        """Return energies (S,) in eV and forces (N, 3) in eV/angstrom."""
        batch = collate(frames, self.cutoff, self.dtype).to(self.device)
        prediction = predict(self.potential, batch, create_graph=False)
        return prediction.energies.detach().cpu().numpy(), prediction.forces.detach().cpu().double().numpy()

    def labeled(self, frames: FrameSet) -> Iterator[Frame]:
        """Yield frames with the labels of the model."""
        for begin in range(0, len(frames), _BATCH):
            some = frames[begin : begin + _BATCH]
            yield from _with_labels(some, *self.energies_and_forces(some))


def _made(config: TrainingConfig, train: FrameSet, model: _Model, most: int | None) -> list[Frame]:
    """Return frames of short Langevin dynamics with the start model, from training structures."""
    number = config.start.replay
    assert isinstance(number, int)
    number = min(number, most or number)
    known = _known_elements(config.start)
    census = train.census
    unknown = census.compositions[:, ~np.isin(census.numbers, sorted(known))].sum(1)
    usable = np.flatnonzero(unknown[census.composition] == 0)
    if not len(usable):
        raise ConfigError(
            f"start.replay: every training structure contains an element that {config.start.init_from} was not trained "
            "on: set start.replay to a file of structures"
        )
    trajectories = -(-number // FRAMES_EACH)
    order = _random(config.seed, _STARTS).permutation(len(usable))
    starts = usable[np.resize(order, trajectories)]
    made: list[Frame] = []
    for begin in range(0, trajectories, _BATCH):
        frames = [train[int(index)].without_labels() for index in starts[begin : begin + _BATCH]]
        made += _dynamics(frames, model, config.start.replay_temperature, _random(config.seed, _NOISE, begin))
    if not made:
        raise ConfigError(
            f"start.replay: dynamics with {config.start.init_from} at {config.start.replay_temperature:g} K became "
            "unphysical at once: lower start.replay_temperature, or set start.replay to a file of structures"
        )
    return made[:number]


def _dynamics(frames: list[Frame], model: _Model, temperature: float, random: np.random.Generator) -> list[Frame]:
    """Return frames of Langevin dynamics (BAOAB, Leimkuhler and Matthews 2013), ordered by time.

    A trajectory ends before its forces become unphysical.
    """
    sizes = [len(frame.species) for frame in frames]
    owner = np.repeat(np.arange(len(frames)), sizes)
    masses = atomic_masses[np.concatenate([frame.species for frame in frames])][:, None]
    thermal = np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses)  # angstrom/fs
    velocities = thermal * random.standard_normal((len(owner), 3))
    decay = math.exp(-FRICTION * TIMESTEP)
    alive = np.ones(len(frames), dtype=bool)
    energies, forces = model.energies_and_forces(frames)
    alive &= _physical(energies, forces, owner)
    made: list[Frame] = []
    for step in range(1, STEPS_APART * FRAMES_EACH + 1):
        moving = alive[owner][:, None]
        velocities += np.where(moving, 0.5 * TIMESTEP * ACCELERATION * forces / masses, 0.0)
        noise = math.sqrt(1.0 - decay**2) * thermal * random.standard_normal(velocities.shape)
        moves = 0.5 * TIMESTEP * velocities
        velocities = decay * velocities + noise
        moves = np.where(moving, moves + 0.5 * TIMESTEP * velocities, 0.0)
        parts = np.split(moves, np.cumsum(sizes)[:-1])
        moved = [replace(frame, positions=frame.positions + part) for frame, part in zip(frames, parts, strict=True)]
        energies, forces = model.energies_and_forces(moved)
        alive &= _physical(energies, forces, owner)
        # A trajectory that ended stays at its last physical structure.
        frames = [new if lives else old for new, old, lives in zip(moved, frames, alive, strict=True)]
        forces = np.where(alive[owner][:, None], forces, 0.0)
        velocities += np.where(alive[owner][:, None], 0.5 * TIMESTEP * ACCELERATION * forces / masses, 0.0)
        if step % STEPS_APART == 0:
            labeled = _with_labels(moved, energies, forces)
            made += [frame for frame, lives in zip(labeled, alive, strict=True) if lives]
        if not alive.any():
            break
    return made


def _physical(energies: FloatArray, forces: FloatArray, owner: IntArray) -> np.ndarray:
    """Return whether the energy of each structure is finite and its forces are not too large (S,)."""
    fine: np.ndarray = np.isfinite(energies)
    with np.errstate(invalid="ignore"):
        fine[np.unique(owner[~(np.abs(forces).max(1) <= LARGEST_FORCE)])] = False
    return fine


def _with_labels(frames: Sequence[Frame], energies: FloatArray, forces: FloatArray) -> list[Frame]:
    parts = np.split(forces, np.cumsum([len(frame.species) for frame in frames])[:-1])
    return [
        replace(frame, energy=float(energy), forces=part)
        for frame, energy, part in zip(frames, energies, parts, strict=True)
    ]


def _known_elements(start: StartConfig) -> set[int]:
    assert start.init_from is not None
    return set(start_file(start.init_from)[0].elements)


def _random(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)


def replay_line(config: TrainingConfig, replay: FrameSet | None) -> str:
    """Return a line about the replay frames of a run; None before they are made."""
    start = config.start
    source = f"from {start.replay}"
    count = f"{len(replay)} frames" if replay is not None else "frames"
    if isinstance(start.replay, int):
        source = f"by dynamics of the start model at {start.replay_temperature:g} K"
        if replay is None:
            count = f"{start.replay} frames"
        elif len(replay) < start.replay:
            source += f" ({start.replay} requested; unphysical trajectories ended early)"
    in_batch = f"{replay_count(config)} of {config.optimizer.batch_size} structures in each batch"
    return f"replay: {count} {source}, {in_batch}"


def with_replay(train: FrameSet, replay: FrameSet | None) -> FrameSet:
    """Return the training frames, followed by the replay frames if there are any."""
    return train if replay is None else FrameSet(JoinedFrames([train, replay]), train.source)


def write_replay(frames: FrameSet, path: Path) -> None:
    """Write labeled replay frames to a file atomically, without loss of precision."""
    content = [
        {
            "species": torch.as_tensor(frame.species),
            "positions": torch.as_tensor(frame.positions),
            "energy": frame.energy,
            "forces": torch.as_tensor(frame.forces),
            "cell": torch.as_tensor(frame.cell),
            "pbc": list(frame.pbc),
        }
        for frame in frames
    ]
    write_bytes(path, torch_bytes(content))


def stored_replay(path: Path) -> FrameSet | None:
    """Read the replay frames of an earlier session of a run; None if it ended before they were written.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    if not path.exists():
        return None
    content = read_tensors(path)
    try:
        frames = [
            Frame(
                species=entry["species"].numpy(),
                positions=entry["positions"].numpy(),
                energy=float(entry["energy"]),
                forces=entry["forces"].numpy(),
                cell=entry["cell"].numpy(),
                pbc=tuple(entry["pbc"]),
            )
            for entry in content
        ]
    except Exception:  # Other contents raise many kinds of errors.
        raise RunDirectoryError(
            f"{path}: the file is damaged, so the run cannot be resumed: start a new run with another output"
        ) from None
    return FrameSet(frames)
