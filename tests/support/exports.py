"""Random models as trained and exported files, each made once a session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from piwsl.export.exporter import Exporter
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide

SUFFIXES = {"torchscript": ".pt", "aotinductor": ".pt2"}
# Compiling takes half a minute even for a small network.
SMALL = {"network": "schnet"}


class Exports:
    """Make each file at its first use and return its path; no test may change it.

    Options are those of `tests.support.models_for_tests.trained_model`; networks are PaiNN of one layer and 8 channels
    in float64 by default.

    Args:
        folder: receives a directory for each model. Test processes share the files in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trained(self, **options: Any) -> Path:
        """Return the trained file of a model."""
        options = {"dtype": "float64", "layers": 1, "channels": 8, **options}
        name = "-".join(f"{key}-{options[key]}" for key in sorted(options))
        return self._made(self.folder / name / "model.pt", lambda path: trained_file(path, **options))

    def general(self, form: str = "torchscript", **options: Any) -> Path:
        """Return the exported file for any structure of H, C and O."""
        model = self.trained(**options)
        path = model.with_name("general" + SUFFIXES[form])
        return self._made(path, lambda path: Exporter([model]).general(path, form))

    def openmm(self, copies: int = 1, form: str = "torchscript", **options: Any) -> Path:
        """Return the exported file for some copies of ethanol."""
        model = self.trained(**options)
        path = model.with_name(f"ethanol-{copies}" + SUFFIXES[form])
        return self._made(path, lambda path: Exporter([model]).openmm(frame("CH3CH2OH"), path, form, copies=copies))

    def compiled_general(self) -> Path:
        """Return the compiled file of a small SchNet for any structure of H, C and O."""
        return self.general("aotinductor", **SMALL)

    def compiled_molecule(self, copies: int = 1) -> Path:
        """Return the compiled file of a small SchNet for some copies of ethanol."""
        return self.openmm(copies, "aotinductor", **SMALL)

    def cell(self, **options: Any) -> Path:
        """Return the exported file for the small cell `oxide`."""
        model = self.trained(**options)
        return self._made(model.with_name("cell.pt"), lambda path: Exporter([model]).openmm(oxide(), path))

    def _made(self, path: Path, make: Callable[[Path], object]) -> Path:
        """Return the path of a file that one of the processes makes."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(path.name + ".lock")):
                if not path.exists():
                    make(path)
        return path
