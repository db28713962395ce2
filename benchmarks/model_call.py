"""What one call of an exported model of aspirin costs: beside its floor, and beside a step of OpenMM around it.

python benchmarks/model_call.py prints a table and a JSON line; about three minutes. PaiNN with 128 channels, 3 layers,
20 radial functions and a cutoff of 5 angstrom, float32, random weights, as TorchScript and compiled.

The floor is the time that the matrix products of the call would take at the rate of a large product (512 x 512 x 512),
measured in the same turns: a network of small products cannot reach it. The overhead of the engine is the time of a
step less that of the call inside it. All take turns of some calls in one process; times are medians, ratios and
differences medians of those within a turn.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import openmm
import torch
from race import processor, rounded
from random_model import random_model
from torch.utils.flop_counter import FlopCounterMode

from piwsl import openmm_force
from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.forms.graph import molecule_function, trace
from piwsl.export.trained_file import load_trained
from piwsl.interfaces.openmm.force import Kind
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.runs.process_settings import keep_freed_memory
from piwsl.units import NANOMETER

SIZE = 512  # of the product that gives the rate
CALLS = 25  # of a turn
FORMS: dict[str, tuple[str, Kind]] = {
    "TorchScript, TorchForce": ("openmm.pt", "torch"),
    "compiled, PythonForce": ("openmm.pt2", "python"),
}


def multiply_adds(model: Path, frame: Frame) -> float:
    """Of the matrix products in one call, energy and forces."""
    pairs = MoleculePairs(len(frame.species))
    first, second = pairs.pair_edges()
    vectors = torch.from_numpy(frame.positions).float()
    vectors = vectors[second] - vectors[first]
    graph = trace(
        molecule_function([load_trained(model).potential(pairs)], pairs, torch.from_numpy(frame.species)), [vectors]
    )
    with FlopCounterMode(display=False) as counter:
        graph(vectors)
    return counter.get_total_flops() / 2.0


def contestants(folder: Path) -> dict[str, Callable[[], object]]:
    """Write the files and return what is timed, by name."""
    structure = named_system("aspirin").structure
    frame = Frame.from_atoms(structure)
    random_model(folder / "model.pt", frame)
    exporter = Exporter([folder / "model.pt"])
    exporter.openmm(frame, folder / "openmm.pt")
    exporter.openmm(frame, folder / "openmm.pt2", "aotinductor")
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    out = torch.empty(SIZE, SIZE)
    found: dict[str, Callable[[], object]] = {"product": lambda: torch.mm(left, right, out=out)}
    nanometers = torch.from_numpy(structure.positions / NANOMETER)
    for name, (file, kind) in FORMS.items():
        potential = load_exported(folder / file)
        if kind == "torch":
            found[f"call {name}"] = partial(potential.program, nanometers)
        else:
            found[f"call {name}"] = partial(bind(potential), structure.positions)
        found[f"step {name}"] = step(structure.get_masses(), structure.positions, folder / file, kind)
    return found


def step(masses: np.ndarray, positions: np.ndarray, file: Path, kind: Kind) -> Callable[[], object]:
    """Return a function that makes a step of Langevin dynamics in OpenMM."""
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    system.addForce(openmm_force(file, named_system("aspirin").structure.numbers, kind))
    integrator = openmm.LangevinMiddleIntegrator(10, 5, 1e-4)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions / NANOMETER)

    def one(context: openmm.Context = context) -> None:  # which must not be collected
        integrator.step(1)

    return one


def turns(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of one call of each, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds):
        for name in random.Random(number).sample(list(timed), len(timed)):
            for _ in range(3):
                timed[name]()
            start = time.perf_counter()
            for _ in range(CALLS):
                timed[name]()
            seconds[name].append((time.perf_counter() - start) / CALLS)
    return {name: np.array(one) for name, one in seconds.items()}


def show(seconds: dict[str, np.ndarray], products: float) -> dict[str, dict[str, float]]:
    """Print the table."""
    rate = SIZE**3 / seconds["product"]
    print(f"multiply-adds {products / 1e6:.1f} million, rate {median(rate) / 1e9:.1f} thousand million a second")
    print(f"{'':26}call ms  fastest   floor ms   call / floor (1.5)   step ms   overhead ms (<= 0.1)")
    found = {}
    for name in FORMS:
        call, around = seconds[f"call {name}"], seconds[f"step {name}"]
        row = {
            "call_ms": 1e3 * median(call),
            "call_ms_min": 1e3 * min(call),
            "floor_ms": 1e3 * products / median(rate),
            "call_to_floor": median(call * rate / products),
            "step_ms": 1e3 * median(around),
            "overhead_ms": 1e3 * median(around - call),
        }
        found[name] = row
        print(
            f"{name:26}{row['call_ms']:7.3f}{row['call_ms_min']:9.3f}{row['floor_ms']:11.3f}{row['call_to_floor']:21.2f}"
            f"{row['step_ms']:10.3f}{row['overhead_ms']:23.3f}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="turns of each (100)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (1 2)")
    options = parser.parse_args()
    keep_freed_memory()
    results: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        timed = contestants(Path(folder))
        products = multiply_adds(Path(folder) / "model.pt", Frame.from_atoms(named_system("aspirin").structure))
        for threads in options.threads:
            torch.set_num_threads(threads)
            before = os.getloadavg()[0]
            turns(timed, 2)
            seconds = turns(timed, options.rounds)
            print(f"\n{threads} thread{'s' * (threads > 1)}; load before {before:.1f}, after {os.getloadavg()[0]:.1f}")
            results[f"threads_{threads}"] = show(seconds, products)
    print(json.dumps(rounded({"processor": processor(), "cpus": os.cpu_count(), **results})))


if __name__ == "__main__":
    main()
