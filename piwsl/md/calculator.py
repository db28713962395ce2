"""The ASE calculator of a run."""

from ase import Atoms

from piwsl.interfaces.ase import PiwslCalculator

__all__ = ["RunCalculator"]


class RunCalculator(PiwslCalculator):
    """Calculator that leaves the training domain to the run, which compares its start structure once."""

    def _check_domain(self, structure: Atoms) -> None:
        pass
