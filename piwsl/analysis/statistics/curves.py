"""Curves (profiles, spectra, correlations, survival) and their comparison."""

from dataclasses import dataclass, field
from typing import Any

from piwsl.analysis.statistics.results import Difference, Distribution, Measurement, plain
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Axis:
    """Label of an axis.

    Attributes:
        name: Name of the quantity, such as ``Wavenumber``.
        unit: Unit such as ``1/cm``; empty for a dimensionless number.
    """

    name: str
    unit: str


@dataclass(frozen=True, eq=False)
class Curve:
    """A tabulated function.

    Attributes:
        x, y: Points and values (points,) in the units of the axes.
        low, high: Band (points,) of one standard error, or None.
        samples: Number of independent samples behind the curve.
    """

    x: FloatArray
    y: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    samples: int

    @classmethod
    def of(cls, distribution: Distribution) -> "Curve":
        """Return a distribution as a curve through the centers of its bins, with a band of one standard error."""
        low = high = None
        if distribution.error is not None:
            low, high = distribution.density - distribution.error, distribution.density + distribution.error
        return cls(distribution.centers, distribution.density, low, high, distribution.samples)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain_values: dict[str, Any] = {"samples": self.samples}
        for name, values in (("x", self.x), ("y", self.y), ("low", self.low), ("high", self.high)):
            plain_values[name] = None if values is None else [plain(float(f"{value:.6g}")) for value in values]
        return plain_values


@dataclass(frozen=True, eq=False)
class CurveComparison:
    """A curve of a run and, if available, of its reference.

    Attributes:
        key: Stable identifier, such as ``torsion.C-C-O-H``.
        name: Display name.
        horizontal, vertical: Labels of the axes.
        run: Curve of the run.
        reference: Curve of the reference, or None.
        difference: Difference between the curves with its noise limit, if defined.
        numbers: Numbers read from the curves of run and reference, such as peak positions, by name.
        is_steps: Whether the curve is a step function (survival).
        notes: Remarks for the figure caption, such as the window of a fit.
    """

    key: str
    name: str
    horizontal: Axis
    vertical: Axis
    run: Curve
    reference: Curve | None = None
    difference: Difference | None = None
    numbers: dict[str, tuple[Measurement | None, Measurement | None]] = field(default_factory=dict)
    is_steps: bool = False
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Part of the key before the first dot."""
        return self.key.partition(".")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "x": {"name": self.horizontal.name, "unit": self.horizontal.unit},
            "y": {"name": self.vertical.name, "unit": self.vertical.unit},
            "run": self.run.as_dict(),
            "reference": None if self.reference is None else self.reference.as_dict(),
            "difference": None if self.difference is None else self.difference.as_dict(),
            "numbers": {
                name: [None if value is None else value.as_dict() for value in pair]
                for name, pair in self.numbers.items()
            },
            "notes": list(self.notes),
        }
