"""Run directories written by hand, for the tests of the analysis, its report and its command."""

import json
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import chemical_symbols

from piwsl.units import BOLTZMANN, NANOMETER

ETHANOL = molecule("CH3CH2OH")


def correlated(frames: int, columns: int, memory: float, seed: int) -> np.ndarray:
    """(frames, columns) of AR(1) noise: unit variance, correlation memory**lag."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(frames, columns))
    for frame in range(1, frames):
        values[frame] = memory * values[frame - 1] + np.sqrt(1 - memory**2) * values[frame]
    return values


def shaking(frames: int, seed: int, atoms: Atoms = ETHANOL, amplitude: float = 0.03, memory: float = 0.5) -> np.ndarray:
    """Positions (frames, atoms, 3) of a molecule that shakes, turns and drifts."""
    noise = correlated(frames, 3 * len(atoms), memory, seed).reshape(frames, len(atoms), 3)
    positions = atoms.positions + amplitude * noise
    random = np.random.default_rng([seed, 1])
    turns = np.linalg.qr(random.normal(size=(frames, 3, 3)))[0]
    return positions @ turns + np.cumsum(random.normal(size=(frames, 1, 3)), axis=0)


def topology_of(numbers: np.ndarray) -> mdtraj.Topology:
    topology = mdtraj.Topology()
    residue = topology.add_residue("UNL", topology.add_chain())
    for index, number in enumerate(numbers):
        symbol = chemical_symbols[number]
        topology.add_atom(f"{symbol}{index}", mdtraj.element.get_by_symbol(symbol), residue)
    return topology


def write_trajectory(
    path: Path, positions: np.ndarray, numbers: np.ndarray = ETHANOL.numbers, cells: np.ndarray | None = None
) -> mdtraj.Trajectory:
    """In the format of the suffix."""
    trajectory = mdtraj.Trajectory(np.asarray(positions, dtype=np.float32) / NANOMETER, topology_of(numbers))
    if cells is not None:
        trajectory.unitcell_vectors = np.asarray(cells, dtype=np.float32) / NANOMETER
    trajectory.save(str(path))
    return trajectory


def thermal_rows(rows: int, atoms: int, temperature: float, seed: int) -> np.ndarray:
    """potential, kinetic, total (eV), temperature (K) of a thermostatted molecule."""
    noise = correlated(rows, 2, 0.7, seed)
    kelvin = temperature * (1 + np.sqrt(2 / (3 * atoms)) * noise[:, 0])
    kinetic = 1.5 * atoms * BOLTZMANN * kelvin
    potential = -100 + kinetic.mean() * (1 + 0.1 * noise[:, 1])
    return np.stack([potential, kinetic, potential + kinetic, kelvin], axis=1)


def write_run(
    directory: Path,
    positions: np.ndarray,
    numbers: np.ndarray = ETHANOL.numbers,
    thermo: np.ndarray | None = None,
    suffix: str = ".dcd",
    interval: int = 100,
    timestep: float = 0.5,
    cells: np.ndarray | None = None,
    **changes: Any,
) -> Path:
    """A run directory as `piwsl md` leaves it; ``changes`` replace entries of its summary."""
    directory.mkdir(parents=True)
    trajectory = write_trajectory(directory / f"trajectory{suffix}", positions, numbers, cells)
    trajectory[0].save_pdb(str(directory / "topology.pdb"))
    if thermo is None:
        thermo = thermal_rows(len(positions), len(numbers), 500.0, seed=7)
    lines = ["step,time [ps],potential [eV],kinetic [eV],total [eV],temperature [K]"]
    for step, row in zip(interval * np.arange(1, len(thermo) + 1), thermo, strict=True):
        lines.append(f"{step},{step * timestep / 1000:.6g}," + ",".join(f"{value:.8f}" for value in row))
    (directory / "thermo.csv").write_text("\n".join(lines) + "\n")
    steps = interval * len(positions)
    summary = {
        "piwsl_version": "0.1.0",
        "versions": {"python": "3.11.2", "torch": "2.12.1", "openmm": "8.6.1", "ase": "3.29.0", "numpy": None},
        "command": "piwsl md --system ethanol --steps 1000",
        "started": "2026-11-22T12:00:00+00:00",
        "finished": "2026-11-22T12:01:00+00:00",
        "wall_seconds": 60.0,
        "system": {"name": "ethanol", "formula": "C2H6O", "species": [int(number) for number in numbers]},
        "model": {"path": "model.pt", "sha256": "0123456789abcdef" * 4, "info": {}},
        "engine": "openmm",
        "force": "TorchForce",
        "force_reason": "it works here",
        "platform": "Reference",
        "ensemble": "nvt",
        "temperature_K": 500.0,
        "timestep_fs": timestep,
        "steps_requested": steps,
        "steps_done": steps,
        "trajectory_interval": interval,
        "seed": 3,
        "speed": {"steps_per_second": 250.0, "ns_per_day": 10.8},
        "outputs": {"trajectory": f"trajectory{suffix}", "thermo": "thermo.csv"},
        "result": "completed",
        "stop": None,
    }
    (directory / "summary.json").write_text(json.dumps(summary | changes))
    return directory


def write_replica_summary(directory: Path, names: list[str]) -> None:
    """Write the summary of a directory of replicas, whose own directories have these names."""
    state = {"result": "completed", "steps_done": 1}
    replicas = [{"directory": name, "seed": seed, **state} for seed, name in enumerate(names)]
    summary = {
        "system": {"name": "ethanol"},
        "ensemble": "nvt",
        "temperature_K": 500.0,
        "timestep_fs": 0.5,
        "steps_requested": 1,
        "steps_done": 1,
        "trajectory_interval": 1,
        "result": "completed",
        "replicas": replicas,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "summary.json").write_text(json.dumps(summary))
