"""The self-contained HTML report of a run."""

from pipeline.report.render import render_report
from pipeline.report.report_data import ReportData

__all__ = ["ReportData", "render_report"]
