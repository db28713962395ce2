import numpy as np
import pytest

from piwsl.analysis.statistics.results import Difference, Measurement, significant, with_uncertainty


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (1.09312, 0.00042, "1.0931 ± 0.0004"),
        (1.09312, 0.0134, "1.093 ± 0.013"),
        (486.3, 14.2, "486 ± 14"),
        (486.3, 37.0, "490 ± 40"),
        (-0.0007, 0.0004, "-0.0007 ± 0.0004"),
        (-0.00001, 0.0004, "0.0000 ± 0.0004"),
        (0.5, 0.0998, "0.50 ± 0.10"),
        (12.5, None, "12.5"),
        (500.0, 0.0, "500"),
        (float("nan"), 1.0, "not known"),
    ],
)
def test_digits(value, uncertainty, text):
    assert with_uncertainty(value, uncertainty) == text


def test_units():
    assert Measurement(1.0931, 0.0004, "angstrom", 9).text() == "1.0931 ± 0.0004 Å"
    assert Measurement(50_000.0, None, "fs", 1).text() == "50 ps"
    assert Measurement(450.0, None, "fs", 1).text() == "450 fs"
    assert Measurement(0.042, 0.008, "", 9).text() == "0.042 ± 0.008"


@pytest.mark.parametrize(("value", "text"), [(0.0623, "0.062"), (31.6, "32"), (0, "0"), (None, "not known")])
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
