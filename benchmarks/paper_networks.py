"""The networks of the paper from one configuration: trained with PITC and PISC, exported, and run in OpenMM.

PIWSL_DATA=FOLDER python benchmarks/paper_networks.py --minutes 1 --picoseconds 10 --output runs/paper-networks

For each network, with conservative and with direct forces where it has them, the script trains on aspirin (rMD17), on
cells (TiO2) and on molecules of different sizes (GFN2-xTB, labeled here), with the same configuration except
``model.network`` and ``model.forces``. It exports each model, checks the exported file against the trained one, and
runs the model of aspirin in OpenMM. The trainings are too short for good potentials: a run that a stop rule ends is
reported with its time. Repeat the command to continue.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule

import piwsl
from piwsl.data.read import read_frames
from piwsl.errors import UnphysicalError
from piwsl.runs.summary import SUMMARY_FILE, MDSummary
from piwsl.training.directory import TrainingSummary

NETWORKS = ("painn", "schnet", "spinconv", "escn", "equiformer_v2")
WITHOUT_FORCE_HEAD = ("schnet",)
MOLECULES = ("H2O", "NH3", "CH4", "CH3OH", "CH3CH2OH", "C2H6", "C2H4", "HCN", "H2CO", "C6H6", "CH3NO2", "C5H5N")
COPIES = 20
CONFIGURATION: dict[str, Any] = {
    "loss.preset": "plain",
    "loss.pitc": 1.0,
    "loss.pisc": 0.01,
    "optimizer.steps": 1_000_000,
    "optimizer.batch_size": 5,
    "optimizer.validation_interval": 50,
    "data.validation": 20,
}


def frames_of(name: str, output: Path) -> piwsl.FrameSet:
    """Return a training set."""
    data = Path(os.environ.get("PIWSL_DATA", "."))
    random = np.random.default_rng(0)
    if name == "mixed":
        structures: list[Atoms] = []
        for made in (molecule(formula) for formula in MOLECULES for _ in range(COPIES)):
            made.positions += random.normal(scale=0.06, size=made.positions.shape)
            structures.append(made)
        return piwsl.label(structures, "gfn2-xtb", output=output / "mixed", progress=False)
    file, units, count = ("rmd17_aspirin.npz", "kcal/mol", 220) if name == "aspirin" else ("tio2.extxyz.gz", None, 220)
    frames = read_frames(data / file, units)
    return piwsl.FrameSet([frames[int(place)] for place in sorted(random.permutation(len(frames))[:count])])


def trained(network: str, forces: str, name: str, frames: piwsl.FrameSet, options: argparse.Namespace) -> Path:
    """Return the trained file of a case, which is made unless it is there."""
    directory: Path = options.output / f"{network}-{forces}-{name}"
    if not (directory / SUMMARY_FILE).exists():
        choice = {"model.network": network, "model.forces": forces, "optimizer.minutes": options.minutes}
        piwsl.train(frames, output=directory, options=CONFIGURATION | choice, force=True, progress=False)
    return directory / "model.pt"


def dynamics(structure: Atoms, model: Path, output: Path, picoseconds: float) -> MDSummary:
    """Run aspirin in OpenMM, or continue after an interruption."""
    steps = round(2000 * picoseconds)
    if not (output / SUMMARY_FILE).exists() or MDSummary.read(output).result == "interrupted":
        try:
            piwsl.run_md(
                structure,
                model,
                output=output,
                engine="openmm",
                restart=(output / SUMMARY_FILE).exists(),
                steps=steps,
                trajectory_interval=200,
                seed=1,
                progress=False,
            )
        except UnphysicalError as error:
            print(f"{output.name}: {error}", flush=True)
    return MDSummary.read(output)


def row(network: str, forces: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a case."""
    frames = frames_of(name, options.output)
    model = trained(network, forces, name, frames, options)
    frames = frames.select(range(20))
    errors = piwsl.evaluate(model, frames, progress=False).errors
    exported = model.with_name("exported.pt")
    made = {"network": network, "forces": forces, "data": name, "steps": TrainingSummary.read(model.parent).steps}
    made |= {"energy_mae": errors.energy_mae, "force_mae": errors.force_mae}
    choice: dict[str, Any] = {"target": "openmm", "structure": frames[0].atoms()} if name == "aspirin" else {}
    if not exported.exists():
        accept = name == "aspirin" and network == "spinconv"  # its forces jump
        piwsl.export_model(model, exported, **choice, accept_limitation=accept)
    same = piwsl.evaluate(exported, frames, progress=False).errors
    made["exported_force_mae"] = same.force_mae
    if name == "aspirin" and options.picoseconds:
        run = dynamics(frames[0].atoms(), exported, model.with_name("md"), options.picoseconds)
        made |= {"result": run.result, "steps_done": run.steps_done, "steps_per_second": run.speed.steps_per_second}
    return made


def main() -> None:
    """Print a line for each case, and JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--data", nargs="+", choices=("aspirin", "tio2", "mixed"), default=["aspirin", "tio2", "mixed"])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=Path("runs/paper-networks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for network in options.networks:
        for forces in ("conservative",) if network in WITHOUT_FORCE_HEAD else ("conservative", "direct"):
            for name in options.data:
                rows.append(row(network, forces, name, options))
                print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
