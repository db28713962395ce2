"""An exported potential as an OpenMM force: TorchForce, or PythonForce with any exported file."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from piwsl.compat.openmm import plain_value, state_positions
from piwsl.data.domain import check_domain
from piwsl.errors import ConfigError, EngineError, PiwslError
from piwsl.export.evaluation import bind, check_species, check_width
from piwsl.export.exported_file import ExportedPotential, ExportedRecord, load_exported, read_exported_info
from piwsl.export.loading import open_model
from piwsl.interfaces.openmm.probe import import_openmm, import_openmmtorch, probe_pythonforce, probe_torchforce
from piwsl.runs.scratch import scratch_directory
from piwsl.structures.cells import PBC
from piwsl.typing import FloatArray, IntArray
from piwsl.units import KJ_PER_MOL, NANOMETER

LOGGER = logging.getLogger(__name__)
Kind = Literal["auto", "torch", "python"]


@dataclass(frozen=True)
class OpenMMForce:
    """A force for ``System.addForce``, its kind (``TorchForce`` or ``PythonForce``), and why this kind was chosen."""

    force: Any
    kind: str
    reason: str


def openmm_force(
    model: str | Path,
    topology_or_species: Any,
    kind: Kind = "auto",
    periodic: bool | None = None,
    atoms: Sequence[int] | None = None,
    precision: str | None = None,
    device: str | None = None,
    cuda_graphs: bool = False,
    strict: bool = False,
) -> Any:
    """Create an ``openmm.Force`` from a potential, for any System.

    The force takes positions in nm and returns kJ/mol and kJ/mol/nm, as OpenMM expects. Every System needs a force of
    its own, because a System owns its forces. The kind of force and the reason for it are logged.

    Args:
        model: Exported file, or a trained file, which is exported in memory.
        topology_or_species: ``openmm.app.Topology`` of the System, or the atomic numbers of its particles.
        kind: ``torch`` (TorchForce, called from C++), ``python`` (PythonForce), or ``auto``: TorchForce where it works.
        periodic: Whether the potential uses the periodic box; None: whether the topology has a box.
        atoms: Indices of the particles on which the potential acts, in the order of the model; None: all.
        precision: ``single`` or ``double``; None: that of the file.
        device: ``cpu`` or ``cuda``; None: ``cuda`` where PyTorch finds a GPU.
        cuda_graphs: Replay the calls as CUDA graphs; for a molecule with TorchForce on a GPU.
        strict: Refuse another composition or a periodic box than in training, which are otherwise warned of once.

    Returns:
        A TorchForce or a PythonForce.

    Raises:
        ModelFileError: The file cannot be used.
        ElementError: The file was exported for other atoms, or its model was not trained on an element.
        ConfigError: An option is unknown or does not go with the file.
        EngineError: The kind, or with ``auto`` every kind, fails on this machine.
        DataError: ``strict`` is set, and the atoms are not like those of the training data.

    Example:
        >>> system = openmm.System()
        >>> for atom in pdb.topology.atoms():
        ...     system.addParticle(atom.element.mass)
        >>> system.addForce(openmm_force("aspirin_openmm.pt", pdb.topology))
    """
    species, box, n_particles = _system(topology_or_species)
    if atoms is not None:
        species = species[np.asarray(atoms, dtype=np.int64)]
    whole = atoms is None or list(atoms) == list(range(n_particles))
    periodic = box is not None if periodic is None else periodic
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r}: choose cpu or cuda")
    potential = open_model(Path(model), species, periodic, precision, device)
    if periodic and box is not None:
        check_width(potential, box)
    check_domain(potential.domain, Atoms(species, pbc=periodic), model, strict, distances=False)
    chosen = choose_force(
        potential,
        species,
        kind,
        periodic,
        None if whole else [int(index) for index in atoms or ()],
        "CUDA" if device.startswith("cuda") else "Reference",
        cuda_graphs,
    )
    LOGGER.info(f"{chosen.kind}: {chosen.reason}")
    return chosen.force


def check_order(model: str | Path, topology_or_species: Any) -> None:
    """Refuse a topology whose atoms are not those of an exported file, in its order; nothing of the file is run.

    A TorchForce receives positions alone: it cannot know which element an atom is.

    Args:
        model: Exported file of the target ``openmm``.
        topology_or_species: ``openmm.app.Topology`` of the System, or the atomic numbers of its particles.

    Raises:
        ElementError: Number, kinds or order of the atoms differ; the first difference is named.
        ModelFileError: The file cannot be used.
        ConfigError: The file takes any atoms.
    """
    record = ExportedRecord.model_validate(read_exported_info(Path(model)))
    if not record.species:
        raise ConfigError(f"{model}: takes any atoms, whose elements are given in each call: export target='openmm'")
    check_species(_system(topology_or_species)[0], record.species * record.copies, str(model))


def choose_force(
    potential: ExportedPotential,
    species: IntArray,
    kind: Kind = "auto",
    periodic: bool = False,
    atoms: list[int] | None = None,
    platform: str = "Reference",
    cuda_graphs: bool = False,
) -> OpenMMForce:
    """Create a force of a given kind, or of the fastest kind that works on this machine.

    Args:
        potential: Loaded file.
        species: Atomic numbers of the atoms on which the potential acts.
        kind: See `openmm_force`.
        periodic: Whether the potential uses the periodic box.
        atoms: Indices of the particles on which the potential acts; None: all.
        platform: OpenMM platform that will run the force.
        cuda_graphs: See `openmm_force`.

    Raises:
        ElementError, ConfigError, EngineError: See `openmm_force`.
    """
    if kind not in ("auto", "torch", "python"):
        raise ConfigError(f"kind of force {kind!r}: choose auto, torch or python")
    if potential.species:
        check_species(species, potential.species, str(potential.path))
    if kind != "python":
        obstacle = _obstacle_to_torchforce(potential, platform)
        if obstacle is None:
            force = torch_force(potential, periodic, atoms, cuda_graphs)
            return OpenMMForce(force, "TorchForce", probe_torchforce(platform).reason)
        if kind == "torch":
            raise EngineError(f"TorchForce cannot be used: {obstacle}; kind auto or python uses PythonForce")
    else:
        obstacle = "requested"
    fallback = probe_pythonforce(platform)
    if not fallback.works:
        raise EngineError(
            f"no force works in OpenMM here: {obstacle}; {fallback.reason}; run `piwsl doctor` for details"
        )
    if cuda_graphs:
        raise ConfigError(f"CUDA graphs need TorchForce: {obstacle}")
    return OpenMMForce(python_force(potential, species, periodic, atoms), "PythonForce", obstacle)


def torch_force(
    potential: ExportedPotential, periodic: bool = False, atoms: list[int] | None = None, cuda_graphs: bool = False
) -> Any:
    """Create a TorchForce, which calls a file exported for the target ``openmm`` from C++."""
    module = potential.program
    if atoms is not None:
        module = torch.jit.script(Subset(module, torch.tensor(atoms)))
    if cuda_graphs and not (potential.is_molecule and potential.device.startswith("cuda")):
        raise ConfigError("CUDA graphs need a GPU and fixed shapes: a molecule exported with target='openmm'")
    force = import_openmmtorch().TorchForce(module)
    force.setOutputsForces(True)
    force.setUsesPeriodicBoundaryConditions(periodic)
    if cuda_graphs:
        force.setProperty("useCUDAGraphs", "true")
    return force


def python_force(
    potential: ExportedPotential, species: IntArray, periodic: bool = False, atoms: list[int] | None = None
) -> Any:
    """Create a PythonForce, which calls any exported file through Python."""
    pbc: PBC = (periodic, periodic, periodic)
    force = import_openmm().PythonForce(ForceCallable(potential, species, pbc))
    force.setUsesPeriodicBoundaryConditions(periodic)
    if atoms is not None:
        force.setParticles(atoms)
    return force


def _obstacle_to_torchforce(potential: ExportedPotential, platform: str) -> str | None:
    """Return why TorchForce cannot be used; None where it can."""
    name = potential.path.name
    if potential.format != "torchscript":
        return f"{name} is compiled; TorchForce takes TorchScript"
    if potential.target != "openmm":
        return f"{name} is the general form; TorchForce takes files exported with target='openmm'"
    probe = probe_torchforce(platform)
    return None if probe.works else probe.reason


def _system(topology_or_species: Any) -> tuple[IntArray, FloatArray | None, int]:
    """Return atomic numbers of all particles (0: not an atom), box vectors (3, 3) in angstrom, number of particles."""
    if hasattr(topology_or_species, "atoms"):
        topology = topology_or_species
        numbers = [0 if atom.element is None else atom.element.atomic_number for atom in topology.atoms()]
        return np.array(numbers, dtype=np.int64), _angstrom(topology), len(numbers)
    numbers = [int(number) for number in topology_or_species]
    return np.array(numbers, dtype=np.int64), None, len(numbers)


def _angstrom(topology: Any) -> FloatArray | None:
    """Return the box vectors (3, 3) of a topology in angstrom; None without a box."""
    vectors = topology.getPeriodicBoxVectors()
    if vectors is None:
        return None
    from openmm import unit

    return np.array(vectors.value_in_unit(unit.angstrom), dtype=np.float64)


class ForceCallable:
    """The function that PythonForce calls: energy (kJ/mol) and forces (n, 3) in kJ/mol/nm of an OpenMM State.

    It can be pickled, which serializing a System does; the pickle contains the exported file.
    """

    def __init__(self, potential: ExportedPotential, species: IntArray, pbc: PBC) -> None:
        self._potential = potential
        self._species = np.asarray(species)
        self._pbc = pbc
        self._bound = bind(potential, self._species, pbc)

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Energy and forces at the positions of a state.

        Raises:
            RuntimeError: Any error, with its full text; OpenMM passes on nothing but the text of an exception.
        """
        try:
            positions = state_positions(state) * NANOMETER
            cell = plain_value(state.getPeriodicBoxVectors(asNumpy=True)) * NANOMETER if any(self._pbc) else None
            result = self._bound(positions, cell)
        except PiwslError as error:
            raise RuntimeError(str(error)) from error
        except Exception as error:
            raise RuntimeError("".join(traceback.format_exception(error))) from error
        return result.energy / KJ_PER_MOL, result.forces * (NANOMETER / KJ_PER_MOL)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "file": self._potential.content,
            "name": self._potential.path.name,
            "species": self._species.tolist(),
            "pbc": self._pbc,
            "device": self._potential.device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = state["device"] if torch.cuda.is_available() else "cpu"
        with scratch_directory("openmm") as folder:
            path = folder / state["name"]
            path.write_bytes(state["file"])
            self.__init__(load_exported(path, device), np.array(state["species"]), state["pbc"])  # type: ignore[misc]


class Subset(nn.Module):
    """The OpenMM form for a selection of particles; no force acts on the others."""

    indices: Tensor

    def __init__(self, form: nn.Module, indices: Tensor) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("indices", indices)

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (N, 3) of all particles in nm -> energy () in kJ/mol and forces (N, 3) in kJ/mol/nm."""
        energy, forces = self.form(positions.index_select(0, self.indices), box)
        return energy, torch.zeros_like(positions).index_copy(0, self.indices, forces)
