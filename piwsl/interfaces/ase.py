"""The ASE calculator of an exported potential."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from piwsl.export.evaluation import BoundPotential, bind
from piwsl.export.loading import open_model
from piwsl.structures.cells import periodic_directions


class PiwslCalculator(Calculator):
    """Energy (eV), forces (eV/angstrom) and stress (eV/angstrom^3) of an exported potential, for ASE.

    The ``general`` form takes any structure of its elements; the ``openmm`` form only the molecule it was
    exported for, its atoms in the same order. Of an ensemble the results are means, and
    ``results["forces_std"]`` (n, 3) is the standard deviation of the forces over its members.

    Args:
        model: exported file, or a trained one, which is exported on the way.
        device: where the module runs, ``cpu`` or ``cuda``.

    Raises:
        ModelFileError: the file cannot be used.
    """

    implemented_properties = [  # noqa: RUF012  # as ASE declares it
        "energy",
        "free_energy",
        "forces",
        "stress",
        "forces_std",
    ]

    def __init__(self, model: str | Path, device: str = "cpu", **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # ASE's
        self._model, self._device = Path(model), device
        self.potential = open_model(self._model, None, device=device)
        self.use_cache = False  # ASE's cache copies the Atoms at every step; `check_state` does without
        self._last: Atoms | None = None
        self._bound: BoundPotential | None = None

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What changed since the last calculation; exact, and twenty times faster than ASE's own comparison."""
        last = self.atoms
        if last is None or not _same_atoms(last, atoms):
            return list(all_changes)
        changes = [] if np.array_equal(last.positions, atoms.positions) else ["positions"]
        return changes if np.array_equal(last.cell.array, atoms.cell.array) else [*changes, "cell"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises:
            ElementError: the potential was not made for these atoms.
            EngineError: it was not made for such a cell.
            PropertyNotImplementedError: stress of a structure without volume, or of forces that are no derivatives.
        """
        structure = atoms if atoms is not None else self.atoms
        assert isinstance(structure, Atoms)
        if self._bound is None or self._last is None or not _same_atoms(self._last, structure):
            self._bound = bind(self.potential, structure.numbers, periodic_directions(structure))
            self._last = structure.copy()
        self._last.positions[:] = structure.positions
        self._last.cell.array[:] = structure.cell.array
        self.atoms = self._last
        found = self._bound(structure.positions, structure.cell.array if structure.pbc.any() else None)
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.forces_std is not None:
            self.results["forces_std"] = found.forces_std
        if found.virial is not None and structure.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(-found.virial / structure.get_volume())
        for name in set(properties or ()) & {"stress", "forces_std"} - set(self.results):
            raise PropertyNotImplementedError(f"{name}: {self._why_not(name, structure)}")

    def _why_not(self, name: str, structure: Atoms) -> str:
        if name == "forces_std":
            return f"{self._model} is a single model, not an ensemble"
        if not structure.pbc.all():
            return "the structure is not periodic along all directions"
        if not self.potential.has_stress:
            return f"the forces of {self._model} are not derivatives of its energy"
        return f"{self._model} was made for a molecule: export with --target general"


def _same_atoms(first: Atoms, second: Atoms) -> bool:
    return np.array_equal(first.numbers, second.numbers) and np.array_equal(first.pbc, second.pbc)
