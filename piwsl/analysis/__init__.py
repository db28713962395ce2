"""What came out of a run: stability, structure, energy, each with an uncertainty and against a reference.

Plain arrays go in - positions (frames, atoms, 3) in angstrom, times in fs - and small frozen objects come out.
"""

from piwsl.analysis.analyze import Analysis, analyze
from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.observables import Observable
from piwsl.analysis.quantities.bond_lengths import compare_bonds
from piwsl.analysis.quantities.distances import distance_histogram
from piwsl.analysis.quantities.energy import energy_drift, temperature_statistics
from piwsl.analysis.quantities.stability import Stability, stable_time
from piwsl.analysis.reference import Reference, bundled_reference, read_reference
from piwsl.analysis.reference_statistics import ReferenceStatistics
from piwsl.analysis.run_directory import Run, read_run
from piwsl.analysis.statistics.autocorrelation import autocorrelation_time
from piwsl.analysis.statistics.distributions import DistributionComparison, compare
from piwsl.analysis.statistics.results import Difference, Distribution, Measurement
from piwsl.analysis.statistics.uncertainty import block_average
from piwsl.analysis.statistics_file import is_reference_statistics, read_reference_statistics, save_statistics
from piwsl.analysis.verdict import Verdict, judge
from piwsl.structures.bonds import Bonds, bond_lengths, find_bonds
from piwsl.trajectories.source import FrameSource

__all__ = [
    "Analysis",
    "Bonds",
    "Comparison",
    "Difference",
    "Distribution",
    "DistributionComparison",
    "FrameSource",
    "Measurement",
    "Observable",
    "Reference",
    "ReferenceStatistics",
    "Run",
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
    "read_reference",
    "read_reference_statistics",
    "read_run",
    "save_statistics",
    "stable_time",
    "temperature_statistics",
]
