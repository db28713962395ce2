"""Fidelity of a student: how much its forces differ from those of its teachers in its own dynamics.

A student that walls keep intact may still be wrong. Its errors on frames of the teachers do not show where its own
dynamics leads, but the teachers can be asked there, without further labels of the reference method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from piwsl.data.frames import Frame, FrameSet
from piwsl.learning.committee import predict_frames
from piwsl.structures.files import atom_name
from piwsl.typing import FloatArray

_COMPARED = 200  # frames
_WORST = 50
_NAMED = 40  # atoms of the largest structure whose atoms are told apart


@dataclass(frozen=True)
class Fidelity:
    """Comparison of a student with its teachers.

    Attributes:
        force_mae: Mean absolute difference of the force components, eV/angstrom.
        by_atom: Likewise for each atom, by name (element and index); for each element of a large structure.
        worst: Frames with the largest differences, without labels.
    """

    force_mae: float
    by_atom: dict[str, float]
    worst: list[Frame]


def fidelity(student: Path, teachers: Sequence[Path], frames: Sequence[Frame]) -> Fidelity | None:
    """Compare a student with its teachers on frames of its own dynamics.

    Args:
        student: Trained file of the student.
        teachers: Trained files of the teachers, whose mean is compared.
        frames: Frames in the order of time, of which evenly spaced ones are used.

    Returns:
        The comparison; None without frames.
    """
    if not frames:
        return None
    places = np.unique(np.linspace(0, len(frames) - 1, _COMPARED).round().astype(int))
    compared = FrameSet([frames[int(place)].without_labels() for place in places])
    pairs = zip(predict_frames([student], compared).forces, predict_frames(teachers, compared).forces, strict=True)
    differences = np.stack([np.abs(own - theirs).mean(1) for own, theirs in pairs])  # (frames, atoms)
    order = np.argsort(-differences.mean(1), kind="stable")[:_WORST]
    worst = [compared[int(place)] for place in np.sort(order)]
    return Fidelity(float(differences.mean()), by_atom(compared[0].atoms(), differences.mean(0)), worst)


def by_atom(structure: Atoms, differences: FloatArray) -> dict[str, float]:
    """Return differences of atoms (n,) by name, or their means by element for a large structure."""
    if len(structure) <= _NAMED:
        return {atom_name(structure, index): float(value) for index, value in enumerate(differences)}
    species = structure.numbers
    return {
        chemical_symbols[int(number)]: float(differences[species == number].mean()) for number in np.unique(species)
    }
