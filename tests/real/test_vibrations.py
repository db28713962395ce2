"""Harmonic frequencies of the bundled aspirin: second derivatives, which no loss has seen."""

import numpy as np
import pytest
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from piwsl import PiwslCalculator
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.systems import named_system

pytestmark = pytest.mark.slow

ASPIRIN = named_system("aspirin")


def frequencies(calculator, folder):
    """All 3 N frequencies (cm^-1, imaginary ones complex, in rising order) at the minimum of a calculator."""
    atoms = ASPIRIN.structure
    atoms.calc = calculator
    assert BFGS(atoms, logfile=None).run(fmax=1e-3, steps=300)
    vibrations = Vibrations(atoms, name=folder, delta=0.01)
    vibrations.run()
    return vibrations.get_frequencies()


def test_frequencies_are_those_of_the_reference(tmp_path):
    pytest.importorskip("tblite")
    model = frequencies(PiwslCalculator(ASPIRIN.exported), tmp_path / "model")
    reference = frequencies(reference_calculator("gfn2-xtb"), tmp_path / "reference")
    for found in (model, reference):
        assert len(found) == 63
        # Translations and rotations; measured: below 5 cm^-1.
        assert np.abs(found[:6]).max() < 12
        # A minimum: none of the others is imaginary. The lowest is at 46, that of the reference at 39 cm^-1.
        assert np.abs(found[6:].imag).max() == 0
        assert found[6].real > 25
    differences = np.abs(model[6:].real - reference[6:].real)
    # Measured: 2.8 in the mean and 10.6 at most, of frequencies up to 3450 cm^-1.
    assert differences.mean() < 5
    assert differences.max() < 20
