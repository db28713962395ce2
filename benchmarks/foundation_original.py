"""The original program's side of foundation.py; runs in the environment of that program.

Evaluates structures in both float types, writes the results, and then answers requests for timed calls.
"""

import argparse
import contextlib
import os
import sys
import warnings

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read
from step_server import serve


def calculator(kind: str, model: str, dtype: str, head: str | None) -> Calculator:
    if kind == "so3lr":
        from so3krates_torch.calculator.so3 import SO3LRCalculator

        return SO3LRCalculator(default_dtype=dtype, **({"model_paths": model} if model else {}))
    from mace.calculators import MACECalculator

    return MACECalculator(model_paths=model, default_dtype=dtype, device="cpu", **({"head": head} if head else {}))


def results(made: Calculator, frames: list[Atoms]) -> dict[str, np.ndarray]:
    energies, forces = [], []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = made
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return {"energies": np.array(energies), "forces": np.concatenate(forces)}


def main() -> None:
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # the files of these programs are whole pickled modules
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["so3lr", "mace"])
    parser.add_argument("structures", help="extxyz")
    parser.add_argument("output", help="npz")
    parser.add_argument("--model", default="")
    parser.add_argument("--head")
    parser.add_argument("--timed", type=int, default=0, help="index of the structure of the timed calls")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    frames = read(options.structures, ":")
    written = {}
    with contextlib.redirect_stdout(sys.stderr):  # answers alone go to the output
        for dtype in ("float32", "float64"):
            made = calculator(options.kind, options.model, dtype, options.head)
            written |= {f"{dtype}_{name}": values for name, values in results(made, frames).items()}
        atoms = frames[options.timed].copy()
        atoms.calc = calculator(options.kind, options.model, options.dtype, options.head)
    np.savez(options.output, **written)
    rng = np.random.default_rng(0)

    def step(_: int) -> float:
        atoms.positions += rng.normal(0.0, 1e-4, atoms.positions.shape)
        forces = atoms.get_forces()
        return float(np.abs(forces).max())

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    serve(step, {})


if __name__ == "__main__":
    main()
