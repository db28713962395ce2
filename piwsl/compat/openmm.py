"""Private interfaces of OpenMM. Each function names the version it was last seen to work with."""

from typing import Any

import numpy as np

from piwsl.typing import FloatArray


def plain_value(quantity: Any) -> Any:
    """Return the number or array of a quantity in its own unit: nm, ps, kJ/mol and their combinations.

    ``value_in_unit`` copies arrays; in a run of a small molecule that takes longer than a step. Seen with OpenMM 8.6
    (``Quantity._value``).
    """
    return quantity._value


def state_positions(state: Any) -> FloatArray:
    """Return the positions (n, 3) of a State in nm.

    ``State.getPositions`` creates an object with units, which takes 0.1 ms per step. Seen with OpenMM 8.6
    (``State._getNumParticles``, ``State._getVectorAsNumpy``).
    """
    values = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(state.Positions, values)
    return values
