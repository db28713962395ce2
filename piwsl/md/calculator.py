"""The ASE calculator of a run."""

from ase import Atoms

from piwsl.interfaces.ase import PiwslCalculator
from piwsl.structures.close_pairs import ClosePairs

__all__ = ["RunCalculator"]


class RunCalculator(PiwslCalculator):
    """Calculator that leaves the training domain to the run, which compares its start structure once.

    The stop rules of the run check close pairs and atoms that escape.
    """

    def _check_domain(self, structure: Atoms) -> None:
        pass

    def _close_pairs(self, structure: Atoms) -> ClosePairs | None:
        return None

    def _check_reach(self, structure: Atoms) -> None:
        pass
