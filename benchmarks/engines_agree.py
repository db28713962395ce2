"""One trained model through every way to run it: the largest differences from the eager model.

python benchmarks/engines_agree.py MODEL FRAMES exports a trained file in each form, takes frames from a data file of
its elements and prints, for each way, the largest difference of energy (wanted: 1e-5 eV) and of a component of a force
(1e-4 eV/angstrom), and for cells that of the stress of the ASE calculator from central differences of the energy.
Periodic frames are turned, as OpenMM wants its box. TorchForce and the molecule forms have species baked in, so files
are made for each sequence of species that occurs: name frames of one molecule, or be patient.
"""

import argparse
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openmm
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_stress
from openmm import app, unit
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from piwsl import PiwslCalculator, openmm_force
from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.data.read import read_frames
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter, Format
from piwsl.export.trained_file import load_trained
from piwsl.interfaces.openmm.force import Kind
from piwsl.units import KJ_PER_MOL, NANOMETER

Said = tuple[float, np.ndarray]
STRAIN = 1e-5  # float64; float32 sees nothing below 1e-3


def turned(atoms: Atoms) -> Atoms:
    """Return the same structure with its cell in the reduced form of OpenMM."""
    if not atoms.pbc.any():
        return atoms
    cell, rotation = atoms.cell.standard_form()
    reduced = reducePeriodicBoxVectors([openmm.Vec3(*row) for row in cell.array] * unit.angstrom)
    found = Atoms(atoms.numbers, atoms.positions @ rotation.T, pbc=True)
    found.cell = np.array(reduced.value_in_unit(unit.angstrom))
    return found


def topology_of(atoms: Atoms) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for number in atoms.numbers:
        topology.addAtom("X", app.Element.getByAtomicNumber(int(number)), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array / NANOMETER * unit.nanometer)
    return topology


def in_openmm(atoms: Atoms, system: openmm.System) -> Said:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    if atoms.pbc.any():
        context.setPeriodicBoxVectors(*(atoms.cell.array / NANOMETER))
    context.setPositions(atoms.positions / NANOMETER)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True)._value * KJ_PER_MOL / NANOMETER
    return state.getPotentialEnergy()._value * KJ_PER_MOL, forces


def forced(atoms: Atoms, file: Path, kind: Kind) -> Said:
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(openmm_force(file, topology_of(atoms), kind))
    return in_openmm(atoms, system)


def through_openmm_ml(atoms: Atoms, file: Path) -> Said:
    from openmmml import MLPotential

    return in_openmm(atoms, MLPotential("piwsl", modelPath=str(file)).createSystem(topology_of(atoms)))


def through_ase(atoms: Atoms, file: Path) -> Said:
    copy = atoms.copy()
    copy.calc = PiwslCalculator(file)
    return copy.get_potential_energy(), copy.get_forces()


def direct(atoms: Atoms, file: Path) -> Said:
    pbc = (True, True, True) if atoms.pbc.any() else (False, False, False)
    found = bind(load_exported(file), atoms.numbers, pbc)(atoms.positions, atoms.cell.array)
    return found.energy, found.forces


class Ways:
    """Every way to run a model, by name; files are made when a structure first needs them."""

    def __init__(self, model: Path, dtype: str | None, folder: Path, compiled: bool) -> None:
        self.exporter, self.folder, self.compiled = Exporter([model], dtype), folder, compiled
        self.exporter.general(folder / "general.pt")
        if compiled:
            self.exporter.general(folder / "general.pt2", "aotinductor")

    def file(self, atoms: Atoms, suffix: str) -> Path:
        """Return the file that was exported for the species of a structure."""
        path = self.folder / f"{hash((tuple(atoms.numbers), bool(atoms.pbc.any())))}{suffix}"
        if not path.exists():
            form: Format = "aotinductor" if suffix == ".pt2" else "torchscript"
            self.exporter.openmm(Frame.from_atoms(atoms), path, form)
        return path

    def of(self, atoms: Atoms) -> Iterator[tuple[str, Callable[[], Said]]]:
        """Name and call of each way."""
        general, package, baked = self.folder / "general.pt", self.folder / "general.pt2", self.file(atoms, ".pt")
        yield "TorchScript, general", lambda: direct(atoms, general)
        yield "TorchScript, openmm", lambda: direct(atoms, baked)
        yield "ASE calculator", lambda: through_ase(atoms, general)
        yield "OpenMM TorchForce", lambda: forced(atoms, baked, "torch")
        yield "OpenMM PythonForce, general", lambda: forced(atoms, general, "python")
        yield "OpenMM PythonForce, openmm", lambda: forced(atoms, baked, "python")
        yield "openmm-ml", lambda: through_openmm_ml(atoms, baked)
        if self.compiled:
            yield "AOTInductor, general", lambda: direct(atoms, package)
            yield "OpenMM PythonForce, AOTInductor", lambda: forced(atoms, package, "python")
            if not atoms.pbc.any():
                molecule = self.file(atoms, ".pt2")
                yield "AOTInductor, openmm", lambda: direct(atoms, molecule)
                yield "ASE calculator, AOTInductor", lambda: through_ase(atoms, molecule)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="trained file")
    parser.add_argument("frames", type=Path, help="data file")
    parser.add_argument("--count", type=int, default=100, help="frames, drawn at random (100)")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="float type of the files (that of the model)")
    parser.add_argument("--without-compiled", action="store_true", help="leave AOTInductor out")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    trained = load_trained(options.model)
    dtype = options.dtype or trained.dtype
    potential = trained.potential(dtype=dtype)
    frames = read_frames(options.frames)
    worst: dict[str, list[float]] = {}
    stress = 0.0
    with TemporaryDirectory() as folder:
        ways = Ways(options.model, dtype, Path(folder), not options.without_compiled)
        for index in sorted(random.Random(0).sample(range(len(frames)), options.count)):
            atoms = turned(frames[index].atoms())
            batch = collate([Frame.from_atoms(atoms)], trained.config.cutoff, getattr(torch, dtype))
            energies, forces = potential(*batch.graph)
            expected = forces.detach().numpy()
            for name, call in ways.of(atoms):
                energy, found = call()
                differences = abs(energy - energies.item()), float(np.abs(found - expected).max())
                worst[name] = list(np.maximum(worst.get(name, [0.0, 0.0]), differences))
            if atoms.pbc.all():
                atoms.calc = PiwslCalculator(ways.folder / "general.pt")
                numerical = calculate_numerical_stress(atoms, eps=STRAIN)
                stress = max(stress, float(np.abs(atoms.get_stress() - numerical).max()))
    print(f"{options.count} frames of {options.frames.name}, {dtype}\n{'':34}energy, eV   forces, eV/A")
    for name, (energy, force) in worst.items():
        print(f"{name:34}{energy:10.1e}{force:15.1e}")
    if stress:
        print(f"stress against finite strain: {stress:.1e} eV/A^3")


if __name__ == "__main__":
    main()
