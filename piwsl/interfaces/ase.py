"""The ASE calculator of an exported potential."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from piwsl.data.domain import check_domain
from piwsl.export.evaluation import BoundPotential, bind
from piwsl.export.loading import open_model
from piwsl.structures.cells import periodic_directions


class PiwslCalculator(Calculator):
    """ASE calculator of an exported or trained potential.

    A file of the target ``general`` takes any structure of its elements; a file of the target ``openmm`` takes only
    the molecule for which it was exported, with its atoms in the same order. A trained file is exported in memory.

    The results are ``energy`` and ``free_energy`` (both the potential energy, eV), ``forces`` (n, 3) in eV/angstrom
    and, for structures that are periodic along all directions, ``stress`` (6,) in eV/angstrom^3, in the order of Voigt
    and positive under tension. For an ensemble they are means over its members, and ``forces_std`` (n, 3) is the
    standard deviation of the forces, eV/angstrom.

    Args:
        model: exported file (``.pt``, ``.pt2``) or trained file (``model.pt``).
        device: ``cpu`` or ``cuda``, on which the potential runs.
        strict: refuse structures outside of the training data, which are otherwise warned of once.
        options: arguments of `ase.calculators.calculator.Calculator`.

    Raises:
        ModelFileError: the file cannot be used.

    Example:
        >>> from ase.io import read
        >>> atoms = read("aspirin.xyz")
        >>> atoms.calc = PiwslCalculator("aspirin.pt")
        >>> atoms.get_potential_energy(), atoms.get_forces().shape
    """

    implemented_properties = [  # noqa: RUF012  # as ASE declares it
        "energy",
        "free_energy",
        "forces",
        "stress",
        "forces_std",
    ]

    def __init__(self, model: str | Path, device: str = "cpu", strict: bool = False, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # ASE's
        self._model, self._device, self._strict = Path(model), device, strict
        self.potential = open_model(self._model, None, device=device)
        self.use_cache = False  # ASE's cache copies the Atoms at every step; `check_state` does without
        self._last: Atoms | None = None
        self._bound: BoundPotential | None = None

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return what has changed since the last calculation: exact, and 20 times faster than ASE's own comparison."""
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
        """Evaluate the potential and fill ``results``; called by ASE.

        Args:
            atoms: structure; None: the last one.
            properties: requested properties; all available ones are computed.
            system_changes: not used.

        Raises:
            ElementError: the potential was exported for other atoms, or not trained on an element.
            EngineError: the potential does not support this cell.
            DataError: ``strict`` is set, and the structure lies outside of the training data.
            PropertyNotImplementedError: stress of a structure that is not periodic along all directions, or of forces
                that are not derivatives of the energy; ``forces_std`` of a single model.
        """
        structure = atoms if atoms is not None else self.atoms
        assert isinstance(structure, Atoms)
        if self._bound is None or self._last is None or not _same_atoms(self._last, structure):
            check_domain(self.potential.domain, structure, self._model, self._strict)
            self._bound = bind(self.potential, structure.numbers, periodic_directions(structure))
            self._last = structure.copy()
        self._last.positions[:] = structure.positions
        self._last.cell.array[:] = structure.cell.array
        self.atoms = self._last
        result = self._bound(structure.positions, structure.cell.array if structure.pbc.any() else None)
        self.results = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces}
        if result.forces_std is not None:
            self.results["forces_std"] = result.forces_std
        if result.virial is not None and structure.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(-result.virial / structure.get_volume())
        for name in set(properties or ()) & {"stress", "forces_std"} - set(self.results):
            raise PropertyNotImplementedError(f"{name}: {self._why_missing(name, structure)}")

    def _why_missing(self, name: str, structure: Atoms) -> str:
        """Return why a property is not among the results."""
        if name == "forces_std":
            return f"{self._model} is a single model, not an ensemble"
        if not structure.pbc.all():
            return "the structure is not periodic along all directions"
        if not self.potential.has_stress:
            return f"the forces of {self._model} are not derivatives of its energy"
        return f"{self._model} was exported for a molecule: export with target='general'"


def _same_atoms(first: Atoms, second: Atoms) -> bool:
    """Return whether atomic numbers and periodic directions are equal."""
    return np.array_equal(first.numbers, second.numbers) and np.array_equal(first.pbc, second.pbc)
