"""The potential `piwsl` of openmm-ml: ``MLPotential('piwsl', modelPath='model_openmm.pt')``.

openmm-ml imports this module to list its potentials whenever openmm-ml itself is imported. Only the standard library
is imported at module level, so that a missing or broken package affects only this potential, and only when the
potential is used.
"""

from typing import Any


class PiwslPotentialFactory:
    """Factory that openmm-ml calls to create the potential."""

    def createImpl(self, name: str, **args: Any) -> Any:
        """Create the potential for one model file. For arguments and errors, see `PiwslPotential`."""
        from openmmml.mlpotential import MLPotentialImpl

        from piwsl.interfaces.openmm_ml_potential import PiwslPotential

        # The base class provides methods that later versions of openmm-ml may call.
        return type("PiwslPotentialImpl", (PiwslPotential, MLPotentialImpl), {})(name, **args)
