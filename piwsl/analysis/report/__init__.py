"""The report of an analysis: figures, one self-contained page, and the numbers as JSON and CSV."""

from piwsl.analysis.report.write import check_output, json_text, write_analysis

__all__ = ["check_output", "json_text", "write_analysis"]
