import ase.units
import pytest

from piwsl import units
from piwsl.errors import ConfigError


def test_against_published_values():
    assert 1.0 / units.KJ_PER_MOL == pytest.approx(96.48533212331, rel=1e-12)
    assert 1.0 / units.KCAL_PER_MOL == pytest.approx(23.0605478306, rel=1e-10)
    assert units.HARTREE / units.KCAL_PER_MOL == pytest.approx(627.509474, rel=1e-8)
    assert units.BOLTZMANN == pytest.approx(8.617333262e-5, rel=1e-9)


def test_against_ase():
    assert pytest.approx(ase.units.fs, rel=1e-6) == 1.0 / units.ASE_TIME
    assert pytest.approx(ase.units.kB, rel=1e-6) == units.BOLTZMANN
    assert pytest.approx(ase.units.Bohr, rel=1e-8) == units.BOHR
    assert pytest.approx(ase.units.Bohr, rel=1e-15) == units.ASE_BOHR
    assert pytest.approx(ase.units.Hartree, rel=1e-15) == units.ASE_HARTREE
    assert units.ASE_COULOMB == pytest.approx(14.3996453520, rel=1e-11)


def test_unit_names():
    kcal = units.parse_units("kcal/mol")
    assert (kcal.energy, kcal.length) == (units.KCAL_PER_MOL, 1.0)
    atomic = units.parse_units("hartree, bohr")
    assert atomic.force == pytest.approx(51.422, rel=1e-4)
    for text in ("furlong", "eV, parsec"):
        with pytest.raises(ConfigError, match="unknown"):
            units.parse_units(text)
