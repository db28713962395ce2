"""Checks that a model supports a structure."""

from collections.abc import Sequence

from ase.data import chemical_symbols
from ase.symbols import Symbols

from piwsl.errors import ElementError


def check_elements(known: Sequence[int], species: Sequence[int]) -> None:
    """Raise an error if a structure contains an element that a model was not trained on.

    Args:
        known: Atomic numbers that the model was trained on.
        species: Atomic numbers of the structure.

    Raises:
        ElementError: An element is not supported. The message lists the supported elements.
    """
    unknown = sorted(set(species) - set(known))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        supported = " ".join(chemical_symbols[z] for z in known)
        raise ElementError(
            f"the model was not trained on {names}, only on {supported}: train a model on these elements"
        )


def check_molecule(molecule: Sequence[int] | None, species: Sequence[int], periodic: bool) -> None:
    """Raise an error if a model with walls of one molecule does not support a structure.

    Args:
        molecule: Atomic numbers of the molecule in their order; None for a model without such walls.
        species: Atomic numbers of the structure.
        periodic: Whether the structure is periodic.

    Raises:
        ElementError: The structure is another molecule, has its atoms in another order, or is periodic.
    """
    if molecule is None or (list(species) == list(molecule) and not periodic):
        return
    here, there = (Symbols(list(numbers)).get_chemical_formula() for numbers in (species, molecule))
    difference = f"got {here}" if here != there else "the order of its atoms differs"
    if list(species) == list(molecule):
        difference = "the structure is periodic"
    raise ElementError(
        f"the model has walls for one molecule, {there}, with the atoms in the order of its training data "
        f"(model.walls), and {difference}: use this molecule in this order, or train with model.walls: elements"
    )
