"""Results of an analysis (numbers, differences, distributions) and their formatting."""

from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any

from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

# Units whose symbols differ from their names.
SYMBOLS = {
    "angstrom": "Å",
    "angstrom^3": "Å³",
    "angstrom^2/ps": "Å²/ps",
    "degree": "°",
}

# Multiple of the threshold. With too few samples, 2 in 100 parts of the bundled reference differ by more.
BEYOND_DOUBT = 3.0

NOTHING = 1e-10  # no unit of a result makes so small a number more than a rounding error
ROUNDING = 1e-7  # relative uncertainty below which a number is exact: positions are stored in single precision
SMALLEST_EXPONENT, LARGEST_EXPONENT = -4, 6  # numbers beyond these powers of ten are written with a power of ten


@dataclass(frozen=True)
class Measurement:
    """A number with its uncertainty.

    Attributes:
        value: Value in ``unit``.
        uncertainty: One standard error in ``unit``; None for fewer than two independent samples.
        unit: Unit such as ``angstrom``, ``fs`` or ``K``; empty for a dimensionless number.
        samples: Number of independent samples behind the value.
    """

    value: float
    uncertainty: float | None
    unit: str
    samples: int

    @property
    def symbol(self) -> str:
        """Symbol of the unit for display; long times are displayed in ps."""
        return "ps" if self._in_ps else SYMBOLS.get(self.unit, self.unit)

    @property
    def number(self) -> str:
        """Number and error as text in the unit of `symbol`, such as ``1.09312 ± 0.00042``."""
        scale = 1 / PICOSECOND if self._in_ps else 1.0
        return with_uncertainty(self.value * scale, None if self.uncertainty is None else self.uncertainty * scale)

    @property
    def _in_ps(self) -> bool:
        return self.unit == "fs" and abs(self.value) >= 0.1 * PICOSECOND

    def text(self) -> str:
        """Format number, error and unit as text, such as ``1.09312 ± 0.00042 Å``."""
        return f"{self.number} {self.symbol}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "value": plain(self.value),
            "uncertainty": plain(self.uncertainty),
            "unit": self.unit,
            "samples": self.samples,
        }


@dataclass(frozen=True)
class Difference:
    """Difference between a run and its reference, and the difference expected from noise alone.

    Attributes:
        measured: Difference (or distance) with its standard error.
        limit: Limit that noise alone exceeds in 5 of 100 cases; None if it cannot be estimated.
        floor: Difference between the first and the second half of the reference, scaled to the lengths of run and
            reference; None without two independent samples.
        decides: Whether there are enough samples for a verdict. With fewer samples, a run is reported as different only
            if the difference is three times the threshold, and is never reported as agreeing.
        judged: Whether a verdict is given at all.
    """

    measured: Measurement
    limit: float | None
    floor: float | None
    decides: bool = True
    judged: bool = True

    @property
    def threshold(self) -> float | None:
        """Larger of limit and floor. A run does not differ if the reference differs as much from itself."""
        return None if self.limit is None else max(self.limit, self.floor or 0.0)

    @property
    def agrees(self) -> bool | None:
        """Whether the difference is within the threshold; None if the data are insufficient."""
        if self.threshold is None or not self.judged:
            return None
        if self.decides:
            return abs(self.measured.value) <= self.threshold
        return False if abs(self.measured.value) > BEYOND_DOUBT * self.threshold else None

    def noise_text(self) -> str:
        """Return the noise limit as text."""
        if self.limit is None or self.agrees is None:
            return "too few samples for a verdict"
        return f"noise alone: up to {significant(self.threshold)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.measured.as_dict(),
            "noise_limit_95": plain(self.limit),
            "noise_floor": plain(self.floor),
            "threshold": plain(self.threshold),
            "within_noise": self.agrees,
        }


@dataclass(frozen=True, eq=False)
class Distribution:
    """A normalized histogram.

    Attributes:
        edges: Bin edges (bins + 1,) in ``unit``.
        density: Density (bins,) in 1/``unit``, with an integral of 1.
        error: Standard error (bins,) of the density, or None.
        unit: Unit of the edges.
        samples: Number of independent samples.
        beyond: Fraction of the values that lie outside the edges.
    """

    edges: FloatArray
    density: FloatArray
    error: FloatArray | None
    unit: str
    samples: int
    beyond: float

    @property
    def centers(self) -> FloatArray:
        """Centers (bins,) of the bins."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "unit": self.unit,
            "edges": [round(float(edge), 6) for edge in self.edges],
            "density": [round(float(value), 6) for value in self.density],
            "error": None if self.error is None else [round(float(value), 6) for value in self.error],
            "samples": self.samples,
            "beyond": float(self.beyond),
        }


def plain(value: float | None) -> float | None:
    """Return a float that JSON can represent; None for NaN and infinity."""
    return None if value is None or not isfinite(value) else float(value)


def with_uncertainty(value: float, uncertainty: float | None) -> str:
    """Format a number with the digits justified by its uncertainty, such as ``1.09312 ± 0.00042``.

    The uncertainty has two significant digits and the value the same decimals. Numbers below 0.0001 share a power of
    ten: ``(2.1 ± 9.2)×10⁻⁶``. An uncertainty at the precision of floating-point numbers is left out.
    """
    if not isfinite(value):
        return "not known"
    if uncertainty is None or not isfinite(uncertainty) or uncertainty <= max(ROUNDING * abs(value), NOTHING):
        return _without_uncertainty(value)
    exponent = floor(log10(max(abs(value), uncertainty)))
    if exponent < SMALLEST_EXPONENT:
        return f"({with_uncertainty(value / 10.0**exponent, uncertainty / 10.0**exponent)}){_power_of_ten(exponent)}"
    digits = 1 - floor(log10(uncertainty))
    if round(uncertainty, digits) >= 10.0 ** (2 - digits):  # 0.0998 becomes 0.10, not 0.100
        digits -= 1
    places = max(digits, 0)
    return f"{round(value, digits) + 0.0:.{places}f} ± {round(uncertainty, digits):.{places}f}"


def significant(value: float | None, digits: int = 2) -> str:
    """Format a number with ``digits`` significant digits, below 0.0001 with a power of ten: ``1.8×10⁻⁵``."""
    if value is None or not isfinite(value):
        return "not known"
    if abs(value) <= NOTHING:
        return "0"
    exponent = floor(log10(abs(value)))
    if exponent < SMALLEST_EXPONENT:
        return f"{value / 10.0**exponent:.{digits - 1}f}{_power_of_ten(exponent)}"
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def _without_uncertainty(value: float) -> str:
    """Return at most six significant digits, three of small and large numbers, without zeros at the end."""
    if abs(value) <= NOTHING:
        return "0"
    exponent = floor(log10(abs(value)))
    if SMALLEST_EXPONENT <= exponent < LARGEST_EXPONENT:
        return f"{value:.6g}"
    return f"{value / 10.0**exponent:.3g}{_power_of_ten(exponent)}"


def _power_of_ten(exponent: int) -> str:
    return "\N{MULTIPLICATION SIGN}10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
