"""The self-contained HTML report of a run."""

from pipeline.report.data import ReportData
from pipeline.report.render import render_report

__all__ = ["ReportData", "render_report"]
