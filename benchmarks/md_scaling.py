"""Time and peak memory of an MD step from 21 to 10 000 atoms: cost must be linear in atoms.

python benchmarks/md_scaling.py prints a table and a JSON line; about fifteen minutes. The structures are periodic
cells of titanium dioxide (rutile), about 100 atoms in a cubic nanometer, with thermal displacements; the network PaiNN
with 64 channels, 3 layers and a cutoff of 5 angstrom, float32, random weights. A step moves all atoms by about 0.01
angstrom at random and evaluates energy and forces, in a process of its own for each size and form:

TorchScript: the file for OpenMM, called as TorchForce calls it, neighbors searched inside at every step;
TorchScript, list with skin: the general file called from Python; compiled: the same, made with AOTInductor.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase import Atoms
from ase.spacegroup import crystal
from race import processor, rounded
from random_model import random_model
from step_server import peak_memory

from piwsl.data.frames import Frame
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.runs.process_settings import keep_freed_memory, keep_largest_blocks, use_huge_pages
from piwsl.units import NANOMETER

SIZES = (21, 100, 300, 1000, 3000, 10000)
FORMS = ("TorchScript", "TorchScript, list with skin", "compiled, list with skin")


def oxide(atoms: int) -> Atoms:
    """Return the first ``atoms`` of an almost cubic block of rutile, in a cell of its density."""
    unit = crystal(
        ("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    )
    side = (atoms * unit.get_volume() / len(unit)) ** (1 / 3)
    repeats = [max(1, round(side / length)) for length in unit.cell.lengths()]
    while len(unit) * np.prod(repeats) < atoms:
        repeats[int(np.argmin(repeats * unit.cell.lengths()))] += 1
    block = unit.repeat(repeats)
    block.rattle(0.05, seed=0)
    return block


def measure(file: Path, form: str, atoms: int, seconds: float) -> dict[str, float]:
    """Milliseconds of a step (median) and peak memory, in this process."""
    keep_freed_memory()
    if form.startswith("compiled"):
        keep_largest_blocks()
    block = oxide(atoms)
    potential = load_exported(file)
    before = peak_memory()
    generator = np.random.default_rng(0)
    positions, cell = block.positions.copy(), np.array(block.cell)
    if form == "TorchScript":
        box = torch.from_numpy(cell / NANOMETER)

        def evaluate() -> None:
            potential.program(torch.from_numpy(positions / NANOMETER), box)
    else:
        bound = bind(potential, block.numbers, (True, True, True))

        def evaluate() -> None:
            bound(positions, cell)

    times: list[float] = []
    while len(times) < 8 or (sum(times) < seconds and len(times) < 1000):
        positions += generator.normal(scale=0.01, size=positions.shape)
        positions += 0.2 * (block.positions - positions)
        start = time.perf_counter()
        evaluate()
        times.append(time.perf_counter() - start)
    return {"atoms": len(block), "ms": 1e3 * median(times[3:]), "peak_mb": peak_memory(), "start_mb": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="atoms, at least")
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps, of each size and form (10)")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    parser.add_argument("--measure", nargs=3, metavar=("FILE", "FORM", "ATOMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        file, form, atoms = options.measure
        print(json.dumps(measure(Path(file), form, int(atoms), options.seconds)))
        return
    use_huge_pages()  # in the processes that this one starts, as `piwsl md` has them
    results: dict[str, object] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        random_model(folder / "model.pt", Frame.from_atoms(oxide(6)), channels=64)
        exporter = Exporter([folder / "model.pt"])
        exporter.general(folder / "general.pt")
        exporter.general(folder / "general.pt2", "aotinductor")
        print(f"{options.threads} thread(s)\n{'':32}atoms   ms/step   us/step/atom   peak MB   (at start)   KB/atom")
        for form in FORMS:
            rows = []
            for size in options.sizes:
                file = folder / ("general.pt2" if form.startswith("compiled") else "general.pt")
                if form == "TorchScript":
                    file = folder / f"openmm-{size}.pt"
                    exporter.openmm(Frame.from_atoms(oxide(size)), file)
                command = [sys.executable, __file__, "--threads", str(options.threads)]
                command += ["--seconds", str(options.seconds), "--measure", str(file), form, str(size)]
                counts = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
                said = subprocess.run(command, env=os.environ | counts, capture_output=True, text=True, check=True)
                row = json.loads(said.stdout)
                rows.append(row)
                atoms, used = row["atoms"], row["peak_mb"] - row["start_mb"]
                print(
                    f"{form:32}{atoms:5}{row['ms']:10.2f}{1e3 * row['ms'] / atoms:15.1f}{row['peak_mb']:10.0f}"
                    f"{row['start_mb']:13.0f}{1e3 * used / atoms:10.0f}",
                    flush=True,
                )
            results[form] = rows
    print(json.dumps(rounded({"processor": processor(), "threads": options.threads, **results})))


if __name__ == "__main__":
    main()
