"""Loading of potentials from exported files, or from trained files after a temporary export."""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from piwsl.data.charges import NO_CHARGE, ChargeSpin
from piwsl.data.frames import Frame
from piwsl.data.systems import RESOURCES
from piwsl.errors import ConfigError, ModelFileError, not_a_file
from piwsl.export.exported_file import INFO_ENTRY, ExportedPotential, load_exported, read_exported_info
from piwsl.export.verify import verify_here
from piwsl.runs.files import sha256
from piwsl.runs.known_code import is_known, is_of_this_process, remember
from piwsl.runs.scratch import scratch_directory
from piwsl.typing import IntArray

LOGGER = logging.getLogger(__name__)
EXPORTED_NAMES = ("exported.pt", "exported.pt2")
PRECISIONS = {"single": "float32", "double": "float64"}


def model_sha256(model: Path) -> str:
    """Return the SHA-256 of a model file.

    Raises:
        ModelFileError: The file does not exist.
    """
    if not model.is_file():
        raise ModelFileError(not_a_file(model))
    return sha256(model)


def model_files(model: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    """Return the files of a model: one exported or trained file, or the trained files of an ensemble.

    Args:
        model: Exported or trained file, directory of a training run or of an ensemble, or several trained files.

    Raises:
        RunDirectoryError: The directory contains no model, or an ensemble that is not finished.
    """
    from piwsl.export.trained_file import member_models, trained_file

    paths = [Path(model)] if isinstance(model, str | PathLike) else [Path(one) for one in model]
    paths = [trained_file(path) for path in paths]
    return [file for path in paths for file in (member_models(path) if path.is_dir() else [path])]


def open_ensemble(models: Sequence[Path], name: Path, device: str = "cpu") -> ExportedPotential:
    """Load trained files as one potential that returns mean values and their standard deviations.

    Args:
        models: Trained files.
        name: Name of the ensemble in messages.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelFileError: A file cannot be loaded or is not a trained file.
        ConfigError: The models differ in cutoff, elements or kind of forces.
    """
    from piwsl.export.exporter import Exporter

    exporter = Exporter(models, None, device)
    with scratch_directory("load") as folder:
        target = folder / EXPORTED_NAMES[0]
        exporter.general(target)
        return replace(load_exported(target, device), path=name)


def open_model(
    model: Path,
    species: IntArray | None,
    periodic: bool = False,
    precision: str | None = None,
    device: str = "cpu",
    stated: ChargeSpin = NO_CHARGE,
) -> ExportedPotential:
    """Load the potential of a model file. It is verified against the eager model once per process.

    Args:
        model: Exported file, or trained file, which is exported to a temporary file.
        species: Atomic numbers (n,) of the atoms that the potential will be applied to. With None, any atoms.
        periodic: Whether these atoms are in a periodic box.
        precision: ``single`` or ``double``. With None, the precision of the file is used.
        device: ``cpu`` or ``cuda``.
        stated: Charge and spin of these atoms, which a temporary file for fixed species contains.

    Raises:
        ModelFileError: The file cannot be loaded, or its results on this machine differ from the results at export.
        ElementError: The model was not trained on one of the elements.
        ConfigError: The precision is unknown, or differs from the precision of an exported file.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r}: choose single or double")
    if is_trained(model):
        return _export_in_memory(model, species, periodic, precision, device, stated)
    announce_code(model, read_exported_info(model))
    potential = load_verified(model, device)
    stored = potential.info["dtype"]
    if precision is not None and stored != PRECISIONS[precision]:
        raise ConfigError(
            f"{model} was exported in {stored}, but precision={precision!r} requires {PRECISIONS[precision]}: "
            f"export it again with dtype={PRECISIONS[precision]!r}"
        )
    return potential


def announce_code(model: Path, info: dict[str, Any]) -> None:
    """Log once per process that code of a file will be executed, with the version and date of the file.

    For a file that this user has neither created nor loaded before, the message is a warning. Later messages for the
    same file are informational.

    Args:
        model: Exported file.
        info: Description of the file.
    """
    state = model.stat()
    _announce_once(model, state.st_mtime_ns, state.st_size, str(info["piwsl_version"]), str(info["written"]))


@cache
def _announce_once(model: Path, modified: int, size: int, version: str, written: str) -> None:
    digest = sha256(model)
    if is_of_this_process(digest):
        return
    text = f"executing code from {model}, written by piwsl {version} on {written.partition('T')[0]}"
    if is_own_code(model, digest):
        LOGGER.info(text)
    else:
        LOGGER.warning(
            f"{text}; the file is new to this user account: use exported files only from sources that you trust, "
            "or use the trained model.pt, which contains no code"
        )
    remember(digest)


def is_own_code(model: Path, digest: str) -> bool:
    """Return whether this user created or loaded a file before, or the file is part of piwsl."""
    return is_known(digest) or model.resolve().is_relative_to(RESOURCES)


def load_verified(model: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported file, and verify it against its stored eager results once per process.

    Raises:
        ModelFileError: The file cannot be loaded, or its results on this machine differ from the results at export.
    """
    potential = load_exported(model, device)
    state = model.stat()
    _verify_once(model, state.st_mtime_ns, state.st_size, device)
    return potential


@cache
def _verify_once(model: Path, modified: int, size: int, device: str) -> None:
    # A separate copy of the program is used, because TorchScript specializes on the structures of the comparison.
    result = verify_here(load_exported(model, device))
    LOGGER.info(f"{model.name} on {device}, differences from the stored eager results: {'; '.join(result.lines())}")


def is_trained(model: Path) -> bool:
    """Return whether a file is a trained file, which is a zip archive written by `torch.save` without code.

    Raises:
        ModelFileError: The file does not exist, or is not a regular file.
    """
    if not model.is_file():
        raise ModelFileError(not_a_file(model))
    try:
        with zipfile.ZipFile(model) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises many kinds of errors for damaged files; the readers report the problem
        return False
    return not any("/code/" in name or name.endswith((f"/extra/{INFO_ENTRY}", ".so")) for name in names)


def _export_in_memory(
    model: Path,
    species: IntArray | None,
    periodic: bool,
    precision: str | None,
    device: str,
    stated: ChargeSpin,
) -> ExportedPotential:
    """Export a trained file to a temporary file and load it. The arguments are those of `open_model`."""
    from piwsl.export.exporter import Exporter

    exporter = Exporter([model], PRECISIONS[precision] if precision else None, device)
    same: list[Frame] = []
    # The molecule of walls has the nearest image of each pair in a box, as for a molecule in a solvent of other forces.
    one_molecule = exporter.molecule is not None
    if species is not None:
        exporter.models[0].check_structure(species.tolist(), periodic and not one_molecule)
        frames = exporter.models[0].check_frames
        same = [frame for frame in frames if frame.species.tolist() == species.tolist() and not any(frame.pbc)]
    with scratch_directory("load") as folder:
        target = folder / EXPORTED_NAMES[0]
        if same and (one_molecule or not periodic):
            charge, unpaired = stated.charge, stated.unpaired_electrons
            exporter.openmm(replace(same[0], charge=charge, unpaired_electrons=unpaired), target)
        else:
            exporter.general(target)
        return replace(load_exported(target, device), path=model)
