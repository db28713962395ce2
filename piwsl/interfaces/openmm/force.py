"""OpenMM forces from potentials: TorchForce, or PythonForce for any exported file."""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms

from piwsl.compat.openmm import plain_value, state_positions
from piwsl.data.charges import NO_CHARGE, ChargeSpin, given_charge
from piwsl.data.domain import check_domain
from piwsl.errors import ConfigError, DataError, EngineError, PiwslError, public
from piwsl.export.evaluation import bind, check_charge, check_given_charge, check_species, check_width
from piwsl.export.exported_file import ExportedPotential, ExportedRecord, load_exported, read_exported_info
from piwsl.export.loading import open_model
from piwsl.export.supported import check_molecule
from piwsl.interfaces.openmm.particles import (
    DEFAULT_BOX,
    UNSET_BOX,
    BoxCheck,
    Subset,
    chosen_particles,
    described_system,
)
from piwsl.interfaces.openmm.probe import FORCE_PROBES, Probe, import_openmm, import_openmmtorch
from piwsl.runs.scratch import scratch_directory
from piwsl.structures.cells import PBC
from piwsl.typing import FloatArray, IntArray
from piwsl.units import KJ_PER_MOL, NANOMETER

LOGGER = logging.getLogger(__name__)
Kind = Literal["auto", "torch", "python"]


@dataclass(frozen=True)
class OpenMMForce:
    """OpenMM force with its kind.

    Attributes:
        force: Force for ``System.addForce``.
        kind: Kind of force: ``TorchForce`` or ``PythonForce``.
        reason: Reason for the choice of this kind.
    """

    force: Any
    kind: str
    reason: str


@public
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
    charge: int | None = None,
    unpaired_electrons: int | None = None,
) -> Any:
    """Create an ``openmm.Force`` from a potential for use in any System.

    The force accepts positions in nm and returns kJ/mol and kJ/mol/nm, as OpenMM expects. A System owns its forces, so
    create a separate force for every System. The kind of force and the reason for the choice are logged.

    Args:
        model: Exported file, or a trained file, which is exported in memory.
        topology_or_species: The ``openmm.app.Topology`` of the System, or the atomic numbers of its particles.
        kind: Kind of force: ``torch`` (TorchForce, called from C++), ``python`` (PythonForce), or ``auto``, which
            selects TorchForce if TorchForce works.
        periodic: Whether the potential uses the periodic box; None: use the box if the topology has one.
        atoms: Different indices of the particles on which the potential acts, in the order of the model; None: all
            particles.
        precision: ``single`` or ``double``; None: the precision of the file.
        device: ``cpu`` or ``cuda``; None: ``cuda`` if PyTorch finds a GPU, otherwise ``cpu``.
        cuda_graphs: Replay the calls as CUDA graphs; requires a molecule and TorchForce on a GPU.
        strict: Refuse a composition, a charge or a periodic box outside the training data instead of logging one
            warning.
        charge: Total charge of the atoms on which the potential acts, e. None selects the charge in a file exported
            for ``openmm``, or the default of the model.
        unpaired_electrons: Number of unpaired electrons of these atoms, likewise.

    Returns:
        A TorchForce or a PythonForce.

    Raises:
        ModelFileError: The model file cannot be used.
        ElementError: The file was exported for other atoms, its model was not trained on an element, or an atomic
            number is not an integer.
        ConfigError: An option is unknown or incompatible with the file, or ``atoms`` are not indices of particles.
        EngineError: The requested kind of force, or every kind with ``auto``, fails on this machine.
        DataError: ``strict`` is set, and the atoms lie outside the training data.

    Example:
        >>> system = openmm.System()
        >>> for atom in pdb.topology.atoms():
        ...     system.addParticle(atom.element.mass)
        >>> system.addForce(openmm_force("aspirin_openmm.pt", pdb.topology))
    """
    species, box = described_system(topology_or_species)
    chosen = None
    if atoms is not None:
        indices = chosen_particles(atoms, len(species))
        chosen = None if indices == list(range(len(species))) else indices
        species = species[indices]
    periodic = box is not None if periodic is None else periodic
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r}: choose cpu or cuda")
    stated = given_charge(charge, unpaired_electrons)
    potential = open_model(Path(model), species, periodic, precision, device, stated)
    check_given_charge(potential, stated)
    if periodic and box is not None:
        check_width(potential, box)
    # The molecule of a file for several copies, which do not interact, is what the model was trained on.
    atoms_only = Atoms(potential.molecule or species, pbc=periodic, info=stated.info())
    check_domain(potential.domain, atoms_only, model, strict, distances=False)
    made = choose_force(
        potential,
        species,
        kind,
        periodic,
        chosen,
        "CUDA" if device.startswith("cuda") else "Reference",
        cuda_graphs,
        stated=stated,
        check_box=periodic and box is not None and not np.array_equal(box / NANOMETER, DEFAULT_BOX),
    )
    LOGGER.info(f"{made.kind}: {made.reason}")
    return made.force


def check_order(model: str | Path, topology_or_species: Any) -> None:
    """Check that the atoms of a topology match an exported file, in the same order; no code from the file is run.

    A TorchForce receives only positions and cannot check the elements itself.

    Args:
        model: Exported file with the target ``openmm``.
        topology_or_species: The ``openmm.app.Topology`` of the System, or the atomic numbers of its particles.

    Raises:
        ElementError: The number, elements or order of the atoms differ; the message names the first difference.
        ModelFileError: The model file cannot be used.
        ConfigError: The file was not exported for specific atoms.
    """
    record = ExportedRecord.model_validate(read_exported_info(Path(model)))
    if not record.species:
        raise ConfigError(f"{model}: the file accepts any atoms, so their order cannot be checked: use target='openmm'")
    check_species(described_system(topology_or_species)[0], record.species * record.copies, str(model))


def choose_force(
    potential: ExportedPotential,
    species: IntArray,
    kind: Kind = "auto",
    periodic: bool = False,
    atoms: list[int] | None = None,
    platform: str = "Reference",
    cuda_graphs: bool = False,
    probes: Mapping[str, Callable[[str], Probe]] = FORCE_PROBES,
    stated: ChargeSpin = NO_CHARGE,
    check_box: bool = False,
) -> OpenMMForce:
    """Create a force of a given kind, or of the fastest kind that works on this machine.

    Args:
        potential: Loaded potential.
        species: Atomic numbers of the atoms on which the potential acts.
        kind: See `openmm_force`.
        periodic: Whether the potential uses the periodic box.
        atoms: Indices of the particles on which the potential acts; None: all particles.
        platform: OpenMM platform on which the force will run.
        cuda_graphs: See `openmm_force`.
        probes: Tests of the kinds of force on a platform, by kind.
        stated: Charge and spin of the atoms.
        check_box: Refuse OpenMM's default box, because the topology has another.

    Raises:
        ElementError, ConfigError, EngineError: See `openmm_force`.
    """
    if kind not in ("auto", "torch", "python"):
        raise ConfigError(f"kind of force {kind!r}: choose auto, torch or python")
    if potential.species:
        check_species(species, potential.species, str(potential.path))
    check_charge(potential, stated)
    if potential.walls is not None and not potential.is_molecule:
        check_molecule(potential.walls.molecule, species.tolist(), periodic)
    if kind != "python":
        obstacle = _obstacle_to_torchforce(potential, platform, probes["TorchForce"])
        if obstacle is None:
            force = torch_force(potential, periodic, atoms, cuda_graphs, check_box)
            return OpenMMForce(force, "TorchForce", probes["TorchForce"](platform).reason)
        if kind == "torch":
            raise EngineError(f"TorchForce cannot be used: {obstacle}: choose kind='auto' or kind='python'")
    else:
        obstacle = "requested"
    fallback = probes["PythonForce"](platform)
    if not fallback.works:
        raise EngineError(
            f"neither TorchForce nor PythonForce works: {obstacle}; {fallback.reason}: run `piwsl doctor` for details"
        )
    if cuda_graphs:
        raise ConfigError(f"CUDA graphs need TorchForce: {obstacle}: use cuda_graphs=False")
    return OpenMMForce(python_force(potential, species, periodic, atoms, stated, check_box), "PythonForce", obstacle)


def torch_force(
    potential: ExportedPotential,
    periodic: bool = False,
    atoms: list[int] | None = None,
    cuda_graphs: bool = False,
    check_box: bool = False,
) -> Any:
    """Create a TorchForce, which calls a file with the target ``openmm`` from C++."""
    module = potential.program
    if atoms is not None:
        module = torch.jit.script(Subset(module, atoms))
    if check_box:
        module = torch.jit.script(BoxCheck(module))
    if cuda_graphs and not (potential.is_molecule and potential.device.startswith("cuda")):
        raise ConfigError(
            "CUDA graphs need a GPU and a molecule exported with target='openmm': use cuda_graphs=False otherwise"
        )
    force = import_openmmtorch().TorchForce(module)
    force.setOutputsForces(True)
    force.setUsesPeriodicBoundaryConditions(periodic)
    if cuda_graphs:
        force.setProperty("useCUDAGraphs", "true")
    return force


def python_force(
    potential: ExportedPotential,
    species: IntArray,
    periodic: bool = False,
    atoms: list[int] | None = None,
    stated: ChargeSpin = NO_CHARGE,
    check_box: bool = False,
) -> Any:
    """Create a PythonForce, which calls any exported file through Python."""
    pbc: PBC = (periodic, periodic, periodic)
    # `setParticles` would be faster in large Systems, but reads and writes beyond the arrays of a System that lacks one
    # of the particles.
    force = import_openmm().PythonForce(ForceCallable(potential, species, pbc, stated, atoms, check_box))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


def _obstacle_to_torchforce(potential: ExportedPotential, platform: str, probe: Callable[[str], Probe]) -> str | None:
    """Return the reason why TorchForce cannot be used; None if TorchForce can be used."""
    name = potential.path.name
    if potential.format != "torchscript":
        return f"{name} is compiled, but TorchForce needs TorchScript"
    if potential.target != "openmm":
        return f"{name} has the target general, but TorchForce needs a file exported with target='openmm'"
    result = probe(platform)
    return None if result.works else result.reason


class ForceCallable:
    """Function that PythonForce calls for the energy and the forces at an OpenMM State.

    OpenMM pickles the function when a System is serialized. The pickle contains the exported file.
    """

    def __init__(
        self,
        potential: ExportedPotential,
        species: IntArray,
        pbc: PBC,
        stated: ChargeSpin = NO_CHARGE,
        atoms: list[int] | None = None,
        check_box: bool = False,
    ) -> None:
        self._check_box = check_box  # in the next call
        self._potential = potential
        self._stated = stated
        self._atoms = None if atoms is None else np.array(atoms)
        self._largest = max(atoms or [0])
        self._species = np.asarray(species)
        self._pbc = pbc
        self._bound = bind(potential, self._species, pbc, stated)

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Return the energy in kJ/mol and the forces (n, 3) in kJ/mol/nm at the positions of a State.

        Raises:
            RuntimeError: An error occurred. OpenMM keeps only the message, which contains the traceback unless the
                error is a `PiwslError`.
        """
        try:
            everything = state_positions(state)
            positions = (everything if self._atoms is None else self._selected(everything)) * NANOMETER
            cell = plain_value(state.getPeriodicBoxVectors(asNumpy=True)) * NANOMETER if any(self._pbc) else None
            if self._check_box and cell is not None and np.array_equal(cell / NANOMETER, DEFAULT_BOX):
                raise DataError(UNSET_BOX)
            self._check_box = False
            result = self._bound(positions, cell)
        except PiwslError as error:
            raise RuntimeError(str(error)) from error
        except Exception as error:
            raise RuntimeError("".join(traceback.format_exception(error))) from error
        forces = result.forces * (NANOMETER / KJ_PER_MOL)
        if self._atoms is None:
            return result.energy / KJ_PER_MOL, forces
        spread = np.zeros(everything.shape)  # zeros_like writes the zeros, which takes longer
        spread[self._atoms] = forces
        return result.energy / KJ_PER_MOL, spread

    def _selected(self, positions: FloatArray) -> FloatArray:
        """Return the positions of the particles on which the potential acts, from those of all particles."""
        assert self._atoms is not None
        if self._largest >= len(positions):
            raise DataError(
                f"the System has {len(positions)} particles, but the force acts on particle {self._largest}: pass the "
                "topology of this System to openmm_force"
            )
        selected: FloatArray = positions[self._atoms]
        return selected

    def __getstate__(self) -> dict[str, Any]:
        return {
            "file": self._potential.content,
            "name": self._potential.path.name,
            "species": self._species.tolist(),
            "pbc": self._pbc,
            "charge_spin": (self._stated.charge, self._stated.unpaired_electrons),
            "atoms": None if self._atoms is None else self._atoms.tolist(),
            "device": self._potential.device,
            "check_box": self._check_box,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = state["device"] if torch.cuda.is_available() else "cpu"
        with scratch_directory("openmm") as folder:
            path = folder / state["name"]
            path.write_bytes(state["file"])
            potential, stated = load_exported(path, device), ChargeSpin(*state.get("charge_spin", ()))
            others = state.get("atoms"), state.get("check_box", False)
            self.__init__(potential, np.array(state["species"]), state["pbc"], stated, *others)  # type: ignore[misc]
