"""Exported files on the device beside the eager model on the CPU, at several displaced structures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from random_model import random_model

from gpu_check_parts.common import Settings, aspirin, exported, frame, oxide
from gpu_check_parts.report import Report
from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.evaluation import BoundPotential, Evaluation, bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter, Format
from piwsl.export.trained_file import DTYPES, load_trained
from piwsl.export.verify import eager

CASES = (("aspirin", "openmm"), ("aspirin", "general"), ("cell", "general"))
ENERGY, FORCE = 2e-6, 1e-4  # eV/atom and eV/angstrom, those of the verification of float32 exports
Eager = Callable[[Frame], Evaluation]


@dataclass(frozen=True)
class Case:
    """A structure with its model.

    Attributes:
        name: Name for the rows.
        atoms: Structure.
        model: Trained file.
    """

    name: str
    atoms: Atoms
    model: Path

    def reference(self) -> Eager:
        """Return the eager model on the CPU."""
        trained = load_trained(self.model)
        return eager([trained.potential()], trained.config.cutoff, DTYPES[trained.dtype])

    def file(self, settings: Settings, target: str, form: Format, device: str) -> Path:
        """Return an exported file, which the first call makes."""

        def make(exporter: Exporter, path: Path) -> None:
            if target == "general":
                exporter.general(path, form)
            else:
                exporter.openmm(frame(self.atoms), path, form)

        suffix = "pt" if form == "torchscript" else "pt2"
        return exported(settings, f"{self.name}-{target}-{device}.{suffix}", make, self.model, device)


def molecule() -> Case:
    """Return aspirin with the bundled model."""
    return Case("aspirin", aspirin(), named_system("aspirin").model)


def cell(settings: Settings) -> Case:
    """Return a periodic cell with a random model."""
    model = settings.folder / "oxide.pt"
    if not model.exists():
        random_model(model, frame(oxide(6)), channels=16 if settings.small else 64)
    return Case("cell", oxide(48), model)


def run(report: Report, settings: Settings) -> None:
    for made_on in sorted({"cpu", settings.device}):
        for name, target in CASES[: 1 if settings.small else None]:
            title = f"{name}, TorchScript, {target}, made on {made_on}"
            report.attempt(title, check, report, settings, title, name, target, "torchscript", made_on)


def check(report: Report, settings: Settings, title: str, name: str, target: str, form: Format, made_on: str) -> None:
    """Add the differences of a file."""
    case = molecule() if name == "aspirin" else cell(settings)
    compare(report, title, case.file(settings, target, form, made_on), settings, case.atoms, case.reference())


def compare(
    report: Report, title: str, file: Path, settings: Settings, atoms: Atoms, reference: Eager, count: int = 5
) -> None:
    """Add the largest differences at some displaced positions, each evaluated twice."""
    potential = load_exported(file, settings.device)
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    bound = bind(potential, atoms.numbers, pbc)
    energies, forces = [], []
    for place in displaced(atoms, count):
        expected, result = reference(place), evaluated(bound, place)
        energies.append(abs(result.energy - expected.energy) / len(atoms))
        forces.append(float(np.abs(result.forces - expected.forces).max()))
    report.check(f"{title}, energy", float(np.max(energies)), ENERGY, "eV/atom")
    report.check(f"{title}, forces", float(np.max(forces)), FORCE, "eV/A")


def evaluated(bound: BoundPotential, place: Frame) -> Evaluation:
    """Return the second result for a structure."""
    cell = place.cell if any(place.pbc) else None
    bound(place.positions, cell)
    return bound(place.positions, cell)


def displaced(atoms: Atoms, count: int) -> list[Frame]:
    """Return a structure and copies with random displacements."""
    generator, first = np.random.default_rng(0), frame(atoms)
    shape = first.positions.shape
    return [replace(first, positions=first.positions + generator.normal(0.0, 0.03 * k, shape)) for k in range(count)]
