"""Structures from SMILES."""

import sys

import pytest

from piwsl.errors import ConfigError, MissingDependencyError
from piwsl.learning.smiles import structure_of_smiles

pytest.importorskip("rdkit")


@pytest.mark.parametrize(
    ("smiles", "formula", "charge", "unpaired"),
    [
        ("CC(=O)Oc1ccccc1C(=O)O", "C9H8O4", 0, 0),
        ("C[NH3+]", "CH6N", 1, 0),
        ("[CH3]", "CH3", 0, 1),
        ("O=C([O-])CS", "C2H3O2S", -1, 0),
    ],
)
def test_structures_state_charge_and_spin(smiles, formula, charge, unpaired):
    atoms = structure_of_smiles(smiles)
    assert atoms.get_chemical_formula("hill") == formula
    assert (atoms.info["charge"], atoms.info["unpaired_electrons"]) == (charge, unpaired)
    distances = atoms.get_all_distances()
    assert distances[distances > 0].min() > 0.8


def test_equal_smiles_give_equal_structures():
    assert (structure_of_smiles("CCO").positions == structure_of_smiles("CCO").positions).all()


@pytest.mark.parametrize(
    ("smiles", "message"), [("C1CC", "not a valid SMILES"), ("C.O", "several molecules"), ("C(C)(C)(C)(C)C", "valid")]
)
def test_mistakes_are_one_line_and_nothing_is_printed(smiles, message, capfd):
    with pytest.raises(ConfigError, match=message) as error:
        structure_of_smiles(smiles)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_without_rdkit_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'piwsl\[smiles\]'"):
        structure_of_smiles("CCO")
