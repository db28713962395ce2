"""How good the bundled aspirin model is: errors, a 50 ps run at 500 K, h(r), and energy conservation.

python benchmarks/bundled_model.py [OUTPUT] prints a table and a JSON line; about fifteen minutes.
"""

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from piwsl import PiwslCalculator
from piwsl.analysis import analyze
from piwsl.data.read import read_frames
from piwsl.data.systems import named_system
from piwsl.export.exported_file import load_exported
from piwsl.export.trained_file import load_trained
from piwsl.interfaces.openmm.force import torch_force
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_protocol
from piwsl.training.evaluate import evaluate_potential
from piwsl.units import KJ_PER_MOL, NANOMETER

ASPIRIN = named_system("aspirin")


def errors() -> dict[str, float]:
    model = load_trained(ASPIRIN.model)
    found = evaluate_potential(model.potential(), read_frames(ASPIRIN.test), model.config.cutoff, torch.float32)
    return {
        "energy MAE [meV]": 1e3 * (found.energy_mae or np.nan),
        "force MAE [meV/A]": 1e3 * (found.force_mae or np.nan),
        "force RMSE [meV/A]": 1e3 * (found.force_rmse or np.nan),
    }


def torchforce_against_ase() -> dict[str, float]:
    """Largest difference of forces inside OpenMM (TorchForce) and in ASE, over ten test frames."""
    import openmm

    system = openmm.System()
    for mass in ASPIRIN.structure.get_masses():
        system.addParticle(mass)
    system.addForce(torch_force(load_exported(ASPIRIN.exported)))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.0005), platform)
    worst = 0.0
    for frame in read_frames(ASPIRIN.test).frames[::100]:
        context.setPositions(frame.positions / NANOMETER)
        inside = context.getState(forces=True).getForces(asNumpy=True)._value * (KJ_PER_MOL / NANOMETER)
        atoms = frame.atoms()
        atoms.calc = PiwslCalculator(ASPIRIN.exported)
        worst = max(worst, float(np.abs(inside - atoms.get_forces()).max()))
    return {"TorchForce - ASE, largest [eV/A]": worst}


def canonical(output: Path) -> dict[str, object]:
    protocol = MDProtocol.of(steps=100_000, temperature=500, seed=1)
    run = run_protocol(ASPIRIN.structure, ASPIRIN.exported, protocol, output, name="aspirin", force=True)
    (comparison,) = analyze(output, output=output / "analysis").comparisons
    difference = comparison["h_of_r"].all_pairs.difference
    return {
        "NVT 500 K: result": run.summary.result,
        "NVT: force": run.summary.force,
        "NVT: stable time [ps]": comparison.stable_time.value / 1000,
        "NVT: wall time [min]": run.summary.wall_seconds / 60,
        "NVT: steps/s": run.summary.speed.steps_per_second,
        "h(r) error": difference.measured.value,
        "h(r) error of noise alone": difference.threshold,
    }


def constant_energy(output: Path) -> dict[str, object]:
    protocol = MDProtocol.of(steps=20_000, temperature=300, ensemble="nve", seed=1)
    run_protocol(ASPIRIN.structure, ASPIRIN.exported, protocol, output, name="aspirin", force=True)
    drift = analyze(output).comparisons[0]["energy_drift"]
    return {f"NVE drift in 10 ps [{drift.per_10_ps.unit}]": drift.per_10_ps.value}


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(mkdtemp())
    figures: dict[str, object] = {}
    for part in (
        errors,
        torchforce_against_ase,
        lambda: canonical(output / "nvt"),
        lambda: constant_energy(output / "nve"),
    ):
        found = part()
        figures.update(found)
        for name, value in found.items():
            print(f"{name:36}{value:.4g}" if isinstance(value, float) else f"{name:36}{value}", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
