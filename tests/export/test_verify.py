from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from piwsl.errors import ExportError, ModelFileError
from piwsl.export.evaluation import Evaluation, bind
from piwsl.export.exported_file import load_exported
from piwsl.export.verify import Expected, expectations, parity_variants, verify, verify_here
from tests.support.molecules import frame

WATER = frame("H2O")


@pytest.fixture(scope="module")
def exported(exports):
    return load_exported(exports.general())


def as_it_is(potential):
    return lambda made: bind(potential, made.species, made.pbc)(made.positions)


def expected_of(yardstick):
    return expectations([WATER], yardstick, yardstick)


def test_what_agrees_passes(exported):
    result = verify(exported, expected_of(as_it_is(exported)))
    assert result.passed
    assert result.energy_per_atom == 0.0 or result.energy_per_atom < 1e-12
    assert 0.0 < result.finite_difference < 1e-5
    assert 0.0 < result.finite_strain < 1e-5
    assert len(result.lines()) == 4


@pytest.mark.parametrize("wrong", ["energy", "forces", "derivative", "virial"])
def test_each_kind_of_lie_is_found(exported, wrong):
    def lying(made):
        said = as_it_is(exported)(made)
        if wrong == "energy":
            return replace(said, energy=said.energy + 1e-5)
        if wrong == "forces":
            return replace(said, forces=said.forces + 1e-5)
        if wrong == "virial":
            return replace(said, virial=said.virial + 0.01)
        # Agrees with a yardstick that is as wrong, not with its own energy.
        return replace(said, forces=1.1 * said.forces)

    with pytest.raises(ExportError, match="nothing is written"):
        verify(exported, expected_of(lying if wrong == "derivative" else as_it_is(exported)), lambda _: [lying])


def test_nan_never_passes(exported):
    nan = Evaluation(float("nan"), np.full((3, 3), np.nan), np.full((3, 3), np.nan))
    with pytest.raises(ExportError, match="nan"):
        verify(exported, expected_of(as_it_is(exported)), lambda _: [lambda made: nan])


@pytest.mark.parametrize(
    ("precise", "advice"),
    [(1.0, "float32 is too narrow for it, so export it in float64"), (float("nan"), "so train it again")],
)
def test_a_model_that_gives_nan_is_no_bug_of_the_export(precise, advice):
    def gives(value):
        return lambda made: Evaluation(value, np.full((3, 3), value))

    with pytest.raises(ExportError, match=rf"^the model itself gives .* \(energy of H2O: nan eV\): .*{advice}"):
        expectations([WATER], gives(float("nan")), gives(precise))


def test_something_must_be_compared(exported):
    with pytest.raises(ExportError, match="no structures for the verification"):
        verify(exported, [])


def test_a_file_that_gives_other_numbers_where_it_is_loaded(exported):
    assert verify_here(exported).passed
    check = [{**entry, "energy": entry["energy"] + 0.1} for entry in exported.info["check"]]
    with pytest.raises(ModelFileError, match="the results on this machine differ"):
        verify_here(replace(exported, info={**exported.info, "check": check}))


def test_parity_variants_have_both_parities():
    sizes = [len(made.species) for made in parity_variants([WATER, frame("CH3CH2OH")])]
    assert sizes == [3, 2, 9, 8]


def test_what_rounding_explains_is_no_difference(exported):
    """In float32 twice the difference of the eager model from itself in float64 is allowed, and no more."""
    said = as_it_is(exported)(WATER)
    off = replace(said, forces=said.forces + 3e-3)  # (float64: at most 1e-8)
    found = verify(exported, [Expected(WATER, off, 1.5e-3 + 1e-12)])
    assert found.force < 1e-9
    with pytest.raises(ExportError, match="nothing is written"):
        verify(exported, [Expected(WATER, off, 1.4e-3)])


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.01, False)])
def test_the_error_of_a_finite_difference_at_a_steep_wall_is_no_difference(factor, passes):
    """A wall of 20 eV that falls by half in 0.03 A: the error of the central difference alone is 0.3 eV/A."""

    def wall(made):
        vector = made.positions[1] - made.positions[0]
        distance = np.linalg.norm(vector)
        energy = 20.0 * np.exp(-20.0 * (distance - 0.5))
        forces = np.zeros((3, 3))
        forces[1] = 20.0 * energy * vector / distance
        forces[0] = -forces[1]
        return Evaluation(float(energy), factor * forces, None)

    close = frame("H2O", rattle=0.0)
    close.positions[1] = close.positions[0] + [0.0, 0.0, 0.5]
    like_a_file = SimpleNamespace(info={"dtype": "float32"}, has_stress=True)
    expected = [Expected(close, wall(close), 0.0)]
    if passes:
        assert verify(like_a_file, expected, lambda _: [wall]).finite_difference < 0.01
    else:
        with pytest.raises(ExportError, match="forces against -dE/dx"):
            verify(like_a_file, expected, lambda _: [wall])


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.1, False)])
def test_a_bend_where_features_vanish_by_symmetry_is_no_difference(factor, passes):
    """A norm of a vector that nearly vanishes, as in PaiNN, at a symmetric structure: it bends within 0.001 A."""

    def norm(made):
        first, second = (made.positions[i] - made.positions[0] for i in (1, 2))
        lengths = np.linalg.norm(first), np.linalg.norm(second)
        uneven = lengths[0] - lengths[1] - 5e-5
        length = np.sqrt(uneven**2 + 1e-8)
        forces = np.zeros((3, 3))
        forces[1], forces[2] = -5 * uneven / length * first / lengths[0], 5 * uneven / length * second / lengths[1]
        forces[0] = -forces[1] - forces[2]
        return Evaluation(5.0 * float(length), factor * forces, None)

    symmetric = frame("H2O", rattle=0.0)
    like_a_file = SimpleNamespace(info={"dtype": "float32"}, has_stress=True)
    expected = [Expected(symmetric, norm(symmetric), 0.0)]
    if passes:
        assert verify(like_a_file, expected, lambda _: [norm]).finite_difference < 0.01
    else:
        with pytest.raises(ExportError, match="forces against -dE/dx"):
            verify(like_a_file, expected, lambda _: [norm])
