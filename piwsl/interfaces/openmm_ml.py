"""The potential `piwsl` of openmm-ml: ``MLPotential('piwsl', modelPath='model_openmm.pt')``.

openmm-ml imports this module to list its potentials, whenever it is imported itself. Only the standard library is
imported at the top, so that a missing or broken package affects this potential alone, and only where it is used.
"""

from typing import Any


class PiwslPotentialFactory:
    """Factory that openmm-ml calls to create the potential."""

    def createImpl(self, name: str, **args: Any) -> Any:
        """Create the potential of one model file; arguments and errors as in `PiwslPotential`."""
        from openmmml.mlpotential import MLPotentialImpl

        from piwsl.interfaces.openmm_ml_potential import PiwslPotential

        # The base class supplies methods that later versions of openmm-ml may call.
        return type("PiwslPotentialImpl", (PiwslPotential, MLPotentialImpl), {})(name, **args)
