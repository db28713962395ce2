import pytest
from ase.build import molecule

from piwsl.errors import ElementError
from piwsl.export.evaluation import check_species


def test_species_of_another_order_or_molecule():
    ethanol = molecule("CH3CH2OH")
    numbers = ethanol.numbers.tolist()
    check_species(ethanol.numbers, numbers, "f.pt")
    with pytest.raises(
        ElementError, match=r"f\.pt: atom 0 is C, but the potential was exported with H: the order of the atoms differs"
    ):
        check_species(ethanol.numbers, numbers[::-1], "f.pt")
    with pytest.raises(ElementError, match="exported for 8 atoms, but the structure has 9"):
        check_species(ethanol.numbers, numbers[:-1], "f.pt")
    other = [7, *numbers[1:]]
    with pytest.raises(ElementError, match="atom 0 is C, but the potential was exported with N"):
        check_species(ethanol.numbers, other, "f.pt")
