"""What PythonForce calls at every step."""

import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from piwsl.errors import PiwslError
from piwsl.export.evaluation import PBC, bind
from piwsl.export.exported import ExportedPotential, load_exported
from piwsl.typing import FloatArray, IntArray
from piwsl.units import KJ_PER_MOL, NANOMETER


class ForceCallable:
    """An OpenMM state to energy (kJ/mol) and forces (n, 3) in kJ/mol/nm.

    It can be pickled, as serialising a System does: the exported file travels inside.
    """

    def __init__(self, potential: ExportedPotential, species: IntArray, pbc: PBC) -> None:
        self._potential = potential
        self._species = np.asarray(species)
        self._pbc = pbc
        self._bound = bind(potential, self._species, pbc)

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        """Energy and forces at the positions of a state.

        Raises:
            RuntimeError: whatever went wrong, with its own text; OpenMM passes on nothing else of an exception.
        """
        try:
            positions = state_positions(state) * NANOMETER
            cell = state.getPeriodicBoxVectors(asNumpy=True)._value * NANOMETER if any(self._pbc) else None
            found = self._bound(positions, cell)
        except PiwslError as error:
            raise RuntimeError(str(error)) from error
        except Exception as error:
            raise RuntimeError("".join(traceback.format_exception(error))) from error
        return found.energy / KJ_PER_MOL, found.forces * (NANOMETER / KJ_PER_MOL)

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
        with TemporaryDirectory() as folder:
            path = Path(folder) / state["name"]
            path.write_bytes(state["file"])
            self.__init__(load_exported(path, device), np.array(state["species"]), state["pbc"])  # type: ignore[misc]


def state_positions(state: Any) -> FloatArray:
    """Positions (n, 3) in nm; `State.getPositions` makes an object with units at every step, which takes 0.1 ms."""
    values = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(state.Positions, values)
    return values
