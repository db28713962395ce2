"""ASE calculator for exported and trained potentials."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from piwsl.data.charges import NO_CHARGE, ChargeSpin, charge_of, given_charge, lacks_charge, with_charge
from piwsl.data.domain import CLOSER, check_domain
from piwsl.errors import ConfigError, public
from piwsl.export.evaluation import BoundPotential, bind, check_given_charge
from piwsl.export.exported_file import load_exported
from piwsl.export.loading import model_files, open_ensemble, open_model
from piwsl.runs.scratch import scratch_directory
from piwsl.structures.cells import periodic_directions
from piwsl.structures.close_pairs import ClosePairs
from piwsl.structures.files import check_finite, check_reach

LOGGER = logging.getLogger(__name__)


class PiwslCalculator(Calculator):
    """ASE calculator for an exported or trained potential.

    A file with the target ``general`` accepts any structure with the elements of the model. A file with the target
    ``openmm`` accepts only the molecule for which it was exported, with the atoms in the same order. A trained file is
    exported in memory.

    The results are ``energy`` and ``free_energy`` (both the potential energy, eV), ``forces`` (n, 3) in eV/angstrom
    and, for structures that are periodic along all directions, ``stress`` (6,) in eV/angstrom^3, in Voigt order and
    positive under tension. For an ensemble, these results are means over the members, and ``forces_std`` (n, 3) and
    ``energy_std`` are the standard deviations of the forces, eV/angstrom, and of the energy, eV.

    Copies (``copy``, ``deepcopy``) share the loaded potential. A pickle contains the content of the model file, and the
    potential is loaded again when the pickle is read.

    For a network that takes charge and spin as input, they are the arguments of the calculator, or the values that
    ``atoms.info`` states (``charge``, ``unpaired_electrons``, ``multiplicity`` or ``spin``, see `piwsl.data.charges`),
    or the defaults of the model.

    Args:
        model: Exported file (``.pt``, ``.pt2``), trained file (``model.pt``), or directory of a training run. The
            directory of an ensemble or several trained files are evaluated as an ensemble.
        device: Device on which the potential runs: ``cpu`` or ``cuda``.
        strict: Refuse structures outside the training data instead of logging one warning. The distances of every
            structure are compared.
        charge: Total charge of all structures, e. It takes precedence over ``atoms.info``.
        unpaired_electrons: Number of unpaired electrons of all structures, likewise.
        options: Arguments of `ase.calculators.calculator.Calculator`, such as ``label``.

    Raises:
        ModelFileError: The model file cannot be used.
        ConfigError: A charge or spin was passed, but the network ignores them; or an option is unknown.

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
        "energy_std",
    ]

    @public
    def __init__(
        self,
        model: str | PathLike[str] | Sequence[str | PathLike[str]],
        device: str = "cpu",
        strict: bool = False,
        charge: int | None = None,
        unpaired_electrons: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # ASE's
        files = model_files(model)
        self._model = Path(model if isinstance(model, str | PathLike) else ",".join(map(str, model)))
        self._device, self._strict = device, strict
        if len(files) == 1:
            self.potential = open_model(files[0], None, device=device)
        else:
            self.potential = open_ensemble(files, self._model, device)
        self._given = given_charge(charge, unpaired_electrons)
        check_given_charge(self.potential, self._given)
        self._stated = NO_CHARGE  # of the last structure
        self.use_cache = False  # the ASE cache copies the Atoms at every step; `check_state` avoids the copy
        self._last: Atoms | None = None
        self._bound: BoundPotential | None = None
        self._close: ClosePairs | None = None

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Refuse parameters, which ASE would store and this calculator would not use.

        Raises:
            ConfigError: There are parameters.
        """
        if parameters:
            raise ConfigError(
                f"PiwslCalculator has no parameter {', '.join(parameters)}: pass model, device, strict, charge and "
                "unpaired_electrons when you create it"
            )
        return {}

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return what has changed since the last calculation.

        The comparison is exact (``tol`` is ignored) and 20 times faster than the ASE implementation.
        """
        last = self.atoms
        if last is None or not _same_atoms(last, atoms) or self._stated_by(atoms) != self._stated:
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
            atoms: Structure to evaluate; None: the structure of the last calculation.
            properties: Requested properties; all available properties are computed.
            system_changes: Not used.

        Raises:
            DataError: A position or the cell is not finite, the cell is flat or too small for its atoms, or the stated
                charge cannot be used. With ``strict``, also if the structure lies outside the training data.
            ElementError: The potential was exported for other atoms, or was not trained on an element of the structure.
            EngineError: The potential does not support this cell.
            PropertyNotImplementedError: ``stress`` was requested for a structure that is not periodic along all
                directions, or for forces that are not derivatives of the energy; or ``forces_std`` or ``energy_std``
                was requested for a single model.
        """
        structure = atoms if atoms is not None else self.atoms
        assert isinstance(structure, Atoms)
        check_finite(structure)
        self._check_reach(structure)
        stated = self._stated_by(structure)
        if (
            self._bound is None
            or self._last is None
            or not _same_atoms(self._last, structure)
            or stated != self._stated
        ):
            self._check_domain(with_charge(structure, stated))
            if self.potential.takes_charge and lacks_charge(structure.arrays, stated):
                LOGGER.warning(
                    f"the structure has initial charges with a sum of {structure.get_initial_charges().sum():+g} e, "
                    "which are not read: state the total charge as atoms.info['charge'] or charge="
                )
            self._close = self._close_pairs(structure)
            self._bound = bind(self.potential, structure.numbers, periodic_directions(structure), stated)
            self._last, self._stated = structure.copy(), stated
        elif self._close is not None:
            # The whole comparison takes a millisecond, so later structures of the same atoms are compared if two atoms
            # are closer than in training.
            found = self._close(structure.positions, structure.cell.array if structure.pbc.any() else None)
            if found is not None:
                self._check_domain(with_charge(structure, stated))
                self._close.leave_out(*found[:2])  # the warning is logged once
        self._last.positions[:] = structure.positions
        self._last.cell.array[:] = structure.cell.array
        self.atoms = self._last
        result = self._bound(structure.positions, structure.cell.array if structure.pbc.any() else None)
        self.results = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces}
        if result.forces_std is not None:
            self.results["forces_std"] = result.forces_std
            self.results["energy_std"] = result.energy_std
        if result.virial is not None and structure.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(-result.virial / structure.get_volume())
        for name in set(properties or ()) & {"stress", "forces_std", "energy_std"} - set(self.results):
            raise PropertyNotImplementedError(f"{name}: {self._why_missing(name, structure)}")

    def __copy__(self) -> "PiwslCalculator":
        """Return a calculator that shares the loaded potential and has separate results."""
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> "PiwslCalculator":
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied  # ASE stores methods of the calculator among its attributes
        copied.__dict__.update({name: deepcopy(value, memo) for name, value in self._own().items()})
        copied.potential, copied._bound, copied._close = self.potential, None, None
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the content of the model file instead of the loaded potential."""
        return {**self._own(), "content": self.potential.content, "name": self.potential.path.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        content, name = state.pop("content"), state.pop("name")
        self.__dict__.update(state, _bound=None, _close=None)
        with scratch_directory("ase") as folder:
            path = folder / name
            path.write_bytes(content)
            self.potential = replace(load_exported(path, self._device), path=self._model)

    def _own(self) -> dict[str, Any]:
        """Return all attributes except the loaded potential and what belongs to the last atoms."""
        return {name: value for name, value in self.__dict__.items() if name not in ("potential", "_bound", "_close")}

    def _check_domain(self, structure: Atoms) -> None:
        """Compare a structure, which states its charge, with the training data of the model."""
        check_domain(self.potential.domain, structure, self._model, self._strict, copies=self.potential.copies)

    def _close_pairs(self, structure: Atoms) -> ClosePairs | None:
        """Return the search for pairs that are closer than in training; None without a training domain."""
        domain = self.potential.domain
        if domain is None:
            return None
        limits = CLOSER * domain.limits()
        return ClosePairs(structure.numbers, periodic_directions(structure), limits, self.potential.copies)

    def _check_reach(self, structure: Atoms) -> None:
        """Refuse positions and cells that are unreasonably large."""
        check_reach(structure)

    def _stated_by(self, structure: Atoms) -> ChargeSpin:
        """Return the charge and spin of a structure that were passed as arguments or are stated in its ``info``."""
        return self._given.over(charge_of(structure)) if structure.info else self._given

    def _why_missing(self, name: str, structure: Atoms) -> str:
        """Return the reason why a property is missing from the results."""
        if name in ("forces_std", "energy_std"):
            return f"{self._model} is a single model: use an exported ensemble"
        if not structure.pbc.all():
            return "the structure is not periodic along all directions"
        if not self.potential.has_stress:
            return f"the forces of {self._model} are not derivatives of its energy: train with conservative forces"
        return f"{self._model} was exported for a molecule: export with target='general'"


def _same_atoms(first: Atoms, second: Atoms) -> bool:
    """Return whether atomic numbers and periodic directions are equal."""
    return np.array_equal(first.numbers, second.numbers) and np.array_equal(first.pbc, second.pbc)
