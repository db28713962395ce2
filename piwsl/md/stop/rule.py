"""What a stop rule reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase import Atoms


@dataclass(frozen=True)
class Violation:
    """What left the range of physics. ``value`` is None where it is not a finite number."""

    rule: str
    value: float | None
    limit: float | None
    unit: str
    atoms: list[dict[str, Any]]  # index (from 0) and element
    step: int
    message: str

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)


def name_atoms(structure: Atoms, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Atoms as a violation lists them."""
    return [{"index": int(index), "element": structure.symbols[index]} for index in indices]
