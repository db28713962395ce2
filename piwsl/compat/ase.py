"""Private interfaces of ASE: thermostat and barostat chains. Each function states the latest version tested."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.units import kB

# Attribute of the dynamics that holds a chain, and the attributes of the chain that hold its variables.
_CHAINS = {"_thermostat": ("_eta", "_p_eta"), "_barostat": ("_xi", "_p_xi")}


def set_thermostat(dynamics: Any, temperature: float, degrees_of_freedom: int) -> None:
    """Set the temperature of a Nose-Hoover chain by changing the masses of its beads, with unchanged bead velocities.

    ASE couples the first bead to 3 N k T and counts all coordinates. N is set to a third of the degrees of freedom, so
    that the overall motion that was removed is not counted. Tested with ASE 3.29.

    Args:
        dynamics: `NoseHooverChainNVT` or `IsotropicMTKNPT`.
        temperature: Temperature, K.
        degrees_of_freedom: Number of kinetic degrees of freedom.
    """
    thermostat = dynamics._thermostat
    thermostat._num_atoms_global = degrees_of_freedom / 3
    thermostat._kT = kB * temperature
    mass = thermostat._kT * thermostat._tdamp**2
    rates = thermostat._p_eta / thermostat._Q
    thermostat._Q[:] = mass
    thermostat._Q[0] = degrees_of_freedom * mass
    thermostat._p_eta = rates * thermostat._Q


def set_barostat(dynamics: Any, temperature: float, degrees_of_freedom: int) -> None:
    """Set the temperature of the barostat of `IsotropicMTKNPT`.

    The arguments are the same as for `set_thermostat`. Tested with ASE 3.29.
    """
    barostat = dynamics._barostat
    barostat._kT = dynamics._kT = kB * temperature
    dynamics._num_atoms_global = barostat._num_atoms_global = degrees_of_freedom / 3
    mass = barostat._kT * barostat._pdamp**2
    rate, rates = dynamics._p_eps / barostat._W, barostat._p_xi / barostat._R
    barostat._W = (degrees_of_freedom + 3) * mass
    barostat._R[:] = mass
    barostat._R[0] = 9 * mass
    dynamics._p_eps, barostat._p_xi = rate * barostat._W, rates * barostat._R


def hold_atoms(dynamics: Any, fixed: npt.NDArray[np.bool_]) -> None:
    """Set the forces on fixed atoms to zero in a `NoseHooverChainNVT`, which does not apply constraints.

    Otherwise these forces would change the integrator's copy of the momenta, from which the chain takes the kinetic
    energy. ``fixed`` is a mask (n,). Tested with ASE 3.29.
    """
    forces_of_ase = dynamics._get_forces

    def forces() -> npt.NDArray[np.float64]:
        return np.where(fixed[:, None], 0.0, forces_of_ase())

    dynamics._get_forces = forces


def chain_variables(dynamics: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the variables of the chains and, with a barostat, the strain and the reference cell.

    Tested with ASE 3.29.

    Args:
        dynamics: `NoseHooverChainNVT` or `IsotropicMTKNPT`.
    """
    variables = {
        f"{chain}.{name}": np.array(getattr(getattr(dynamics, chain), name))
        for chain, names in _CHAINS.items()
        if hasattr(dynamics, chain)
        for name in names
    }
    if hasattr(dynamics, "_barostat"):
        strain = {"eps": dynamics._eps, "p_eps": dynamics._p_eps, "cell0": dynamics._cell0}
        variables |= {name: np.array(value) for name, value in strain.items()}
    return variables


def set_chain_variables(dynamics: Any, atoms: Atoms, variables: dict[str, npt.NDArray[Any]]) -> None:
    """Restore the variables returned by `chain_variables`, and update ASE's copies of positions and momenta.

    Tested with ASE 3.29.
    """
    for chain, names in _CHAINS.items():
        if hasattr(dynamics, chain):
            for name in names:
                setattr(getattr(dynamics, chain), name, np.array(variables[f"{chain}.{name}"]))
    dynamics._q, dynamics._p = atoms.get_positions(), atoms.get_momenta()
    if hasattr(dynamics, "_barostat"):
        dynamics._eps, dynamics._p_eps = float(variables["eps"]), float(variables["p_eps"])
        dynamics._cell0 = np.array(variables["cell0"])
        dynamics._volume0 = abs(float(np.linalg.det(dynamics._cell0)))
