"""The report of an analysis: figures, one self-contained page, and the numbers as JSON."""

from piwsl.md.report.write import check_output, write_analysis

__all__ = ["check_output", "write_analysis"]
