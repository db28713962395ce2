"""Analysis of molecular dynamics: stability, structure and energy with uncertainties, compared with a reference.

`analyze` measures run directories. The functions behind it take plain arrays (positions (frames, atoms, 3) in angstrom,
times in fs) and return small frozen dataclasses.
"""

from piwsl.analysis.analysis_file import AnalysisRecord, ReplicasRecord, read_analysis
from piwsl.analysis.analyze import Analysis, analyze
from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.quantities.bond_lengths import compare_bonds
from piwsl.analysis.quantities.distances import distance_histogram
from piwsl.analysis.quantities.energy_drift import energy_drift
from piwsl.analysis.quantities.stability import Stability, stable_time
from piwsl.analysis.quantities.temperature import temperature_statistics
from piwsl.analysis.quantity import Collector, Frames, Observable, Panel, Quantity, QuantityComparison, Sample
from piwsl.analysis.reference import Reference, bundled_reference, read_reference
from piwsl.analysis.reference_statistics import (
    ReferenceStatistics,
    is_reference_statistics,
    read_reference_statistics,
    save_statistics,
)
from piwsl.analysis.run_directory import Run, read_run
from piwsl.analysis.scalar_quantity import ScalarQuantity
from piwsl.analysis.statistics.autocorrelation import autocorrelation_time
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison, compare
from piwsl.analysis.statistics.results import Difference, Distribution, Measurement
from piwsl.analysis.statistics.uncertainty import block_average
from piwsl.analysis.verdict import Verdict, judge
from piwsl.structures.bonds import Bonds, bond_lengths, find_bonds
from piwsl.trajectories.frame_source import FrameSource

__all__ = [
    "Analysis",
    "AnalysisRecord",
    "Axis",
    "Bonds",
    "Collector",
    "Comparison",
    "Curve",
    "CurveComparison",
    "Difference",
    "Distribution",
    "DistributionComparison",
    "FrameSource",
    "Frames",
    "Measurement",
    "Observable",
    "Panel",
    "Quantity",
    "QuantityComparison",
    "Reference",
    "ReferenceStatistics",
    "ReplicasRecord",
    "Run",
    "Sample",
    "ScalarQuantity",
    "Stability",
    "Verdict",
    "analyze",
    "autocorrelation_time",
    "block_average",
    "bond_lengths",
    "bundled_reference",
    "compare",
    "compare_bonds",
    "compare_run",
    "distance_histogram",
    "energy_drift",
    "find_bonds",
    "is_reference_statistics",
    "judge",
    "read_analysis",
    "read_reference",
    "read_reference_statistics",
    "read_run",
    "save_statistics",
    "stable_time",
    "temperature_statistics",
]
