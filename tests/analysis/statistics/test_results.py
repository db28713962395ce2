import numpy as np
import pytest

from piwsl.analysis.statistics.results import Difference, Measurement, significant, with_uncertainty


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (1.09312, 0.00042, "1.09312 ± 0.00042"),
        (1.09312, 0.0134, "1.093 ± 0.013"),
        (486.3, 14.2, "486 ± 14"),
        (486.3, 37.0, "486 ± 37"),
        (486.3, 142.0, "490 ± 140"),
        (-0.007, 0.004, "-0.0070 ± 0.0040"),
        (-0.0001, 0.04, "0.000 ± 0.040"),
        (0.5, 0.0998, "0.50 ± 0.10"),
        (0.5, 9.98, "0 ± 10"),
        (2.1e-6, 9.2e-6, "(2.1 ± 9.2)\N{MULTIPLICATION SIGN}10⁻⁶"),
        (-0.00021, 0.00004, "-0.000210 ± 0.000040"),
        (-0.000021, 0.000004, "(-2.10 ± 0.40)\N{MULTIPLICATION SIGN}10⁻⁵"),
        (-2.33143e-07, None, "-2.33\N{MULTIPLICATION SIGN}10⁻⁷"),
        (1234567.0, None, "1.23\N{MULTIPLICATION SIGN}10⁶"),
        (0.0, None, "0"),
        (0.0, 0.0, "0"),
        (2.0, 3e-12, "2"),
        (12.5, None, "12.5"),
        (500.0, 0.0, "500"),
        (float("nan"), 1.0, "not known"),
    ],
)
def test_digits(value, uncertainty, text):
    assert with_uncertainty(value, uncertainty) == text


def test_units():
    assert Measurement(1.0931, 0.0004, "angstrom", 9).text() == "1.09310 ± 0.00040 Å"
    assert Measurement(50_000.0, None, "fs", 1).text() == "50 ps"
    assert Measurement(450.0, None, "fs", 1).text() == "0.45 ps"
    assert Measurement(45.0, None, "fs", 1).text() == "45 fs"
    assert Measurement(0.042, 0.008, "", 9).text() == "0.0420 ± 0.0080"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0623, "0.062"),
        (31.6, "32"),
        (0, "0"),
        (None, "not known"),
        (1.84e-5, "1.8\N{MULTIPLICATION SIGN}10⁻⁵"),
        (3e-12, "0"),
    ],
)
def test_significant(value, text):
    assert significant(value) == text


def test_agreement():
    measured = Measurement(-0.3, 0.1, "K", 9)
    assert Difference(measured, 0.35, None).agrees is True
    assert Difference(measured, 0.25, None).agrees is False
    assert Difference(measured, 0.25, 0.31).agrees is True
    assert Difference(measured, None, 0.31).agrees is None


def test_json_has_no_nan():
    assert Measurement(np.inf, np.nan, "K", 1).as_dict() == {
        "value": None, "uncertainty": None, "unit": "K", "samples": 1
    }  # fmt: skip
