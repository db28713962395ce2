"""What a loss term wants to know from a model: energies, forces or works at the points of a batch.

Points are counted: 0 is the structures themselves, 1, 2, ... are their displaced copies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

ORIGIN, FIRST, SECOND = 0, 1, 2


class Work(NamedTuple):
    """sum_i (x_end,i - x_start,i) . F_i(point): what the forces at a point do along a step between two points."""

    point: int
    start: int
    end: int

    @property
    def reverse(self) -> "Work":
        """The work along the step back: the same number with the other sign."""
        return Work(self.point, self.end, self.start)


@dataclass(frozen=True)
class PredictionRequest:
    """What is wanted at which points; stress is wanted only of the structures themselves."""

    energies: frozenset[int] = frozenset()
    forces: frozenset[int] = frozenset()
    works: frozenset[Work] = frozenset()
    stress: bool = False

    @property
    def copies(self) -> int:
        """Number of displaced copies needed."""
        points = {*self.energies, *self.forces}
        for work in self.works:
            points.update(work)
        return max(points, default=0)

    @property
    def points(self) -> list[int]:
        """Points where the model is asked."""
        return sorted({*self.energies, *self.forces, *(work.point for work in self.works), *([0] * self.stress)})

    @classmethod
    def union(cls, requests: Iterable["PredictionRequest"]) -> "PredictionRequest":
        """Everything that any of the requests wants."""
        requests = list(requests)
        return cls(
            energies=frozenset().union(*(request.energies for request in requests)),
            forces=frozenset().union(*(request.forces for request in requests)),
            works=frozenset().union(*(request.works for request in requests)),
            stress=any(request.stress for request in requests),
        )
