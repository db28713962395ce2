"""Direct calls of an exported potential, either form, in eV and angstrom."""

from pathlib import Path

import torch

from piwsl.errors import EngineError
from piwsl.export.exported import ExportedPotential, load_exported
from piwsl.md.structure import check_species
from piwsl.typing import FloatArray, IntArray
from piwsl.units import KJ_PER_MOL, NANOMETER

# Up to here a step is many small operations, and waking a second thread costs more than it brings.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Let torch use one thread for a small molecule; larger ones keep its default."""
    if n_atoms <= SINGLE_THREAD_ATOMS:
        torch.set_num_threads(1)


class Evaluator:
    """Energy and forces of an exported potential at given positions.

    Args:
        potential: a loaded file; the ``openmm`` form fixes the species, the ``general`` form takes any.
        device: where the module was loaded.
    """

    def __init__(self, potential: ExportedPotential, device: str = "cpu") -> None:
        self.potential = potential
        self.device = device

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Evaluator":
        """Read an exported file; raises ModelFileError where it cannot be used."""
        return cls(load_exported(path, device), device)

    def check(self, species: IntArray, periodic: bool) -> None:
        """Refuse what the file was not made for.

        Raises:
            EngineError: a periodic structure for the ``openmm`` form, which knows no cell.
            ElementError: other species.
        """
        if self.potential.form == "openmm":
            if periodic:
                raise EngineError(f"{self.potential.path}: made for a molecule, the structure is periodic")
            check_species(species, self.potential.species, str(self.potential.path))

    def __call__(
        self, species: IntArray, positions: FloatArray, cell: FloatArray | None = None
    ) -> tuple[float, FloatArray]:
        """Energy in eV and forces (n, 3) in eV/angstrom.

        Args:
            species: atomic numbers (n,).
            positions: (n, 3) angstrom.
            cell: lattice vectors (3, 3) in angstrom of a periodic structure; ``general`` form only.
        """
        coordinates = torch.tensor(positions, dtype=torch.float64, device=self.device)
        if self.potential.form == "openmm":
            energy, forces = self.potential.module(coordinates / NANOMETER)
            energy_unit, force_unit = KJ_PER_MOL, KJ_PER_MOL / NANOMETER
        else:
            numbers = torch.as_tensor(species, dtype=torch.int64, device=self.device)
            box = None if cell is None else torch.tensor(cell, dtype=torch.float64, device=self.device)
            energy, forces = self.potential.module(numbers, coordinates, box)
            energy_unit = force_unit = 1.0
        array = forces.detach().to("cpu", torch.float64).numpy() * force_unit
        return float(energy.detach()) * energy_unit, array
