"""Private interfaces of OpenMM. Each function states the latest version tested."""

from typing import Any

import numpy as np

from piwsl.typing import FloatArray


def plain_value(quantity: Any) -> Any:
    """Return the number or array of a quantity in its stored unit, a combination of nm, ps and kJ/mol.

    ``value_in_unit`` copies arrays. For a small molecule the copy takes longer than an MD step. Tested with OpenMM 8.6
    (``Quantity._value``).
    """
    return quantity._value


def state_positions(state: Any) -> FloatArray:
    """Return the positions (n, 3) of a State in nm.

    ``State.getPositions`` creates an object with units and takes 0.1 ms per step. Tested with OpenMM 8.6
    (``State._getNumParticles``, ``State._getVectorAsNumpy``).
    """
    values = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(state.Positions, values)
    return values
