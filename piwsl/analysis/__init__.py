"""What came out of a run: stability, structure, energy, each with an uncertainty and against a reference.

Plain arrays go in - positions (frames, atoms, 3) in angstrom, times in fs - and small frozen objects come out.
"""

from piwsl.md.analysis.compare_run import compare_run
from piwsl.md.analysis.comparison import Comparison
from piwsl.md.analysis.frames.frame_source import FrameSource
from piwsl.md.analysis.molecule.bond_statistics import compare_bonds
from piwsl.md.analysis.molecule.bonds import Bonds, bond_lengths, find_bonds
from piwsl.md.analysis.molecule.distances import distance_histogram
from piwsl.md.analysis.molecule.stability import Stability, stable_time
from piwsl.md.analysis.motion.energy import energy_drift, temperature_statistics
from piwsl.md.analysis.observables import Observable
from piwsl.md.analysis.reference import Reference, bundled_reference, read_reference
from piwsl.md.analysis.reference_statistics import ReferenceStatistics
from piwsl.md.analysis.run_directory import Run, read_run
from piwsl.md.analysis.statistics.autocorrelation import autocorrelation_time
from piwsl.md.analysis.statistics.distributions import DistributionComparison, compare
from piwsl.md.analysis.statistics.results import Difference, Distribution, Measurement
from piwsl.md.analysis.statistics.uncertainty import block_average
from piwsl.md.analysis.statistics_file import is_reference_statistics, read_reference_statistics, save_statistics
from piwsl.md.analysis.verdict import Verdict, judge

__all__ = [
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
