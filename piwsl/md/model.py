"""The potential of a run: an exported file as it is, a trained file exported on the fly."""

import zipfile
from pathlib import Path

from ase import Atoms

from piwsl.errors import ModelFileError
from piwsl.export.exported import INFO_ENTRY, read_exported_info

EXPORTED_NAME = "exported.pt"


def prepare_model(model: Path, structure: Atoms, directory: Path) -> Path:
    """The exported file to run: ``model`` itself, or the OpenMM form made of it in ``directory``.

    Raises:
        ModelFileError: the file is missing, damaged or not ours.
        ElementError: the model was not made for an element of the structure.
    """
    if _is_trained(model):
        from piwsl.data.frames import Frame
        from piwsl.export.torchscript import export_openmm

        target = directory / EXPORTED_NAME
        export_openmm(model, structure.numbers.tolist(), target, frames=[Frame.from_atoms(structure)])
        return target
    read_exported_info(model)
    return model


def _is_trained(model: Path) -> bool:
    """A zip archive as `torch.save` writes it: no code inside."""
    try:
        with zipfile.ZipFile(model) as archive:
            names = archive.namelist()
    except FileNotFoundError:
        raise ModelFileError(f"{model}: no such file") from None
    except (zipfile.BadZipFile, OSError):
        return False
    return not any("/code/" in name or name.endswith(f"/extra/{INFO_ENTRY}") for name in names)
