"""Stop a run of molecular dynamics by a rule of your own: when a chain has curled up.

python own_stop_rule.py hexane_openmm.pt hexane.xyz
"""

import sys

import numpy as np
from ase import Atoms

import piwsl
from piwsl.md import Energies, Snapshot, Violation, name_atoms

SHORTEST = 0.9  # of the distance at the start


class CurledUp:
    """The two heavy atoms that are farthest apart at the start keep their distance."""

    name = "curled-up"

    def __init__(self, structure: Atoms) -> None:
        heavy = np.flatnonzero(structure.numbers > 1)
        distances = structure.get_all_distances()[np.ix_(heavy, heavy)]
        first, last = np.unravel_index(distances.argmax(), distances.shape)
        self.structure = structure
        self.ends = [int(heavy[first]), int(heavy[last])]
        self.limit = SHORTEST * float(distances.max())

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return what is wrong at a step, or None; energies (eV) are None between reports."""
        first, last = snapshot.positions[self.ends]
        distance = float(np.linalg.norm(last - first))
        if distance >= self.limit:
            return None
        return Violation(
            rule=self.name,
            value=distance,
            limit=self.limit,
            unit="angstrom",
            atoms=name_atoms(self.structure, self.ends),
            step=step,
            message=f"step {step}: the ends are {distance:.2f} angstrom apart (limit {self.limit:.2f})",
        )


def main(model: str, structure: str) -> None:
    try:
        run = piwsl.run_md(
            structure, model, output="run", steps=20_000, temperature=500.0, stop=["bond:0.6"], stop_rules=[CurledUp]
        )
    except piwsl.UnphysicalError as error:
        print(error)
    else:
        print(f"{run.result} after {run.steps} steps")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
