"""Random models as trained and exported files, each made once a session."""

from pathlib import Path
from typing import Any

from piwsl.export.exporter import Exporter
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide


class Exports:
    """Make each file at its first use and return its path; no test may change it.

    Options are those of `tests.support.models_for_tests.trained_model`; networks are PaiNN in float64 by default.

    Args:
        folder: receives a directory for each model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[tuple[tuple[str, Any], ...], Path] = {}

    def trained(self, **options: Any) -> Path:
        """Return the trained file of a model."""
        key = tuple(sorted({"dtype": "float64", **options}.items()))
        if key not in self.models:
            directory = self.folder / f"model-{len(self.models)}"
            directory.mkdir()
            self.models[key] = trained_file(directory / "model.pt", **dict(key))
        return self.models[key]

    def general(self, **options: Any) -> Path:
        """Return the exported file for any structure of H, C and O."""
        model = self.trained(**options)
        path = model.with_name("general.pt")
        if not path.exists():
            Exporter([model]).general(path)
        return path

    def openmm(self, copies: int = 1, **options: Any) -> Path:
        """Return the exported file for some copies of ethanol."""
        model = self.trained(**options)
        path = model.with_name(f"ethanol-{copies}.pt")
        if not path.exists():
            Exporter([model]).openmm(frame("CH3CH2OH"), path, copies=copies)
        return path

    def cell(self, **options: Any) -> Path:
        """Return the exported file for the small cell `oxide`."""
        model = self.trained(**options)
        path = model.with_name("cell.pt")
        if not path.exists():
            Exporter([model]).openmm(oxide(), path)
        return path
