"""The potential of a run: an exported file, or a trained file that is exported for one structure or for replicas."""

import logging
import math
from pathlib import Path

import torch
from ase import Atoms

from piwsl.data.charges import given_charge
from piwsl.data.frames import Frame
from piwsl.data.systems import SYSTEMS
from piwsl.errors import ConfigError, DataError, ExportError
from piwsl.export.compiled_cache import compile_or_copy
from piwsl.export.evaluation import check_given_charge
from piwsl.export.exported_file import ExportedPotential, ExportedRecord, read_exported_info
from piwsl.export.exporter import LARGEST_MOLECULE, Exporter
from piwsl.export.forms.graph import SMALLEST_MOLECULE
from piwsl.export.loading import announce_code, is_trained
from piwsl.export.supported import check_elements
from piwsl.md.protocol import MDProtocol
from piwsl.runs.files import sha256
from piwsl.runs.known_code import remember
from piwsl.runs.process_settings import replica_threads

LOGGER = logging.getLogger(__name__)
# Atoms per model call: as many as fit into the caches of a core, or as many as fill a GPU.
CALL_ATOMS = {"cpu": 168, "cuda": 21504}
# Thresholds of steps times atoms. Above, the time saved (about 40 us each for one molecule, half of it for replicas)
# exceeds the half minute that compiling takes.
COMPILED_FROM = {"molecule": 1e6, "replicas": 3e6}


def prepare_model(
    model: Path, structure: Atoms, protocol: MDProtocol, directory: Path, chunk: int | None = None
) -> Path:
    """Return the exported file to run: ``model`` itself, or a new file in ``directory``.

    Args:
        model: Exported or trained file.
        structure: Start structure.
        protocol: Protocol of the run.
        directory: Directory for a new file.
        chunk: Number of replicas that one thread evaluates; None: all threads of this process share all replicas.

    Raises:
        ModelFileError: The file is missing or damaged, or was not written by piwsl.
        ElementError: The structure contains an element that the model does not support.
        ConfigError: The protocol has a charge or spin, which the network ignores, or the file evaluates several copies
            per call and the run has no replicas.
    """
    exported = _exported(model, structure, protocol, directory, chunk)
    potential = ExportedPotential(exported, read_exported_info(exported), None)
    check_given_charge(potential, given_charge(protocol.charge, protocol.unpaired_electrons))
    return exported


def _exported(model: Path, structure: Atoms, protocol: MDProtocol, directory: Path, chunk: int | None) -> Path:
    if protocol.replicas is not None:
        device, count = "cuda" if torch.cuda.is_available() else "cpu", len(structure)
        together = (protocol.replicas, replica_threads(device)) if chunk is None else (chunk, 1)
        copies = copies_per_call(count, *together, device)
        work = protocol.replicas * protocol.steps * count
        return prepare_replica_model(model, structure, directory, copies, work)
    work, trained = len(structure) * (protocol.equilibration + protocol.steps), trained_source(model)
    worthwhile = work >= COMPILED_FROM["molecule"]
    if trained is None or (trained != model and not (worthwhile and _is_made_for(model, structure))):
        info = read_exported_info(model)
        if info.get("copies", 1) > 1:
            # The copies do not interact: as one structure, their contacts and observables would mean nothing.
            raise ConfigError(
                f"{model}: exported for {info['copies']} copies of a molecule per call: pass one molecule and "
                "--replicas N, or export without --copies"
            )
        announce_code(model, info)
        return model
    exporter = _exporter(trained, structure)
    if structure.pbc.any() and not structure.pbc.all():  # slabs and wires need the general form
        exporter.general(directory / "exported.pt")
        return _own(directory / "exported.pt")
    return _exported_for(exporter, structure, directory, worthwhile and _fits_one_graph(exporter, structure))


def trained_source(model: Path) -> Path | None:
    """Return the trained file of a model: the file itself, or that of an exported file of a bundled system."""
    if is_trained(model):
        return model
    bundled = (system for system in SYSTEMS.values() if system.exported.resolve() == model.resolve())
    return next((system.model for system in bundled), None)


def _is_made_for(model: Path, structure: Atoms) -> bool:
    """Return whether an exported file contains the species of a structure, which is not periodic."""
    return ExportedPotential(model, read_exported_info(model), None).species == structure.numbers.tolist() and not any(
        structure.pbc
    )


def domain_warnings(exported: Path, structure: Atoms, model: Path, strict: bool = False) -> list[str]:
    """List the differences between a start structure and the training data of a model.

    Args:
        exported: Exported file of the run.
        structure: Start structure.
        model: File as the user named it.
        strict: Raise an error if there is a difference.

    Raises:
        DataError: ``strict`` is set, and there is a difference.
    """
    record = ExportedRecord.model_validate(read_exported_info(exported))
    if record.domain is None:
        return []
    concerns = [f"{model.name}: {text}" for text in record.domain.concerns(structure).values()]
    if strict and concerns:
        raise DataError(f"{'; '.join(concerns)}: train on similar structures, or omit strict=True")
    return concerns


def prepare_replica_model(model: Path, structure: Atoms, directory: Path, copies: int, work: float = 0) -> Path:
    """Return the exported file to run: ``model`` itself, or a new file in ``directory``.

    A trained file is exported for several copies of a molecule, and compiled if the run is long and a compiler is
    available. For a periodic or large structure, or a network without neighbor sums such as SO3LR, the file is exported
    in the general form.

    Args:
        model: Exported or trained file.
        structure: Structure of one replica.
        directory: Directory for a new file.
        copies: Number of copies per model call.
        work: Number of steps times the number of atoms of all replicas.

    Raises:
        ModelFileError: The file is missing or damaged, or was not written by piwsl.
        ElementError: The structure contains an element that the model does not support.
    """
    if not is_trained(model):
        info = read_exported_info(model)
        announce_code(model, info)
        if info["pairs"] == "molecule" and info.get("copies", 1) == 1 < copies:
            LOGGER.warning(
                f"{model.name} evaluates one copy per call: replicas run faster with the trained model.pt, or with a "
                f"file exported with target='openmm' and copies={copies}"
            )
        return model
    exporter = _exporter(model, structure)
    if not _fits_one_graph(exporter, structure):
        exporter.general(directory / "exported.pt")
        return _own(directory / "exported.pt")
    return _exported_for(exporter, structure, directory, work >= COMPILED_FROM["replicas"], copies)


def _fits_one_graph(exporter: Exporter, structure: Atoms) -> bool:
    fits = SMALLEST_MOLECULE <= len(structure) <= LARGEST_MOLECULE and not structure.pbc.any()
    return fits and exporter.takes_neighbor_sums


def _exported_for(exporter: Exporter, structure: Atoms, directory: Path, worthwhile: bool, copies: int = 1) -> Path:
    """Return a new file for a structure, compiled if that is worthwhile and possible."""
    frame = Frame.from_atoms(structure)
    if worthwhile and not torch.cuda.is_available():
        try:
            compile_or_copy(exporter, frame, directory / "exported.pt2", copies)
            return directory / "exported.pt2"
        except ExportError as error:
            LOGGER.info(f"the model was not compiled: {error}")
    exporter.openmm(frame, directory / "exported.pt", copies=copies)
    return _own(directory / "exported.pt")


def _exporter(trained: Path, structure: Atoms) -> Exporter:
    """Return the exporter of a trained file that supports a structure, with walls in the order of its atoms."""
    exporter = Exporter([trained])
    check_elements(exporter.models[0].elements, structure.numbers.tolist())
    return exporter.in_order_of(Frame.from_atoms(structure))


def _own(exported: Path) -> Path:
    """Record that this user made a file, so that a restart may use the file."""
    remember(sha256(exported))
    return exported


def copies_per_call(n_atoms: int, replicas: int, threads: int, device: str = "cpu") -> int:
    """Return the number of replicas per model call: near the optimum, and divided evenly among calls and threads."""
    wanted = max(1, round(CALL_ATOMS[device] / n_atoms))
    share = math.ceil(replicas / threads)
    return math.ceil(share / math.ceil(share / wanted))
