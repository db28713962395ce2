"""The potential of a run: an exported file as it is, a trained file exported on the way."""

import logging
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ModelFileError
from piwsl.export.exported_file import INFO_ENTRY, ExportedPotential, load_exported
from piwsl.export.verify import verify_here
from piwsl.runs.files import sha256
from piwsl.typing import IntArray

LOGGER = logging.getLogger(__name__)
EXPORTED_NAMES = ("exported.pt", "exported.pt2")
PRECISIONS = {"single": "float32", "double": "float64"}


def model_sha256(model: Path) -> str:
    """Hash of a model file.

    Raises:
        ModelFileError: there is none.
    """
    if not model.is_file():
        raise ModelFileError(f"{model}: no such file")
    return sha256(model)


def open_model(
    model: Path, species: IntArray | None, periodic: bool = False, precision: str | None = None, device: str = "cpu"
) -> ExportedPotential:
    """Load a file for atoms of these atomic numbers (n,), compared once with the eager model on this machine.

    Args:
        model: exported file, or a trained one, which is exported to memory.
        species: of the atoms it will act on; None: any.
        periodic: whether they are in a periodic box.
        precision: ``single`` or ``double``; None: that of the file.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelFileError: the file cannot be used, or gives other numbers here than where it was made.
        ElementError: the model was not made for an element.
        ConfigError: an exported file has another precision.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}: choose single or double")
    if is_trained(model):
        return _exported_on_the_way(model, species, periodic, precision, device)
    potential = load_verified(model, device)
    has = potential.info["dtype"]
    if precision is not None and has != PRECISIONS[precision]:
        raise ConfigError(
            f"{model} is {has}, precision {precision!r} asks for {PRECISIONS[precision]}: "
            f"export it again with --dtype {PRECISIONS[precision]}"
        )
    return potential


def load_verified(model: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported file; at the first time in a process, compare it with the eager values it carries.

    Raises:
        ModelFileError: it cannot be used, or gives other numbers here than where it was made.
    """
    potential = load_exported(model, device)
    state = model.stat()
    _verify_once(model, state.st_mtime_ns, state.st_size, device)
    return potential


@cache
def _verify_once(model: Path, modified: int, size: int, device: str) -> None:
    # A copy of its own: after the warm-up of a check, TorchScript has specialized on the structures it has seen.
    result = verify_here(load_exported(model, device))
    LOGGER.info(f"{model.name} on {device}, against eager values it carries: {'; '.join(result.lines())}")


def is_trained(model: Path) -> bool:
    """Whether a file is a zip archive as `torch.save` writes it: no code inside.

    Raises:
        ModelFileError: there is no such file.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            names = archive.namelist()
    except FileNotFoundError:
        raise ModelFileError(f"{model}: no such file") from None
    except (zipfile.BadZipFile, OSError):
        return False
    return not any("/code/" in name or name.endswith((f"/extra/{INFO_ENTRY}", ".so")) for name in names)


def _exported_on_the_way(
    model: Path, species: IntArray | None, periodic: bool, precision: str | None, device: str
) -> ExportedPotential:
    from piwsl.export.exporter import Exporter
    from piwsl.export.trained_file import check_elements

    exporter = Exporter([model], PRECISIONS[precision] if precision else None, device)
    same: list[Frame] = []
    if species is not None:
        check_elements(exporter.models[0], species.tolist())
        found = exporter.models[0].check_frames
        same = [one for one in found if one.species.tolist() == species.tolist() and not any(one.pbc)]
    with TemporaryDirectory() as folder:
        target = Path(folder) / EXPORTED_NAMES[0]
        if same and not periodic:
            exporter.openmm(same[0], target)
        else:
            exporter.general(target)
        return replace(load_exported(target, device), path=model)
