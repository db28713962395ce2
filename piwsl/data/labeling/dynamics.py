"""Reference dynamics: Langevin trajectories with a quantum-chemical method and labeled frames.

A trajectory is computed in chunks. Each finished chunk is saved to a file with its frames and its final state, so that
an interrupted job resumes from the last chunk. The calculator starts each chunk without a wavefunction; a resumed
trajectory is therefore identical to an uninterrupted trajectory. (Labels for given structures:
`piwsl.data.labeling.structures`.)
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from piwsl.data.charges import charge_of
from piwsl.data.formats.npz import SPREADS
from piwsl.data.labeling.calculators import labels_from, model_hash, options_for, reference_calculator
from piwsl.data.labeling.plan import LABELING, PLAN_FILE, is_begun
from piwsl.data.labeling.single_point import Spread, gives_forces
from piwsl.data.structure_file import load_structure
from piwsl.errors import ConfigError, DataError, reason_of
from piwsl.runs.directory import RunDirectory
from piwsl.runs.executors import Executor, LocalProcesses
from piwsl.runs.files import atomic_path, read_checked_npz, write_checked_npz, write_npz, write_text, writing
from piwsl.runs.json_text import json_text
from piwsl.structures.constraints import fixed_atoms
from piwsl.structures.files import columns_of
from piwsl.typing import BoolArray
from piwsl.units import ASE_TIME, BOLTZMANN


@dataclass(frozen=True)
class SamplingPlan:
    """All parameters that determine the data. Equal plans give equal data."""

    method: str = "gfn2-xtb"
    trajectories: int = 4
    steps: int = 50_000  # per trajectory, after equilibration
    equilibration_steps: int = 4_000
    frame_interval: int = 100  # steps between labeled frames
    position_interval: int = 40  # steps between frames of the positions-only trajectory
    chunk_steps: int = 2_000
    temperature: float = 500.0  # K
    timestep: float = 0.5  # fs
    friction: float = 0.01  # 1/fs
    force_tolerance: float = 0.005  # eV/angstrom, for the initial minimization
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # calculator options by name

    def __post_init__(self) -> None:
        for name in ("trajectories", "steps", "frame_interval", "position_interval", "chunk_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("frame_interval", "position_interval"):
            if self.chunk_steps % getattr(self, name):
                raise ConfigError(f"{name} must divide chunk_steps ({self.chunk_steps})")
        for name in ("steps", "equilibration_steps"):
            if getattr(self, name) % self.chunk_steps:
                raise ConfigError(f"{name} must be a multiple of chunk_steps ({self.chunk_steps})")

    @property
    def chunks(self) -> int:
        """Number of chunks of one trajectory, including equilibration."""
        return (self.equilibration_steps + self.steps) // self.chunk_steps


START_FILE = "minimized.xyz"
FRAMES_FILE = "frames.npz"
TRAJECTORY_FILE = "trajectory.npz"


def minimize(structure: Atoms, method: str, force_tolerance: float, options: Mapping[str, Any] | None = None) -> Atoms:
    """Minimize a structure with a reference method, and return it centered and without a calculator.

    Raises:
        ConfigError: The method gives no forces, or the minimization does not converge.
    """
    atoms = structure.copy()
    atoms.calc = reference_calculator(method, options_for(method, options or {}, charge_of(atoms)))
    if not gives_forces(atoms.calc):
        raise ConfigError(f"{method} gives energies without forces, but dynamics needs forces: label given structures")
    if not BFGS(atoms, logfile=None).run(fmax=force_tolerance, steps=1000):
        raise ConfigError("the minimization did not converge in 1000 steps: start from a better structure")
    relaxed: Atoms = atoms.copy()
    relaxed.positions -= relaxed.get_center_of_mass()
    return relaxed


def sample_and_label(
    structure: Atoms,
    plan: SamplingPlan,
    output: Path,
    where: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run or resume the reference dynamics of a plan, and collect the frames.

    Args:
        structure: Initial structure; it is minimized first.
        plan: Plan of the trajectories.
        output: Directory of the job. If it contains the same plan, the job is resumed.
        where: Executor whose processes compute one trajectory each; by default one local process. Cluster workers must
            see the directory under the same path.
        progress: Function called with (finished chunks, total chunks).

    Returns:
        Path of the directory, which contains ``frames.npz`` (labeled frames) and ``trajectory.npz`` (positions).

    Raises:
        RunDirectoryError: The directory contains another plan, or was started from another structure.
        DataError: The structure is periodic or has constraints other than fixed atoms, or a process that computed a
            trajectory died.
    """
    if structure.pbc.any():
        raise DataError(
            f"structure: {FRAMES_FILE} has no cell, so that only molecules can be sampled: run the dynamics of a "
            "periodic structure with a model or another program, and label its frames"
        )
    fixed = fixed_atoms(structure)
    output = output.resolve()
    directory = RunDirectory(output, LABELING)
    of_structure = {"structure": _digest(structure, fixed)}
    stored = {**asdict(plan), **of_structure, **model_hash(plan.method)}
    defaults = {**asdict(SamplingPlan()), **of_structure}
    begun = is_begun(directory, stored, defaults)
    total = plan.trajectories * plan.chunks

    def count() -> None:
        if progress:
            progress(len(list(output.glob("trajectory-*/chunk-*.npz"))), total)

    directory.create()
    with directory.lock():
        begun = begun or is_begun(directory, stored, defaults)  # another process may have begun a job in the meantime
        if not begun or not (output / START_FILE).exists():
            relaxed = minimize(structure, plan.method, plan.force_tolerance, plan.options)
            write_text(output / PLAN_FILE, json_text(stored, indent=1))  # from here on, the directory holds a job
            with writing(output / START_FILE), atomic_path(output / START_FILE) as temporary:
                write(temporary, relaxed, format="extxyz", columns=columns_of(relaxed))
        tasks = ((plan, output, index) for index in range(plan.trajectories))
        try:
            for outcome in (where or LocalProcesses()).run(_run_trajectory, tasks, count):
                if outcome.died is not None:
                    raise DataError(
                        f"trajectory {outcome.index}: {outcome.died}; its finished chunks are kept: run the job again"
                    )
        finally:
            directory.sweep()  # a process that was ended may have left a temporary file
        if progress:
            progress(total, total)
        _collect(plan, output)
    return output


def _digest(structure: Atoms, fixed: BoolArray) -> str:
    """Return a hash of everything in a structure that determines the dynamics."""
    digest = hashlib.sha256(str(charge_of(structure)).encode())
    for values, kind in ((structure.numbers, "<i8"), (structure.positions, "<f8"), (structure.get_masses(), "<f8")):
        digest.update(np.asarray(values, dtype=kind).tobytes())
    digest.update(fixed.tobytes())
    return digest.hexdigest()


def _chunk_file(output: Path, trajectory: int, chunk: int) -> Path:
    return output / f"trajectory-{trajectory:02d}" / f"chunk-{chunk:04d}.npz"


def _run_trajectory(plan: SamplingPlan, output: Path, trajectory: int) -> None:
    if not (output / START_FILE).is_file():
        raise ConfigError(
            f"{output} is not accessible to the worker that computes a trajectory: use a shared directory"
        )
    atoms = load_structure(output / START_FILE)
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, trajectory]))
    first = 0
    while _chunk_file(output, trajectory, first).exists():
        first += 1
    if first == 0:
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(BOLTZMANN * plan.temperature * masses))
    else:
        state = _read_chunk(output, trajectory, first - 1)
        atoms.positions = state["end_positions"]
        atoms.set_velocities(state["end_velocities"])
        rng.bit_generator.state = json.loads(str(state["end_random"]))
    for chunk in range(first, plan.chunks):
        arrays = _run_chunk(atoms, plan, rng)
        write_checked_npz(_chunk_file(output, trajectory, chunk), arrays)


def _read_chunk(output: Path, trajectory: int, chunk: int) -> dict[str, Any]:
    path = _chunk_file(output, trajectory, chunk)
    try:
        return read_checked_npz(path)
    except ValueError as error:
        raise DataError(
            f"{path}: damaged ({reason_of(error)}): remove it, and run the job again, which computes this chunk and "
            "the later chunks of the trajectory again"
        ) from None


def _run_chunk(atoms: Atoms, plan: SamplingPlan, rng: np.random.Generator) -> dict[str, Any]:
    atoms.calc = reference_calculator(plan.method, options_for(plan.method, plan.options, charge_of(atoms)))
    dynamics = Langevin(
        atoms,
        timestep=plan.timestep / ASE_TIME,
        temperature_K=plan.temperature,
        friction=plan.friction * ASE_TIME,
        fixcm=False,
        rng=rng,
    )
    positions, energies, forces, trajectory = [], [], [], []
    spreads: list[Spread | None] = []
    for step in range(1, plan.chunk_steps + 1):
        dynamics.run(1)
        if step % plan.frame_interval == 0:
            positions.append(atoms.get_positions())
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces(apply_constraint=False))  # labels of fixed atoms are not zero
            spreads.append(Spread.of(atoms.calc))
        if step % plan.position_interval == 0:
            trajectory.append(atoms.get_positions())
    known = [spread for spread in spreads if spread is not None]
    stored = {}
    if len(known) == len(spreads):
        stored["energy_spread"] = np.array([spread.energy for spread in known])
        stored["force_spread"] = np.array([spread.forces for spread in known])
    return {
        **stored,
        "positions": np.array(positions),
        "energy": np.array(energies),
        "forces": np.array(forces),
        "trajectory": np.array(trajectory, dtype=np.float32),
        "end_positions": atoms.get_positions(),
        "end_velocities": atoms.get_velocities(),
        "end_random": json_text(rng.bit_generator.state),
    }


def _collect(plan: SamplingPlan, output: Path) -> None:
    """Combine the chunks after equilibration into a file with labels and a file with positions."""
    first = plan.equilibration_steps // plan.chunk_steps
    chunks = [
        _read_chunk(output, trajectory, chunk)
        for trajectory in range(plan.trajectories)
        for chunk in range(first, plan.chunks)
    ]

    def joined(key: str) -> Any:
        return np.concatenate([chunk[key] for chunk in chunks])

    start = load_structure(output / START_FILE)
    origin = labels_from(plan.method)
    write_npz(
        output / FRAMES_FILE,
        nuclear_charges=start.numbers,
        coords=joined("positions").astype(np.float32),
        energies=joined("energy"),
        forces=joined("forces").astype(np.float32),
        **{key: joined(key) for key in SPREADS if all(key in chunk for chunk in chunks)},
        **{name: np.array(value) for name, value in charge_of(start).info().items()},
        trajectory=np.repeat(np.arange(plan.trajectories), plan.steps // plan.frame_interval),
        units=np.array("eV, angstrom"),
        **({"labels_from": np.array(origin)} if origin else {}),
    )
    write_npz(
        output / TRAJECTORY_FILE,
        nuclear_charges=start.numbers,
        coords=joined("trajectory"),
        timestep=np.array(plan.timestep * plan.position_interval),
    )
