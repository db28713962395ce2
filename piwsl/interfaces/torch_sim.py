"""Model for torch-sim, which simulates many structures as one batch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor

from piwsl.data.charges import ChargeSpin, given_charge, stated_charge, with_charge
from piwsl.data.domain import CLOSER, check_domain
from piwsl.errors import ElementError, EngineError, MissingDependencyError
from piwsl.export.evaluation import check_given_charge
from piwsl.export.exported_file import read_exported_info
from piwsl.export.loading import is_trained, open_model
from piwsl.export.neighbors.batch import Batch, BatchNeighbors
from piwsl.export.supported import check_molecule

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise MissingDependencyError("torch-sim (Python 3.12 or newer)", "PiwslModel", "torch-sim") from error


class PiwslModel(ModelInterface):  # type: ignore[misc]  # optional library
    """torch-sim model that returns energies, forces and stresses from a potential, for molecules, cells and slabs.

    Args:
        model: TorchScript file with the target ``general``, or a trained file, which is exported in memory.
        device: Device of the states and the potential: ``cpu`` or ``cuda``.
        dtype: Floating-point type of states and results. The network keeps the type with which it was exported. With
            float32, the total energies of large structures lose their last digits.
        compute_stress: Whether to compute stresses, which requires structures that are periodic along all directions.
        strict: Refuse structures outside the training data instead of logging one warning. The distances are compared
            at every call.
        charge: Total charge of the systems, e, for networks that take it; None selects the default of the model. A
            ``charge`` other than 0 in the state takes precedence.
        unpaired_electrons: Number of unpaired electrons of the systems, likewise. A ``spin`` other than 0 in the state
            takes precedence, see `piwsl.data.charges`.

    Raises:
        ModelFileError: The model file cannot be used.
        ConfigError: A charge or spin was passed, but the network ignores them.
        EngineError: The file has another target or format, or ``compute_stress`` is set for a potential without stress.
    """

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        compute_stress: bool = False,
        strict: bool = False,
        charge: int | None = None,
        unpaired_electrons: int | None = None,
    ) -> None:
        super().__init__()
        if not is_trained(Path(model)):
            _check_form(Path(model))
        self._potential = open_model(Path(model), None, device=str(device))
        if compute_stress and not self._potential.has_stress:
            raise EngineError(
                f"{model}: no stress is available, because the forces are not derivatives of the energy: train with "
                "conservative forces, or use compute_stress=False"
            )
        self._given = given_charge(charge, unpaired_electrons)
        check_given_charge(self._potential, self._given)
        self._model, self._strict, self._domain = model, strict, self._potential.domain
        self._walls = self._potential.walls
        self._checked = torch.empty(0, dtype=torch.int64)
        self._stated: tuple[ChargeSpin, ...] = ()
        self._device = torch.device(device)
        self._dtype = dtype
        self._compute_stress = compute_stress
        self._compute_forces = True
        self._elements = torch.tensor(self._potential.info["elements"], device=self._device)
        # Squares of the distances (Z, Z) below which a pair of elements is reported.
        self._close: Tensor | None = None
        if self._domain is not None:
            self._close = torch.from_numpy(CLOSER * self._domain.limits()).square().to(self._device)
        self.neighbors = BatchNeighbors(self._potential.cutoff)

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Evaluate the S systems of a state with N atoms; called by torch-sim.

        Returns:
            The results by name: ``energy`` (S,) in eV; ``forces`` (N, 3) in eV/angstrom; with ``compute_stress``,
            ``stress`` (S, 3, 3) in eV/angstrom^3, positive under tension; for an ensemble, ``forces_std`` (N, 3), the
            standard deviation of the forces over the members. Results of systems with positions that are not finite
            are NaN.

        Raises:
            ElementError: The model was not trained on an element of the state.
            DataError: ``strict`` is set, and a system lies outside the training data.
            EngineError: ``compute_stress`` is set, and a system is not periodic along all directions.
        """
        self._check_atoms(state)
        positions, cells = (values.detach().to(torch.float64) for values in (state.positions, state.cell))
        pbc = state.pbc.reshape(-1, 3).expand(state.n_systems, 3)
        if self._compute_stress and not bool(pbc.all()):
            raise EngineError(
                "stress requires systems that are periodic along all directions: use compute_stress=False"
            )
        # torch-sim stores lattice vectors in columns.
        batch = Batch(positions, cells.mT, pbc, state.system_idx)
        edges, vectors = self.neighbors(batch)
        self._check_distances(state, edges, vectors)
        with torch.enable_grad():
            energies, forces, virials = self._potential.program.of_edges(
                state.atomic_numbers.long(),
                edges,
                vectors.to(self._potential.dtype),
                state.system_idx,
                state.n_systems,
                *self._states(),
            )
        # Atoms with NaN positions have no neighbors. Propagate NaN, so that their forces do not look like zero.
        lost = 0.0 * positions
        energy = energies.mean(0).index_add(0, state.system_idx, lost.sum(1))
        results = {"energy": energy, "forces": forces.mean(0) + lost}
        if self._compute_stress:
            volumes = torch.linalg.det(cells).abs()
            results["stress"] = -virials.mean(0) / volumes[:, None, None] + 0.0 * energy[:, None, None]
        if self._potential.members > 1:
            results["forces_std"] = forces.std(0) + lost
        return {name: values.detach().to(self._dtype) for name, values in results.items()}

    def _check_atoms(self, state: Any) -> None:
        """Check elements and training domain if the atoms or charges differ from the previous call."""
        stated = self._stated_by(state)
        same = torch.equal(self._checked.to(state.atomic_numbers.device), state.atomic_numbers)
        if same and stated == self._stated:
            return
        self._stated = stated
        self._check_elements(state.atomic_numbers)
        self._check_domain(state, range(state.n_systems))
        self._checked = state.atomic_numbers.clone()

    def _check_distances(self, state: Any, edges: Tensor, vectors: Tensor) -> None:
        """Compare the systems with the training domain in which two atoms are closer than in training."""
        if self._close is None:
            return
        first, second = state.atomic_numbers[edges]
        close = vectors.square().sum(1) < self._close[first, second]
        if not bool(close.any()):
            return
        self._check_domain(state, state.system_idx[edges[0, close]].unique().tolist())
        self._close[first[close], second[close]] = 0.0  # the warning is logged once

    def _check_domain(self, state: Any, systems: Iterable[int]) -> None:
        """Compare systems with the training domain."""
        pbc = state.pbc.reshape(-1, 3).expand(state.n_systems, 3).cpu().numpy()
        for system in systems:
            own = state.system_idx == system
            arrays = (values.detach().cpu().numpy() for values in (state.atomic_numbers[own], state.positions[own]))
            atoms = Atoms(*arrays, cell=state.cell[system].detach().mT.cpu().numpy(), pbc=pbc[system])
            if self._walls is not None:
                check_molecule(self._walls.molecule, atoms.numbers.tolist(), bool(atoms.pbc.any()))
            check_domain(self._domain, with_charge(atoms, self._stated[system]), self._model, self._strict)

    def _stated_by(self, state: Any) -> tuple[ChargeSpin, ...]:
        """Return charge and spin of each system. torch-sim stores 0 for systems that state none."""
        columns = {name: getattr(state, name, None) for name in ("charge", "spin")}
        found = {name: values.reshape(-1).tolist() for name, values in columns.items() if values is not None}
        if not any(any(values) for values in found.values()):
            return (self._given,) * int(state.n_systems)
        stated = []
        for system in range(state.n_systems):
            numbers = state.atomic_numbers[state.system_idx == system].cpu().numpy()
            named = {name: values[system] for name, values in found.items() if values[system]}
            stated.append(stated_charge(named, numbers, f"system {system}").over(self._given))
        return tuple(stated)

    def _states(self) -> tuple[Tensor, ...]:
        """Return charge and spin (S, 2) as an argument of the program, if it has this input."""
        if not self._potential.takes_charge:
            return ()
        rows = [(stated.charge, stated.unpaired_electrons) for stated in self._stated]
        return (torch.tensor(rows, dtype=torch.float64, device=self._device),)

    def _check_elements(self, numbers: Tensor) -> None:
        unknown = numbers[~torch.isin(numbers, self._elements)]
        if len(unknown):
            names, known = (
                " ".join(chemical_symbols[z] for z in values.unique().tolist()) for values in (unknown, self._elements)
            )
            raise ElementError(f"{self._potential.path}: the model was trained on {known}, not on {names}")


def _check_form(path: Path) -> None:
    info = read_exported_info(path)
    if info["target"] != "general" or info["format_of_program"] != "torchscript":
        raise EngineError(
            f"{path}: torch-sim cannot use a file with the target {info['target']} and the format "
            f"{info['format_of_program']}: export with target='general' and format='torchscript'"
        )
