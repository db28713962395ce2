"""Agreement and speed of an imported foundation model beside the program that wrote it.

Energies and forces of molecules (and of cells, for MACE) are compared in both float types. Then calls for energy and
forces of one molecule, through the ASE calculators of both, take turns.

The original runs in an environment of its own, because it pins other versions of libraries:

    python -m venv ../so3lr && ../so3lr/bin/pip install so3krates-torch
    python benchmarks/foundation.py so3lr --python ../so3lr/bin/python
    python -m venv ../mace && ../mace/bin/pip install mace-torch
    python benchmarks/foundation.py mace --python ../mace/bin/python --model FILE.model
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from contestants import HERE, Contestant, Runner

import piwsl
from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.data.systems import SYSTEMS

LIMITS = {"energy": 1e-5, "force": 1e-4}  # eV/atom, eV/angstrom


def structures(symbols: list[str], cells: bool) -> list[Atoms]:
    """Return displaced molecules of some elements, aspirin first, and cells if asked for."""
    found = [SYSTEMS["aspirin"].structure] if set("HCO") <= set(symbols) else []
    names = ("H2O", "CH3CH2OH", "CH3CONH2", "CH3Cl", "CH3SH", "PH3", "CF4", "C6H6", "NH3", "CH4", "C60")
    found += [made for name in names if set((made := molecule(name)).get_chemical_symbols()) <= set(symbols)]
    if cells:
        for symbol in symbols:
            try:
                found.append(bulk(symbol, "fcc", a=4.2, cubic=True))
            except (ValueError, KeyError):
                continue
        if set("HO") <= set(symbols):
            water = molecule("H2O", cell=[4.0, 4.4, 5.0], pbc=True)
            found += [water, water * (2, 1, 1)]
    rng = np.random.default_rng(1)
    for atoms in found:
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        atoms.info.clear()
        atoms.calc = None
        for name in ("initial_magmoms", "initial_charges"):
            atoms.arrays.pop(name, None)
    return found


def ours(model: piwsl.TrainedModel, frames: list[Atoms], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    potential = model.potential(dtype=dtype)
    energies, forces = [], []
    for atoms in frames:
        batch = collate([Frame.from_atoms(atoms)], model.cutoff, getattr(torch, dtype))
        energy, force = potential(*batch.graph)
        energies.append(float(energy.detach()))
        forces.append(force.detach().double().numpy())
    return np.array(energies), np.concatenate(forces)


def agreement(model: piwsl.TrainedModel, frames: list[Atoms], original: dict[str, np.ndarray]) -> bool:
    sizes = np.array([len(atoms) for atoms in frames])
    passed = True
    for dtype in ("float64", "float32"):
        energies, forces = ours(model, frames, dtype)
        energy = np.abs((energies - original[f"{dtype}_energies"]) / sizes).max()
        # The original adds large energies of atoms in the type of its weights.
        rounding = np.abs((original["float64_energies"] - original[f"{dtype}_energies"]) / sizes).max()
        exact = np.abs((energies - original["float64_energies"]) / sizes).max()
        force = np.abs(forces - original[f"{dtype}_forces"]).max()
        largest = np.abs(original[f"{dtype}_forces"]).max()
        print(f"{dtype}  energy {energy:.1e} eV/atom  forces {force:.1e} eV/A (largest force {largest:.1f})")
        print(
            f"         energy against the original in float64 {exact:.1e}; the original itself {rounding:.1e} eV/atom"
        )
        passed = passed and min(energy, exact) < LIMITS["energy"] and force < LIMITS["force"]
    return passed


def speed(forms: dict[str, Path], atoms: Atoms, runner: Runner, rounds: int, calls: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("original", *forms)}
    bound = {}
    rng = np.random.default_rng(0)
    for name, path in forms.items():
        copy = atoms.copy()
        copy.calc = piwsl.PiwslCalculator(path)
        bound[name] = copy
    for _ in range(rounds):
        answer = runner.run(calls)
        times["original"].append((answer["cpu_seconds"] / calls, answer["seconds"] / calls))
        for name, copy in bound.items():
            start = start_cpu = 0.0
            for call in range(calls + 2):
                if call == 2:
                    start, start_cpu = time.perf_counter(), time.process_time()
                copy.positions += rng.normal(0.0, 1e-4, copy.positions.shape)
                copy.get_forces()
            spent = time.process_time() - start_cpu, time.perf_counter() - start
            times[name].append((spent[0] / calls, spent[1] / calls))
    # On a machine that does other work, CPU seconds are the fairer figure.
    medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in times.items()}  # noqa: B905
    for name, (cpu, seconds) in medians.items():
        ratio = medians["original"][0] / cpu
        print(f"{name:24} CPU {1e3 * cpu:7.2f} ms ({ratio:5.2f} times the original)  wall {1e3 * seconds:7.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["so3lr", "mace"])
    parser.add_argument("--python", required=True, help="Python of the environment of the original program")
    parser.add_argument("--model", help="file to import; for so3lr the weights of the installed package")
    parser.add_argument("--head")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of the timed calls")
    parser.add_argument("--compiled", action="store_true", help="time the compiled form, too (takes minutes)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.model or located(options.python)
        arguments = {"head": options.head} if options.head else {}
        imported = piwsl.import_model(source, folder / "model.pt", **arguments)
        print("\n".join(imported.lines()))
        model = piwsl.load_model(imported)
        frames = structures(list(imported.symbols), cells=options.kind == "mace")
        write(folder / "frames.xyz", frames, format="extxyz")
        command = [options.python, str(HERE / "foundation_original.py"), options.kind, str(folder / "frames.xyz")]
        command += [str(folder / "original.npz"), "--dtype", options.dtype]
        command += ["--model", str(options.model)] if options.model else []
        command += ["--head", options.head] if options.head else []
        counts = {"OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": ""}
        runner = Runner(Contestant("original", "", command, counts), options.threads)
        try:
            runner.wait()
            with np.load(folder / "original.npz") as original:
                print(f"{len(frames)} structures")
                passed = agreement(model, frames, dict(original))
            if options.rounds:
                forms = {"piwsl, TorchScript": folder / "model.ts.pt"}
                piwsl.export_model(imported, forms["piwsl, TorchScript"], dtype=options.dtype)
                if options.compiled:
                    forms["piwsl, compiled"] = folder / "model.pt2"
                    piwsl.export_model(imported, forms["piwsl, compiled"], format="aotinductor", dtype=options.dtype)
                speed(forms, frames[0], runner, options.rounds, options.calls)
        finally:
            runner.stop()
    sys.exit(0 if passed else 1)


def located(python: str) -> Path:
    """Return the weights in the environment of the original program, without importing it."""
    code = "from importlib.metadata import distribution as d; print(d('so3krates-torch').locate_file(''))"
    root = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=os.environ).stdout
    return Path(root.strip()) / "so3krates_torch/pretrained/so3lr/so3lr.model"


if __name__ == "__main__":
    main()
