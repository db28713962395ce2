"""Checks that a model supports a structure, and the order of the atoms in its training data."""

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from ase.symbols import Symbols

from piwsl.data.frames import FrameSet
from piwsl.errors import ElementError
from piwsl.models.priors.walls import WallRanges
from piwsl.structures.bonds import Bonds
from piwsl.structures.matching import map_atoms
from piwsl.typing import FloatArray, IntArray


def check_elements(known: Sequence[int], species: Sequence[int], source: object = "") -> None:
    """Raise an error if a structure contains an element that a model was not trained on.

    Args:
        known: Atomic numbers that the model was trained on.
        species: Atomic numbers of the structure.
        source: File of the model, for the message.

    Raises:
        ElementError: An element is not supported. The message lists the supported elements.
    """
    unknown = sorted({int(number) for number in species} - set(known))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        supported = " ".join(chemical_symbols[z] for z in known)
        place = f"{source}: " if source else ""
        raise ElementError(
            f"{place}the model was not trained on {names}, only on {supported}: train a model on these elements"
        )


def check_molecule(molecule: Sequence[int] | None, species: Sequence[int], periodic: bool) -> None:
    """Raise an error if a model with walls of one molecule does not support atoms in their order.

    Args:
        molecule: Atomic numbers of the molecule in their order; None for a model without such walls.
        species: Atomic numbers of the structure.
        periodic: Whether the structure is periodic.

    Raises:
        ElementError: The structure is another molecule, has its atoms in another order, or is periodic.
    """
    if molecule is None:
        return
    check_formula(molecule, species, periodic)
    if list(species) != list(molecule):
        raise _refusal(molecule, "the order of its atoms differs")


def check_formula(molecule: Sequence[int], species: Sequence[int], periodic: bool) -> None:
    """Raise an `ElementError` unless a structure is the molecule of some walls, in any order, and not periodic."""
    if sorted(species) != sorted(molecule):
        raise _refusal(molecule, f"got {Symbols(list(species)).get_chemical_formula()}")
    if periodic:
        raise _refusal(molecule, "the structure is periodic")


def trained_order(
    walls: WallRanges | str, species: Sequence[int], positions: FloatArray, periodic: bool
) -> IntArray | None:
    """Return the order of the atoms of a structure in the training data of a model with walls of one molecule.

    The bonds of the structure are compared with those of the molecule. A structure with the species of the training
    data in their order, whose bonds are those of no other order, such as one with a broken bond, has this order.

    Args:
        walls: Walls of the model.
        species: Atomic numbers (n,) of the structure.
        positions: Positions (n, 3), angstrom.
        periodic: Whether the structure is periodic.

    Returns:
        For each atom of the training data, its index in the structure; None if the order is the same, or any order is
        supported.

    Raises:
        ElementError: The structure is another molecule, or is periodic, or its atoms are in an order that its bonds do
            not determine.
    """
    if not isinstance(walls, WallRanges) or walls.molecule is None:
        return None
    check_formula(walls.molecule, species, periodic)
    pairs = np.array([pair[:2] for pair in walls.bonds], dtype=np.int64).reshape(-1, 2)
    bonds = Bonds(pairs, np.zeros(len(pairs)), ("",) * len(pairs))
    order = map_atoms(np.asarray(species), positions, np.array(walls.molecule), bonds)
    if order is None:
        check_molecule(walls.molecule, species, periodic)
        return None
    return None if np.array_equal(order, np.arange(len(order))) else order


def in_trained_order(walls: WallRanges | str, frames: FrameSet) -> tuple[FrameSet, list[IntArray] | None]:
    """Return frames with their atoms in the order of the training data of a model with walls of one molecule.

    Args:
        walls: Walls of the model.
        frames: Frames.

    Returns:
        The frames, and for each frame the index of its atom for each atom of the training data; None if all frames have
        the order of the training data.

    Raises:
        ElementError: A frame is not supported, see `trained_order`.
    """
    if not isinstance(walls, WallRanges) or walls.molecule is None:
        return frames, None
    unchanged = np.arange(len(walls.molecule))
    found = (trained_order(walls, frame.species.tolist(), frame.positions, any(frame.pbc)) for frame in frames)
    orders = [unchanged if order is None else order for order in found]
    if all(order is unchanged for order in orders):
        return frames, None
    reordered = [frame.reordered(order) for frame, order in zip(frames, orders, strict=True)]
    return FrameSet(reordered, frames.source, frames.notes, frames.files, frames.names), orders


def _refusal(molecule: Sequence[int], difference: str) -> ElementError:
    formula = Symbols(list(molecule)).get_chemical_formula()
    return ElementError(
        f"the model has walls for one molecule, {formula}, with the atoms in the order of its training data "
        f"(model.walls), and {difference}: use this molecule in this order, or train with model.walls: elements"
    )
