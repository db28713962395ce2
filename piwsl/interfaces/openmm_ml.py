"""The potential `piwsl` of openmm-ml: ``MLPotential('piwsl', modelPath='model_openmm.pt')``.

openmm-ml imports this module whenever it is imported itself, to list its potentials. So nothing is imported at the top
but the standard library: what is missing or broken may stop this potential where it is used, never all the others.
"""

from typing import Any


class PiwslPotentialFactory:
    """What openmm-ml makes the potential with."""

    def createImpl(self, name: str, **args: Any) -> Any:
        """The potential of one model file; arguments and errors as `PiwslPotential`."""
        from openmmml.mlpotential import MLPotentialImpl

        from piwsl.interfaces.openmm_ml_potential import PiwslPotential

        # The base class stands in for methods that later versions of openmm-ml may ask for.
        return type("PiwslPotentialImpl", (PiwslPotential, MLPotentialImpl), {})(name, **args)
