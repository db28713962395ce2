"""Resolve the arguments of `piwsl.run_md` to a structure, a model, a protocol and a directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ase import Atoms

from piwsl.data.systems import SYSTEMS, Structure, find_structure, is_system, named_system, structure_name
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.export.loading import is_own_code, is_trained, model_sha256
from piwsl.export.trained_file import trained_file
from piwsl.md.protocol import MDProtocol, preset
from piwsl.md.run_directory import CONFIG, MD_RUN, START
from piwsl.runs.config import read_mapping
from piwsl.runs.directory import RunDirectory
from piwsl.runs.summary import MDSummary

_INPUTS = ("system", "structure", "model", "output")


@dataclass(frozen=True, eq=False)
class MDInputs:
    """Inputs of a run.

    Attributes:
        name: Name of the system.
        structure: Start structure.
        model: Exported or trained file.
        protocol: Protocol of the run.
        output: Run directory.
    """

    name: str
    structure: Atoms
    model: Path
    protocol: MDProtocol
    output: Path


def md_inputs(
    structure: Structure | None,
    model: str | PathLike[str] | None,
    *,
    system: str | None = None,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    protocol: MDProtocol | str | None = None,
    output: str | PathLike[str] | None = None,
    restart: bool = False,
    options: Mapping[str, Any] | None = None,
) -> MDInputs:
    """Resolve the arguments of `piwsl.run_md` to the inputs of a run.

    Options take precedence over the configuration, and the configuration takes precedence over the protocol. A
    restart reads missing arguments from the run directory. Replicas of a bundled system use its trained model, which
    can be exported for many copies.

    Raises:
        ConfigError: A required argument is missing, or an option is unknown or out of range.
        DataError: The structure cannot be used.
        RunDirectoryError: ``restart`` is set, but the directory contains no run that can be continued.
    """
    given = {**_configured(config), **_named(structure=structure, model=model, system=system, output=output)}
    if is_system(given.get("structure")):
        given["system"] = given.pop("structure")
    chosen = {**_preset(protocol), **{key: given.pop(key) for key in list(given) if key not in _INPUTS}}
    chosen.update(options or {})
    resolved = MDProtocol.of(**chosen)  # report mistakes before any slow step
    system, structure = given.get("system"), given.get("structure")
    name, directory = _name_and_directory(system, structure, given.get("output"), restart)
    model = given.get("model")
    if restart:
        RunDirectory(directory, MD_RUN).check_regular()
        before = MDSummary.read(directory)
        if before.replica is not None:
            raise RunDirectoryError(
                f"{directory}: holds one replica of the run in {directory.parent}: restart that run instead"
            )
        name = before.system.name
        model = _model_of_run(before, directory) if model is None else model
        if structure is None and system not in SYSTEMS:
            structure = directory / START
        resolved = MDProtocol.of(**{**MDProtocol.load(directory / CONFIG).model_dump(), **chosen})
    atoms = find_structure(structure, system)
    if model is None and system in SYSTEMS:
        known = named_system(system)
        model = known.model if resolved.replicas is not None else known.exported
    if model is None:
        raise ConfigError("no model: give an exported potential or a trained model.pt with model=FILE")
    return MDInputs(name or directory.name, atoms, trained_file(Path(model)), resolved, directory)


def _model_of_run(before: MDSummary, directory: Path) -> str:
    """Return the model file that a run recorded.

    The run directory may come from an untrusted source. A trained file contains only data and is accepted if its hash
    matches the recorded hash. An exported file contains code and is accepted only if this user exported the file or
    passed it as an argument before.

    Raises:
        RunDirectoryError: The file has changed, or contains code that this user has neither exported nor named.
        ModelFileError: The file does not exist.
    """
    path = Path(before.model.path)
    digest = model_sha256(path)
    if before.model.sha256 and digest != before.model.sha256:
        raise RunDirectoryError(
            f"{directory}: the model file {path} has changed since this run started (sha256 "
            f"{before.model.sha256[:12]} -> {digest[:12]}): give the original file with model=FILE"
        )
    if not is_trained(path) and not is_own_code(path, digest):
        raise RunDirectoryError(
            f"{directory}: the model file {path} contains code that you have neither exported nor named before: if you "
            f"trust its author, name the file with model='{path}'"
        )
    return before.model.path


def _named(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _configured(config: Mapping[str, Any] | str | PathLike[str] | None) -> dict[str, Any]:
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else read_mapping(Path(config))


def _preset(protocol: MDProtocol | str | None) -> dict[str, Any]:
    if protocol is None:
        return {}
    return preset(protocol) if isinstance(protocol, str) else protocol.model_dump()


def _name_and_directory(
    system: str | None, structure: Structure | None, output: str | PathLike[str] | None, restart: bool
) -> tuple[str | None, Path]:
    name = structure_name(structure, system)
    if name is None and structure is not None:
        name = find_structure(structure).get_chemical_formula("hill")
    if output is not None:
        return name, Path(output)
    if name is None:
        more = ", or give the run directory with output=DIRECTORY" if restart else ""
        raise ConfigError(f"no structure: give system=NAME or structure=FILE{more}")
    return name, Path("runs") / f"md-{name}"
